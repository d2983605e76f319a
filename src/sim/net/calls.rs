//! The socket calls of programs.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};

use rustix::io::Errno;

use super::address::{Address, Family, HostId, Kind, UnixName, shown, unspecified};
use super::binding::{canonical, datagram_peer};
use super::connection::Phase;
use super::host::Host;
use super::network::Network;
use super::readiness::Edge;
use super::socket::{Options, PortUse, Protocol, Socket, SocketId, Udp, UnixDatagram, UnixStream};
use crate::sim::choices::Site;

impl Network {
    /// Creates a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EMFILE` if the host has too many sockets.
    pub(crate) fn socket(
        &mut self,
        host: HostId,
        family: Family,
        kind: Kind,
    ) -> io::Result<SocketId> {
        self.check_descriptors(host, 1)?;
        self.hosts[usize::from(host.0)].open += 1;
        let slot = self.insert(host, family, kind);
        Ok(self.id(slot))
    }

    /// Creates two Unix sockets that are connected with each other.
    ///
    /// # Errors
    ///
    /// Fails with `EMFILE` if the host has too many sockets.
    pub(crate) fn pair(&mut self, host: HostId, kind: Kind) -> io::Result<(SocketId, SocketId)> {
        self.check_descriptors(host, 2)?;
        self.hosts[usize::from(host.0)].open += 2;
        let first = self.insert(host, Family::Unix, kind);
        let second = self.insert(host, Family::Unix, kind);
        self.join_unix(first, second);
        Ok((self.id(first), self.id(second)))
    }

    pub(super) fn check_descriptors(&self, host: HostId, count: usize) -> Result<(), Errno> {
        let Host { open, limit, .. } = self.hosts[usize::from(host.0)];
        if open + count > limit {
            return Err(Errno::MFILE);
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, host: HostId, family: Family, kind: Kind) -> u32 {
        // The smallest buffers have 2^-7 of the size. A datagram must fit in as a whole.
        let (rate, choices) = (self.wire.faults.small_buffers, &self.wire.choices);
        let smaller = match kind {
            Kind::Stream => rate.amount(choices, host.0, Site::Buffer, 8),
            Kind::Datagram => 0,
        };
        let (send, receive) = self.buffers;
        self.sockets.insert(Socket {
            host,
            family,
            kind,
            local: None,
            remote: None,
            port: PortUse::Nothing,
            error: None,
            options: Options::default(),
            registration: None,
            buffers: ((send >> smaller).max(1), (receive >> smaller).max(1)),
            is_hidden: false,
            is_orphan: false,
            protocol: match (family, kind) {
                (Family::Unix, Kind::Stream) => Protocol::UnixStream(UnixStream::default()),
                (Family::Unix, Kind::Datagram) => Protocol::UnixDatagram(UnixDatagram::default()),
                (_, Kind::Stream) => Protocol::TcpIdle,
                (_, Kind::Datagram) => Protocol::Udp(Udp::default()),
            },
        })
    }

    /// Returns the name of the socket in a slot.
    fn id(&self, slot: u32) -> SocketId {
        SocketId(self.sockets.key(slot))
    }

    pub(super) fn open(&self, id: SocketId) -> Result<&Socket, Errno> {
        if !self.sockets.contains(id.0) {
            return Err(Errno::BADF);
        }
        let socket = self.sockets.get(id.slot());
        socket.filter(|socket| !socket.is_hidden).ok_or(Errno::BADF)
    }

    pub(super) fn open_mut(&mut self, id: SocketId) -> Result<&mut Socket, Errno> {
        if !self.sockets.contains(id.0) {
            return Err(Errno::BADF);
        }
        let socket = self.sockets.get_mut(id.slot());
        socket.filter(|socket| !socket.is_hidden).ok_or(Errno::BADF)
    }

    /// Removes a socket, and sends nothing.
    pub(super) fn remove(&mut self, slot: u32) {
        self.leave_unix(slot);
        let key = self.sockets.key(slot);
        let Some(mut socket) = self.sockets.remove(slot) else {
            return;
        };
        let host = &mut self.hosts[usize::from(socket.host.0)];
        if let Some(peer) = socket.connection().and_then(|connection| connection.peer) {
            if self.answering.get(&peer) == Some(&slot) {
                self.answering.remove(&peer);
            }
        }
        if let Some(local) = socket.local {
            let ports = match socket.kind {
                Kind::Stream => &mut host.tcp,
                Kind::Datagram => &mut host.udp,
            };
            match socket.port {
                PortUse::Nothing => {}
                PortUse::Bound => ports.unbind(local.port(), slot),
                PortUse::Accepted => ports.remove_accepted(local.port()),
            }
        }
        for name in host.paths.values_mut().filter(|name| **name == Some(key)) {
            *name = None;
        }
        host.abstract_names.retain(|_, socket| *socket != key);
    }

    /// Closes a socket. A connection sends the rest of its bytes and `FIN`. If bytes were not read
    /// or the socket lingers for no time, it sends a reset.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn close(&mut self, id: SocketId) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        socket.is_hidden = true;
        socket.is_orphan = true;
        socket.registration = None;
        let host = socket.host;
        self.hosts[usize::from(host.0)].open -= 1;
        if let Some(socket) = self.sockets.get(id.slot()) {
            match socket.protocol {
                Protocol::TcpListener(_) => {
                    self.stop_listening(id.slot());
                    self.remove(id.slot());
                }
                Protocol::Tcp(_) => self.close_connection(id.slot()),
                _ => self.remove(id.slot()),
            }
        }
        Ok(())
    }

