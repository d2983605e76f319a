//! A substitute for the operating system: a clock, a poller, sockets and host names.
//!
//! A [`System`] answers the calls that the reactor makes, for example in a simulation. On Linux, a
//! `host::Host` runs on it. That has a reactor of its own, which is the reactor of the thread while
//! the host is entered. Sources, readiness, budgets, timers and sockets are the same code as on the
//! real system.
//!
//! A simulated socket has a placeholder as its descriptor, on which each call of the real system
//! fails with `EBADF`. So other uses of the descriptor fail, too, such as options that are set
//! through `AsFd`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};

use rustix::fd::{OwnedFd, RawFd};

/// The address of a simulated socket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// An internet address.
    Ip(SocketAddr),
    /// The path of a Unix socket. It is empty if the socket has none, and begins with a zero byte
    /// if it is an abstract name.
    Unix(Vec<u8>),
}

/// The family of a simulated socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Unix sockets.
    Unix,
}

/// The kind of a simulated socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A byte stream, or its listener.
    Stream,
    /// Datagrams.
    Datagram,
}

/// An option of a simulated socket. Its value is a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SocketOption {
    /// `TCP_NODELAY`, zero or one.
    NoDelay,
    /// `IP_TTL`.
    Ttl,
    /// `SO_LINGER` in seconds, or −1 if it is off.
    Linger,
    /// `SO_KEEPALIVE`, zero or one.
    KeepAlive,
    /// `SO_BROADCAST`, zero or one.
    Broadcast,
    /// `SO_REUSEADDR`, zero or one.
    ReuseAddress,
}

/// The readiness of a simulated socket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Readiness {
    /// A read does not wait.
    pub readable: bool,
    /// A write does not wait.
    pub writable: bool,
    /// The peer has shut down its writing half.
    pub read_closed: bool,
    /// Both directions are closed, or the connection has failed.
    pub hung_up: bool,
    /// The socket has an error.
    pub error: bool,
    /// There is urgent data.
    pub priority: bool,
}

/// An event of a registered socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The key of the registration.
    pub key: u64,
    /// The state of the socket.
    pub readiness: Readiness,
}

/// What a simulated socket received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// How many bytes are in the buffers.
    pub bytes: usize,
    /// The sender of a datagram.
    pub from: Option<Address>,
}

/// Answers the calls of the reactor. Descriptors are the placeholders that its methods returned.
/// No method blocks. Errors have the numbers of the system (`io::Error::from_raw_os_error`).
#[allow(clippy::missing_errors_doc)] // the errors are those of the calls of the same names
pub trait System {
    /// Returns the time since the start of the world (ns).
    fn now(&self) -> u64;

    /// Watches a socket, edge-triggered. The present state causes an event.
    fn register(&self, fd: RawFd, key: u64, writable: bool, exclusive: bool) -> io::Result<()>;

    /// Watches a registered socket for writing as well. The present state causes an event.
    fn watch_writing(&self, fd: RawFd, key: u64) -> io::Result<()>;

    /// Stops watching a socket.
    fn deregister(&self, fd: RawFd) -> io::Result<()>;

    /// Appends the events since the last call.
    fn take_events(&self, events: &mut Vec<Event>);

    /// Creates a socket.
    fn socket(&self, family: Family, kind: Kind) -> io::Result<OwnedFd>;

    /// Creates two connected Unix sockets.
    fn pair(&self, kind: Kind) -> io::Result<(OwnedFd, OwnedFd)>;

    /// Gives a socket its address.
    fn bind(&self, fd: RawFd, addr: &Address) -> io::Result<()>;

    /// Turns a socket into a listener.
    fn listen(&self, fd: RawFd, backlog: usize) -> io::Result<()>;

    /// Connects a socket. Returns true if the connection is in progress.
    fn connect(&self, fd: RawFd, addr: &Address) -> io::Result<bool>;

    /// Accepts a connection.
    fn accept(&self, fd: RawFd) -> io::Result<(OwnedFd, Address)>;

    /// Sends bytes or a datagram.
    fn send(&self, fd: RawFd, bufs: &[IoSlice<'_>], to: Option<&Address>) -> io::Result<usize>;

    /// Receives bytes or a datagram. They stay in the queue if `peek` is true.
    fn receive(&self, fd: RawFd, bufs: &mut [IoSliceMut<'_>], peek: bool) -> io::Result<Received>;

    /// Shuts down one direction of a connection, or both.
    fn shutdown(&self, fd: RawFd, how: Shutdown) -> io::Result<()>;

    /// Closes a socket. The reactor then closes the descriptor.
    fn close(&self, fd: RawFd);

    /// Returns the address of a socket.
    fn local_addr(&self, fd: RawFd) -> io::Result<Address>;

    /// Returns the address of the peer.
    fn peer_addr(&self, fd: RawFd) -> io::Result<Address>;

    /// Returns the pending error of a socket (`SO_ERROR`) and clears it.
    fn take_error(&self, fd: RawFd) -> io::Result<Option<io::Error>>;

    /// Returns an option of a socket.
    fn option(&self, fd: RawFd, option: SocketOption) -> io::Result<i64>;

    /// Sets an option of a socket.
    fn set_option(&self, fd: RawFd, option: SocketOption, value: i64) -> io::Result<()>;

    /// Returns the readiness of a socket, as poll(2) does.
    fn readiness(&self, fd: RawFd) -> io::Result<Readiness>;

    /// Finds the addresses of a host name.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}
