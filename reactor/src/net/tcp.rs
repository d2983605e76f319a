//! TCP: a listener and streams.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::fd::OwnedFd;

use super::accept::{Accepting, Acceptor, listener};
use super::race::race;
use super::socket::{connect_to, socket};
use super::stream::stream;
use super::sys::{self, SocketAddrAny, SocketType, socket_for};
use super::{ToAddrs, context, each_addr, lookup_host};
use crate::async_io::Async;

/// A TCP socket that accepts connections.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass::{block_on, net::{TcpListener, TcpStream}};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let addr = listener.local_addr()?;
///     let server = async {
///         let (mut stream, _peer) = listener.accept().await?;
///         stream.write_all(b"ahoy").await?;
///         stream.close().await
///     };
///     let client = async {
///         let mut text = String::new();
///         TcpStream::connect(addr).await?.read_to_string(&mut text).await?;
///         std::io::Result::Ok(text)
///     };
///     let (served, text) = join!(server, client);
///     served?;
///     assert_eq!(text?, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    acceptor: Acceptor<sys::TcpListener>,
}

impl TcpListener {
    /// Listens on an address; port 0 lets the system choose one. Of several addresses the first
    /// that can be had. A port that a past program has left in `TIME_WAIT` can be had.
    ///
    /// For other options, set them on a socket of the `socket2` crate and convert that by way of
    /// `std::net::TcpListener`.
    ///
    /// # Errors
    ///
    /// If the port is in use, or not permitted: the address is in the text.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, there is no socket. It waits for nothing but a host name, as
    /// [`lookup_host`](super::lookup_host).
    pub async fn bind(addr: impl ToAddrs) -> io::Result<TcpListener> {
        each_addr(addr, async |addr| {
            listen(&addr).map_err(|error| context("can't listen on", addr, error))
        })
        .await
    }

    /// Says that other loops, of this process or of others, accept from the same socket: then a
    /// connection wakes one of them and not all.
    ///
    /// It wakes one that waits, if any does, and they take turns. That is Linux's
    /// `EPOLLEXCLUSIVE`, and each listener registers again after it has accepted; elsewhere this
    /// changes nothing. Call it before the first `accept`.
    ///
    /// A loop takes part only while an [`accept`](TcpListener::accept) is pending (or a stream of
    /// [`incoming`](TcpListener::incoming) that was polled): one that serves a connection first, or
    /// has no descriptor left, leaves new connections to the others. An `accept` that is dropped
    /// after an event has woken this loop wakes the others.
    pub fn share(&self) {
        self.acceptor.io.source().set_exclusive();
    }
}

listener!(
    TcpListener,
    TcpStream,
    SocketAddr,
    sys::TcpListener,
    accepted
);

/// A TCP connection.
///
/// Reading and writing are those of [`AsyncRead`](futures_io::AsyncRead) and
/// [`AsyncWrite`](futures_io::AsyncWrite), for the stream and for references to it. A clone is the
/// same connection: give one to the task that reads and one to the task that writes.
///
/// [`close`](futures_io::AsyncWrite::poll_close) shuts down the writing half: the peer reads an
/// end, and can still answer. The connection is closed when the last clone is dropped.
///
/// # Examples
///
/// A server that holds no buffer for connections that are silent:
///
/// ```
/// use std::{cell::RefCell, io, rc::Rc};
/// use futures::AsyncWriteExt;
/// use windlass::net::TcpStream;
///
/// async fn serve(mut stream: TcpStream, shared: Rc<RefCell<[u8; 64 * 1024]>>) -> io::Result<()> {
///     loop {
///         stream.readable().await?;
///         let request = match stream.try_read(&mut *shared.borrow_mut()) {
///             Ok(0) => return Ok(()),
///             Ok(n) => shared.borrow()[..n].to_vec(),
///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
///             Err(error) => return Err(error),
///         };
///         stream.write_all(&request).await?;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct TcpStream {
    io: Rc<Async<sys::TcpStream>>,
}

impl TcpStream {
    /// Connects. Of several addresses, or of those that a host name has, to the one that answers
    /// first.
    ///
    /// They are tried as Happy Eyeballs does (RFC 8305, sections 4 and 5), so that a dead address
    /// costs a quarter of a second and not a time-out. IPv6 and IPv4 take turns, beginning with the
    /// first address. Each attempt has 250 ms to itself, until the next address is tried beside it;
    /// if one fails, the next is tried at once. The first that succeeds wins, and the others are
    /// given up.
    ///
    /// # Errors
    ///
    /// If none can be reached: each address is in the text, with what was wrong; the kind is that
    /// of the last. There's no time limit but the system's own (minutes); see
    /// [`timeout`](crate::time::timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up all attempts.
    ///
    /// # Examples
    ///
    /// ```
    /// use windlass::{block_on, net::{TcpListener, TcpStream}};
    ///
    /// block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let port = listener.local_addr()?.port();
    ///     // That is `::1` as well, where nobody listens, which costs nothing.
    ///     let stream = TcpStream::connect(("localhost", port)).await?;
    ///     assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(addr: impl ToAddrs) -> io::Result<TcpStream> {
        let addrs = lookup_host(addr).await?;
        Ok(TcpStream::new(race(addrs, connect_to_addr).await?))
    }

    /// Waits for data and copies it, but leaves it to be read.
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|io| io.peek(buf)).await
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get_ref().nodelay()
    }

    /// Sends small writes at once, rather than waiting for more to put into the packet.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get_ref().set_nodelay(nodelay)
    }

    /// How many hops a packet may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets how many hops a packet may take.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(ttl)
    }

    /// Sets how long closing waits for unsent data (`SO_LINGER`). Zero resets the connection
    /// instead.
    ///
    /// A time other than zero is for a socket that is taken out by
    /// [`into_std`](TcpStream::into_std). The drop of a `TcpStream` never waits, because the whole
    /// loop would: it switches lingering off, and the system sends unsent data in the background,
    /// as without this option. To wait until the peer has everything, shut down the writing half
    /// and read until the end. If another descriptor of the same socket is still open, lingering is
    /// switched off for that one as well.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.io.source().set_may_linger(true);
        sys::set_linger(&*self.io, linger)
    }

    /// Lets the system probe a silent peer (`SO_KEEPALIVE`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        sys::set_keepalive(&*self.io, keepalive)
    }
}

socket!(TcpStream, SocketAddr, sys::TcpStream);
stream!(TcpStream);

fn listen(addr: &SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(addr, SocketType::STREAM)?;
    sys::set_reuse_addr(&socket)?;
    sys::listen(&socket, addr)?;
    Ok(TcpListener {
        acceptor: Acceptor::new(Async::new_nonlingering(socket.into())?),
    })
}

async fn connect_to_addr(addr: SocketAddr) -> io::Result<Async<sys::TcpStream>> {
    connect_to(socket_for(&addr, SocketType::STREAM)?, &addr).await
}

fn accepted(
    socket: OwnedFd,
    peer: Option<SocketAddrAny>,
    may_linger: bool,
) -> io::Result<(TcpStream, SocketAddr)> {
    let peer = match peer.map(SocketAddr::try_from) {
        Some(Ok(peer)) => peer,
        _ => return Err(io::Error::other("the peer of a connection has no address")),
    };
    let io = Async::new_nonlingering(socket.into())?;
    if may_linger {
        io.source().set_may_linger(true);
    }
    Ok((TcpStream::new(io), peer))
}
