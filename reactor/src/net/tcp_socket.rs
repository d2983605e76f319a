//! A TCP socket before it connects or listens.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fd::{AsFd, OwnedFd};

use super::context;
use super::socket::await_connection;
use super::sys::{self, tcp_socket};
use super::tcp::{TcpListener, TcpStream};
use crate::async_io::{Async, gives_descriptor};

/// A TCP socket that neither connects nor listens yet, for options that must be set before.
///
/// It sets the option that almost every listener needs. The `socket2` crate sets any other one, by
/// `SockRef::from(&socket)`. [`TcpListener::bind`] and [`TcpStream::connect`] suffice for sockets
/// without options.
///
/// # Examples
///
/// A client that connects from a chosen address:
///
/// ```
/// use windlass::{block_on, net::{TcpListener, TcpSocket}};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let socket = TcpSocket::new_v4()?;
///     // Any option: socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
///     socket.bind("127.0.0.1:0".parse().unwrap())?;
///     let source = socket.local_addr()?;
///     let stream = socket.connect(listener.local_addr()?).await?;
///     assert_eq!(stream.local_addr()?, source);
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    /// `None` only in `drop`, after the socket was taken out.
    socket: Option<OwnedFd>,
    /// Other code may have had the descriptor, and may have set a linger time.
    is_exposed: AtomicBool,
}

impl TcpSocket {
    /// Creates a socket for IPv4.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system, for example if no file descriptor is left.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(&SocketAddr::from(([0; 4], 0)))
    }

    /// Creates a socket for IPv6.
    ///
    /// # Errors
    ///
    /// As [`new_v4`](TcpSocket::new_v4), and if the system has no IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(&SocketAddr::from(([0; 16], 0)))
    }

    fn new(addr: &SocketAddr) -> io::Result<TcpSocket> {
        Ok(TcpSocket {
            socket: Some(tcp_socket(addr)?),
            is_exposed: AtomicBool::new(false),
        })
    }

    /// Sets whether [`bind`](TcpSocket::bind) takes a port that connections in `TIME_WAIT` still
    /// have (`SO_REUSEADDR`). On Windows it has no effect, because there the option would take the
    /// port of a running program.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_reuse_address(&self, reuse: bool) -> io::Result<()> {
        sys::set_reuse_addr(self.socket(), reuse)
    }

    /// Gives the socket its own address. Port 0 lets the system choose a port.
    ///
    /// # Errors
    ///
    /// Fails if the port is in use or not permitted. The error names the address.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        sys::bind(self.socket(), &addr).map_err(|error| context("can't bind to", addr, error))
    }

    /// Returns the address of this socket.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::local_addr(self.socket())
    }

    /// Connects to an address.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be reached. The error names it. Only the system limits the time,
    /// to some minutes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt and closes the socket.
    pub async fn connect(mut self, addr: SocketAddr) -> io::Result<TcpStream> {
        let connected = match sys::connect(self.socket(), &addr) {
            Ok(in_progress) => await_connection(self.take()?, in_progress).await,
            Err(error) => Err(error),
        };
        let connected = connected.map_err(|error| context("can't connect to", addr, error))?;
        Ok(TcpStream::new(connected))
    }

    /// Listens for connections. `backlog` is how many of them may wait to be accepted. The system
    /// may allow fewer.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system. Most systems choose an address if there was no
    /// [`bind`](TcpSocket::bind).
    pub fn listen(mut self, backlog: u32) -> io::Result<TcpListener> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        sys::listen(self.socket(), backlog)?;
        Ok(TcpListener::new(self.take()?))
    }

    fn socket(&self) -> &OwnedFd {
        self.socket
            .as_ref()
            .expect("the socket is present until drop")
    }

    fn expose(&self) -> &OwnedFd {
        self.is_exposed.store(true, Relaxed);
        self.socket()
    }

    /// Takes the socket out.
    fn take<T: AsFd + From<OwnedFd>>(&mut self) -> io::Result<Async<T>> {
        let socket = self.socket.take();
        let socket = socket.expect("the socket is present until drop").into();
        if *self.is_exposed.get_mut() {
            let io = Async::new_nonblocking(socket)?;
            io.expose();
            return Ok(io);
        }
        Async::new_nonlingering(socket)
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            sys::close(socket);
        }
    }
}

gives_descriptor!([] TcpSocket, expose());