    /// Binds a socket to an address. Port 0 stands for a free port.
    ///
    /// # Errors
    ///
    /// Fails with `EINVAL` if the socket is bound, with `EADDRINUSE`, or with `EADDRNOTAVAIL` if
    /// the host does not have the address.
    pub(crate) fn bind(&mut self, id: SocketId, addr: &Address) -> io::Result<()> {
        let socket = self.open(id)?;
        match addr {
            Address::Unix(name) if socket.family == Family::Unix => {
                Ok(self.bind_unix(id.slot(), name)?)
            }
            Address::Inet(addr) if socket.family != Family::Unix => {
                let addr = canonical(socket, *addr)?;
                Ok(self.bind_inet(id.slot(), addr)?)
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Starts to accept connections.
    ///
    /// # Errors
    ///
    /// Fails with `EADDRINUSE` if another socket listens on the address, and with `EINVAL` if the
    /// socket is connected.
    pub(crate) fn listen(&mut self, id: SocketId, backlog: usize) -> io::Result<()> {
        const MOST: usize = 4096; // somaxconn
        let backlog = backlog.min(MOST);
        let listens = match &self.open(id)?.protocol {
            Protocol::UnixStream(_) => self.listen_unix(id.slot(), backlog),
            Protocol::UnixDatagram(_) | Protocol::Udp(_) => Err(Errno::OPNOTSUPP),
            _ => self.listen_tcp(id.slot(), backlog),
        };
        Ok(listens?)
    }

    /// Connects a socket. Returns true if that is in progress. A later event reports the end, and
    /// [`take_error`](Self::take_error) the outcome.
    ///
    /// # Errors
    ///
    /// Fails with `EISCONN`, `EALREADY`, `ENETUNREACH`, and the outcome of an attempt before. A
    /// Unix socket fails with `ENOENT`, `ECONNREFUSED`, `EPROTOTYPE`, or with `EAGAIN` if the
    /// backlog is full.
    pub(crate) fn connect(&mut self, id: SocketId, addr: &Address) -> io::Result<bool> {
        let socket = self.open(id)?;
        match (addr, &socket.protocol) {
            (Address::Unix(name), Protocol::UnixStream(_)) => {
                self.connect_unix_stream(id.slot(), name)?;
                Ok(false)
            }
            (Address::Unix(name), Protocol::UnixDatagram(_)) => {
                self.connect_unix_datagram(id.slot(), name)?;
                Ok(false)
            }
            (Address::Inet(addr), Protocol::Udp(_)) => {
                let addr = datagram_peer(socket, *addr, Errno::AFNOSUPPORT)?;
                self.connect_udp(id.slot(), addr)?;
                Ok(false)
            }
            (Address::Inet(addr), _) if socket.family != Family::Unix => {
                let addr = canonical(socket, *addr)?;
                Ok(self.connect_tcp(id.slot(), addr)?)
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Accepts a connection, with the address of its peer.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is none, with `EMFILE`, `EINVAL` if the socket does not listen,
    /// and `EINTR` by choice.
    pub(crate) fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, Option<Address>)> {
        let socket = self.open(id)?;
        let host = socket.host;
        let is_unix = match &socket.protocol {
            Protocol::TcpListener(_) => false,
            Protocol::UnixStream(stream) if stream.listener.is_some() => true,
            Protocol::Udp(_) | Protocol::UnixDatagram(_) => return Err(Errno::OPNOTSUPP.into()),
            _ => return Err(Errno::INVAL.into()),
        };
        self.check_interrupt(host)?;
        self.check_descriptors(host, 1)?;
        let accepted = match is_unix {
            true => self.accept_unix(id.slot()),
            false => self.accept_tcp(id.slot()),
        };
        let (slot, addr) = match accepted {
            Some(accepted) => accepted,
            None => return Err(self.would_block(id.slot(), Edge::Read).into()),
        };
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.is_hidden = false;
        }
        self.hosts[usize::from(host.0)].open += 1;
        Ok((self.id(slot), Some(addr)))
    }

    fn check_interrupt(&self, host: HostId) -> Result<(), Errno> {
        let rate = self.wire.faults.interrupt;
        if rate.happens(&self.wire.choices, host.0, Site::Interrupt) {
            return Err(Errno::INTR);
        }
        Ok(())
    }

    /// Decides how many of `len` bytes a stream transfers, at least one.
    pub(super) fn shorten(&self, host: HostId, len: usize) -> usize {
        const LEVELS: u32 = 32;
        if len < 2 {
            return len;
        }
        let rate = self.wire.faults.short_transfer;
        let level = rate.amount(&self.wire.choices, host.0, Site::Transfer, LEVELS);
        match level {
            0 => len,
            1 => len - 1,
            2 => 1,
            level => (len * (LEVELS - level) as usize / LEVELS as usize).max(1),
        }
    }

    /// Sends bytes or a datagram.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is no room, with the pending error, `EPIPE`, `ENOTCONN`,
    /// `EMSGSIZE`, `EDESTADDRREQ`, the errors of [`connect`](Self::connect), and `EINTR` by choice.
    pub(crate) fn send(
        &mut self,
        id: SocketId,
        bufs: &[IoSlice<'_>],
        to: Option<&Address>,
    ) -> io::Result<usize> {
        let socket = self.open(id)?;
        self.check_interrupt(socket.host)?;
        Ok(match (&socket.protocol, to) {
            (Protocol::UnixStream(_), _) => self.send_unix_stream(id.slot(), bufs)?,
            (Protocol::UnixDatagram(_), None) => self.send_unix_datagram(id.slot(), bufs, None)?,
            (Protocol::UnixDatagram(_), Some(Address::Unix(name))) => {
                self.send_unix_datagram(id.slot(), bufs, Some(name))?
            }
            (Protocol::Udp(_), None) => self.send_udp(id.slot(), bufs, None)?,
            (Protocol::Udp(_), Some(Address::Inet(to))) => {
                let to = datagram_peer(socket, *to, Errno::NETUNREACH)?;
                self.send_udp(id.slot(), bufs, Some(to))?
            }
            (Protocol::UnixDatagram(_) | Protocol::Udp(_), Some(_)) => {
                return Err(Errno::INVAL.into());
            }
            _ => self.send_tcp(id.slot(), bufs)?,
        })
    }

    /// Receives bytes or a datagram. Returns the length, the sender of a datagram, and whether a
    /// datagram was longer than the buffers. With `peek`, the bytes stay in the queue.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is nothing, with the pending error, `ENOTCONN`, `EINVAL`, and
    /// `EINTR` by choice.
    pub(crate) fn receive(
        &mut self,
        id: SocketId,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> io::Result<(usize, Option<Address>, bool)> {
        let socket = self.open(id)?;
        self.check_interrupt(socket.host)?;
        Ok(match &socket.protocol {
            Protocol::UnixStream(_) => (
                self.receive_unix_stream(id.slot(), bufs, peek)?,
                None,
                false,
            ),
            Protocol::UnixDatagram(_) => self.receive_unix_datagram(id.slot(), bufs, peek)?,
            Protocol::Udp(_) => self.receive_udp(id.slot(), bufs, peek)?,
            _ => (self.receive_tcp(id.slot(), bufs, peek)?, None, false),
        })
    }

    /// Shuts down one direction, or both.
    ///
    /// # Errors
    ///
    /// Fails with `ENOTCONN` unless the socket is connected. A Unix socket succeeds always.
    pub(crate) fn shutdown(&mut self, id: SocketId, how: Shutdown) -> io::Result<()> {
        let read = how != Shutdown::Write;
        let write = how != Shutdown::Read;
        let is_shut = match &self.open(id)?.protocol {
            Protocol::UnixStream(_) | Protocol::UnixDatagram(_) => {
                self.shutdown_unix(id.slot(), read, write);
                Ok(())
            }
            Protocol::Udp(_) => self.shutdown_udp(id.slot(), read, write),
            _ => self.shutdown_tcp(id.slot(), read, write),
        };
        Ok(is_shut?)
    }

    /// Returns the address of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn local_addr(&self, id: SocketId) -> io::Result<Address> {
        let socket = self.open(id)?;
        Ok(match &socket.protocol {
            Protocol::UnixStream(stream) => Address::Unix(stream.name.clone()),
            Protocol::UnixDatagram(datagram) => Address::Unix(datagram.name.clone()),
            _ => {
                let none = SocketAddr::new(unspecified(socket.family), 0);
                shown(socket.local.unwrap_or(none), socket.family)
            }
        })
    }

    /// Returns the address of the peer.
    ///
    /// # Errors
    ///
    /// Fails with `ENOTCONN` unless the socket is connected.
    pub(crate) fn peer_addr(&self, id: SocketId) -> io::Result<Address> {
        let socket = self.open(id)?;
        let unix =
            |is_connected: bool, name: &UnixName| is_connected.then(|| Address::Unix(name.clone()));
        let addr = match &socket.protocol {
            Protocol::UnixStream(stream) => unix(stream.is_connected, &stream.peer_name),
            Protocol::UnixDatagram(datagram) => unix(datagram.peer.is_some(), &datagram.peer_name),
            Protocol::Tcp(connection) if connection.phase != Phase::Established => None,
            _ => socket
                .remote
                .filter(|remote| remote.port() != 0)
                .map(|remote| shown(remote, socket.family)),
        };
        Ok(addr.ok_or(Errno::NOTCONN)?)
    }

    /// Takes the pending error (`SO_ERROR`).
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn take_error(&mut self, id: SocketId) -> io::Result<Option<io::Error>> {
        Ok(self.open_mut(id)?.error.take().map(io::Error::from))
    }

    /// Returns the options of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn options(&self, id: SocketId) -> io::Result<&Options> {
        Ok(&self.open(id)?.options)
    }

    /// Sets the options of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn set_options(&mut self, id: SocketId, options: Options) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        let keepalive = options.keepalive;
        socket.options = options;
        if let Some(connection) = socket.connection() {
            connection.keepalive = keepalive;
            self.update_timer(id.slot());
        }
        Ok(())
    }
}
