//! A socket.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use super::address::{Family, HostId, Kind, UnixName};
use super::connection::{Connection, Phase};
use super::host::FIRST_PORT;
use super::readiness::{Readiness, Registration};
use super::slab::Key;

/// A socket of any host. It stays unique after the socket is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SocketId(pub(super) Key);

impl SocketId {
    pub(super) fn slot(self) -> u32 {
        self.0.slot
    }
}

/// The options of a socket. An accepted connection takes them from its listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// Has no effect, because small segments never wait for an acknowledgement.
    pub(crate) nodelay: bool,
    /// Has no effect.
    pub(crate) ttl: u32,
    /// Zero makes `close` reset the connection. Other values have no effect.
    pub(crate) linger: Option<Duration>,
    pub(crate) keepalive: bool,
    pub(crate) broadcast: bool,
    pub(crate) reuse_address: bool,
    pub(crate) only_v6: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            nodelay: false,
            ttl: 64,
            linger: None,
            keepalive: false,
            broadcast: false,
            reuse_address: false,
            only_v6: false,
        }
    }
}

/// The memory that the system needs for a datagram beside its bytes.
pub(super) const OVERHEAD: usize = 768;

/// The size of the buffers of new sockets in bytes (`net.core.wmem_default`).
pub(super) const BUFFER: usize = 212_992;

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) host: HostId,
    pub(super) family: Family,
    pub(super) kind: Kind,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) port: PortUse,
    /// `SO_ERROR`.
    pub(super) error: Option<Errno>,
    pub(super) options: Options,
    pub(super) registration: Option<Registration>,
    /// The sizes of the send buffer and of the receive buffer.
    pub(super) buffers: (usize, usize),
    /// The program has no descriptor of it.
    pub(super) is_hidden: bool,
    /// The program has closed it.
    pub(super) is_orphan: bool,
    pub(super) protocol: Protocol,
}

/// How a socket has its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortUse {
    Nothing,
    Bound,
    /// Shares it with its listener.
    Accepted,
}

#[derive(Debug)]
pub(super) enum Protocol {
    /// A TCP socket that neither listens nor was ever connected.
    TcpIdle,
    TcpListener(Listener),
    Tcp(Box<Connection>),
    Udp(Udp),
    UnixStream(UnixStream),
    UnixDatagram(UnixDatagram),
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) backlog: usize,
    /// Established connections.
    pub(super) queue: VecDeque<u32>,
    /// Connections in the handshake.
    pub(super) handshakes: Vec<u32>,
}

#[derive(Default, Debug)]
pub(super) struct Udp {
    pub(super) queue: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The memory that the queue takes.
    pub(super) queued: usize,
    pub(super) read_closed: bool,
    pub(super) write_closed: bool,
    /// When the last datagram arrives at each host.
    pub(super) flows: BTreeMap<HostId, u64>,
}

#[derive(Default, Debug)]
pub(super) struct UnixStream {
    pub(super) name: UnixName,
    pub(super) peer_name: UnixName,
    pub(super) listener: Option<UnixListener>,
    pub(super) is_connected: bool,
    /// The other end, until it is closed.
    pub(super) peer: Option<u32>,
    pub(super) received: VecDeque<u8>,
    pub(super) read_closed: bool,
    pub(super) write_closed: bool,
}

#[derive(Debug)]
pub(super) struct UnixListener {
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<u32>,
}

#[derive(Default, Debug)]
pub(super) struct UnixDatagram {
    pub(super) name: UnixName,
    pub(super) peer_name: UnixName,
    pub(super) peer: Option<Key>,
    pub(super) queue: VecDeque<UnixMessage>,
    /// The memory that the datagrams of this socket take in other queues.
    pub(super) charged: usize,
    /// Connected senders that wait for a shorter queue.
    pub(super) waiting: Vec<Key>,
    pub(super) read_closed: bool,
    pub(super) write_closed: bool,
}

#[derive(Debug)]
pub(super) struct UnixMessage {
    pub(super) sender: Key,
    pub(super) sender_name: UnixName,
    pub(super) data: Vec<u8>,
}

impl Socket {
    pub(super) fn listens(&self) -> bool {
        match &self.protocol {
            Protocol::TcpListener(_) => true,
            Protocol::UnixStream(stream) => stream.listener.is_some(),
            Protocol::Udp(_) => self.local.is_some_and(|addr| addr.port() < FIRST_PORT),
            Protocol::UnixDatagram(datagram) => datagram.name != UnixName::Unnamed,
            Protocol::TcpIdle | Protocol::Tcp(_) => false,
        }
    }

    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.protocol {
            Protocol::Tcp(connection) => Some(connection),
            _ => None,
        }
    }

    pub(super) fn unix_stream(&mut self) -> Option<&mut UnixStream> {
        match &mut self.protocol {
            Protocol::UnixStream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn unix_datagram(&mut self) -> Option<&mut UnixDatagram> {
        match &mut self.protocol {
            Protocol::UnixDatagram(datagram) => Some(datagram),
            _ => None,
        }
    }

    pub(super) fn udp(&mut self) -> Option<&mut Udp> {
        match &mut self.protocol {
            Protocol::Udp(udp) => Some(udp),
            _ => None,
        }
    }

    /// Takes the pending error.
    pub(super) fn check_error(&mut self) -> Result<(), Errno> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// The state as poll(2) returns it. `unix_writable` is whether a Unix socket can be written to,
    /// which depends on its peer.
    pub(super) fn readiness(&self, unix_writable: bool) -> Readiness {
        let readiness = match &self.protocol {
            Protocol::TcpIdle => Readiness::new(false, true, false, true),
            Protocol::TcpListener(listener) => {
                Readiness::new(!listener.queue.is_empty(), false, false, false)
            }
            Protocol::Tcp(connection) => {
                let is_connecting = matches!(connection.phase, Phase::SynSent | Phase::SynReceived);
                let (read, write) = (connection.read_closed, connection.write_closed);
                let closed = read && write || connection.phase == Phase::Closed;
                let input = connection.unread() > 0;
                let output = !is_connecting && connection.is_writable();
                Readiness::new(input && !is_connecting, output, read, closed)
            }
            Protocol::Udp(udp) => {
                let (read, write) = (udp.read_closed, udp.write_closed);
                Readiness::new(!udp.queue.is_empty(), true, read, read && write)
            }
            Protocol::UnixStream(stream) => match &stream.listener {
                Some(listener) => Readiness::new(!listener.queue.is_empty(), false, false, false),
                None => {
                    let (read, write) = (stream.read_closed, stream.write_closed);
                    let closed = read && write || !stream.is_connected;
                    Readiness::new(!stream.received.is_empty(), unix_writable, read, closed)
                }
            },
            Protocol::UnixDatagram(datagram) => {
                let (read, write) = (datagram.read_closed, datagram.write_closed);
                let input = !datagram.queue.is_empty();
                Readiness::new(input, unix_writable, read, read && write)
            }
        };
        readiness.with_error(self.error.is_some())
    }
}
