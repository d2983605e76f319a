//! A connection of the load, with its requests in flight.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind::WouldBlock, Read, Write},
    net::{TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};

pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
}

pub(crate) struct Peer {
    socket: Socket,
    size: usize,
    /// Numbers the requests.
    next: u8,
    /// When each of the requests in flight was sent.
    in_flight: VecDeque<Instant>,
    /// The next expected reply, and how many of its bytes have arrived.
    expected: u8,
    received: usize,
    unsent: VecDeque<u8>,
}

impl Peer {
    pub(crate) fn connect(proto: &str, address: &str, size: usize) -> Result<Peer> {
        let socket = match proto {
            "unix" => Socket::Unix(UnixStream::connect(address)?),
            "udp" => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(address)?;
                Socket::Udp(socket)
            }
            _ => {
                let stream = TcpStream::connect(address).context("connect")?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
        };
        Ok(Peer {
            socket,
            size,
            next: 0,
            in_flight: VecDeque::new(),
            expected: 0,
            received: 0,
            unsent: VecDeque::new(),
        })
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => socket.set_nonblocking(true),
            Socket::Unix(socket) => socket.set_nonblocking(true),
            Socket::Udp(socket) => socket.set_nonblocking(true),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }

    /// One request and its reply.
    pub(crate) fn exchange_blocking(&mut self) -> Result<()> {
        self.request(Instant::now());
        self.flush()?;
        let mut buffer = vec![0; self.size];
        while !self.in_flight.is_empty() {
            let n = self.read(&mut buffer).context("reply")?;
            self.check(&buffer[..n], |_, _| {})?;
        }
        Ok(())
    }

    /// All bytes of a request are its number.
    pub(crate) fn request(&mut self, now: Instant) {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.unsent.extend(std::iter::repeat_n(number, self.size));
        self.in_flight.push_back(now);
    }

    /// Sends as much as the socket takes.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            let (mut part, _) = self.unsent.as_slices();
            if let Socket::Udp(_) = self.socket {
                part = &part[..self.size.min(part.len())];
            }
            let sent = match &mut self.socket {
                Socket::Tcp(socket) => socket.write(part),
                Socket::Unix(socket) => socket.write(part),
                Socket::Udp(socket) => socket.send(part),
            };
            match sent {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) => return Err(error).context("request"),
            }
        }
        Ok(())
    }

    /// Reads the available bytes. Calls `done` for each complete reply.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut done: impl FnMut(&mut Peer, Instant),
    ) -> Result<()> {
        loop {
            match self.read(buffer) {
                Ok(n) => {
                    ensure!(n > 0, "the server has closed a connection");
                    self.check(&buffer[..n], &mut done)?;
                    if n < buffer.len() && !matches!(self.socket, Socket::Udp(_)) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reply"),
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
            Socket::Udp(socket) => socket.recv(buffer),
        }
    }

    fn check(&mut self, mut bytes: &[u8], mut done: impl FnMut(&mut Peer, Instant)) -> Result<()> {
        while !bytes.is_empty() {
            let (reply, rest) = bytes.split_at(bytes.len().min(self.size - self.received));
            let ends = [reply[0], reply[reply.len() - 1]];
            ensure!(ends == [self.expected; 2], "a wrong reply");
            self.received += reply.len();
            bytes = rest;
            if self.received == self.size {
                self.received = 0;
                self.expected = self.expected.wrapping_add(1);
                let sent = self.in_flight.pop_front().context("a reply too many")?;
                done(self, sent);
            }
        }
        Ok(())
    }
}
