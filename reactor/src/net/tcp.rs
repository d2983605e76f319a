//! TCP: a listener and streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::BorrowedFd;

use super::accept::{Accepting, Acceptor, listener};
use super::race::race;
use super::socket::{connect_to, socket};
use super::stream::stream;
use super::sys::{self, SocketAddrAny, tcp_socket};
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
    /// Listens on an address. Port 0 lets the system choose a port. Of several addresses, the first
    /// that succeeds is used. Connections in `TIME_WAIT` do not keep a port from being used again.
    ///
    /// [`TcpSocket`](super::TcpSocket) sets other options first.
    ///
    /// # Errors
    ///
    /// Fails if the port is in use or not permitted. The error names the address.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no socket. It waits only for the lookup of a host name,
    /// as [`lookup_host`](super::lookup_host).
    pub async fn bind(addr: impl ToAddrs) -> io::Result<TcpListener> {
        each_addr(addr, |addr| {
            listen(&addr).map_err(|error| context("can't listen on", addr, error))
        })
        .await
    }

    /// Declares that other loops, in this or another process, accept from the same socket. A
    /// connection then wakes one of them instead of all.
    ///
    /// It wakes a loop that waits, if there is one, and the loops take turns. This uses
    /// `EPOLLEXCLUSIVE` of Linux. Each listener registers again after it has accepted. On other
    /// systems the method has no effect. Call it before the first `accept`.
    ///
    /// A loop takes part only while an [`accept`](TcpListener::accept), or a stream of
    /// [`incoming`](TcpListener::incoming) that was polled, is pending. A loop that serves a
    /// connection first, or has no file descriptor left, leaves new connections to the others. If
    /// an `accept` is dropped after an event has woken this loop, it wakes the others.
    pub fn share(&self) {
        self.acceptor.io.source().set_exclusive();
    }
}

listener!(TcpListener, TcpStream, SocketAddr, sys::TcpListener, accept);

/// A TCP connection.
///
/// Streams and references to them implement [`AsyncRead`](futures_io::AsyncRead) and
/// [`AsyncWrite`](futures_io::AsyncWrite). All clones share the connection, so one task can read
/// while another one writes.
///
/// [`close`](futures_io::AsyncWrite::poll_close) shuts down the writing half. The peer reads the
/// end of the stream and can still answer. The connection is closed when the last clone is dropped.
///
/// # Examples
///
/// A server without a buffer per idle connection:
///
/// ```
/// use std::{cell::RefCell, io, rc::Rc};
/// use futures::AsyncWriteExt;
/// use windlass::net::TcpStream;
///
/// async fn serve(mut stream: TcpStream, shared: Rc<RefCell<[u8; 64 * 1024]>>) -> io::Result<()> {
///     loop {
///         stream.readable().await?;
///         let received = stream.try_read(&mut *shared.borrow_mut());
///         let request = match received {
///             Ok(0) => return Ok(()),
///             Ok(n) => shared.borrow()[..n].to_vec(),
///             Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
///             Err(error) => return Err(error),
///         };
///         stream.write_all(&request).await?;
///     }
/// }
/// # use futures::AsyncReadExt;
/// # windlass::block_on(async {
/// #     let listener = windlass::net::TcpListener::bind("127.0.0.1:0").await?;
/// #     let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// #     let (stream, _) = listener.accept().await?;
/// #     let serving = windlass::spawn(serve(stream, Rc::new(RefCell::new([0; 64 * 1024]))));
/// #     client.write_all(b"ahoy").await?;
/// #     client.close().await?;
/// #     let mut echoed = String::new();
/// #     client.read_to_string(&mut echoed).await?;
/// #     assert_eq!(echoed, "ahoy");
/// #     serving.await
/// # })?;
/// # io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct TcpStream {
    io: Arc<Async<sys::TcpStream>>,
}

impl TcpStream {
    /// Connects to an address. Of several addresses, also of a host name, the first that responds
    /// is used.
    ///
    /// The addresses are tried as Happy Eyeballs does (RFC 8305, sections 4 and 5), so that a dead
    /// address costs 250 ms instead of a timeout. IPv6 and IPv4 alternate, and the family of the
    /// first address is the first. The next address is tried in parallel 250 ms after the previous
    /// one, or at once when an attempt fails. The first attempt that succeeds wins, and the others
    /// are cancelled.
    ///
    /// # Errors
    ///
    /// Fails if no address can be reached. The error names each address with its error, and has the
    /// kind of the last one. Only the system limits the time, to some minutes. See
    /// [`timeout`](crate::time::timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all attempts.
    ///
    /// # Examples
    ///
    /// ```
    /// use windlass::{block_on, net::{TcpListener, TcpStream}};
    ///
    /// block_on(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let port = listener.local_addr()?.port();
    ///     // This also tries `::1`. Nothing listens there, so that attempt fails at once.
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

    /// Waits for data and copies it, without removing it from the stream.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|io| sys::peek(io, buf)).await
    }

    /// Returns whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn nodelay(&self) -> io::Result<bool> {
        sys::nodelay(self.io.get_ref())
    }

    /// Sets whether small writes are sent at once, instead of waiting for more data to fill a
    /// packet.
    ///
    /// They are by default, as in Go. Otherwise a program that writes a message in two parts waits
    /// for the acknowledgement of the first, which the peer may delay by 40 ms. Connections that
    /// are accepted inherit the option from their listener, without a system call. A program that
    /// writes many small parts should join them, for example with
    /// [`write_vectored`](futures_io::AsyncWrite::poll_write_vectored) or a buffer.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        sys::set_nodelay(self.io.get_ref(), nodelay)
    }

    /// Returns how many hops a packet may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        sys::ttl(self.io.get_ref())
    }

    /// Sets how many hops a packet may take.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        sys::set_ttl(self.io.get_ref(), ttl)
    }

    /// Sets how long closing waits for unsent data (`SO_LINGER`). Zero resets the connection
    /// instead.
    ///
    /// A time other than zero is for a socket that is taken out by
    /// [`into_std`](TcpStream::into_std). The drop of a `TcpStream` never waits, because the whole
    /// loop would. It switches lingering off, and the system sends unsent data in the background,
    /// as without this option. To wait until the peer has everything, shut down the writing half
    /// and read until the end. If another descriptor of the same socket is still open, lingering is
    /// also switched off for that one.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.io.source().set_may_linger(true);
        sys::set_linger(self.io.get_ref(), linger)
    }

    /// Lets the system probe a silent peer (`SO_KEEPALIVE`).
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        sys::set_keepalive(self.io.get_ref(), keepalive)
    }
}

socket!(TcpStream, SocketAddr, sys::TcpStream);
stream!(TcpStream);

fn listen(addr: &SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(addr)?;
    let (socket, ()) = sys::prepare(socket, |socket| {
        sys::set_reuse_addr(socket, true)?;
        sys::listen_on(socket, addr)
    })?;
    Ok(TcpListener::new(Async::new_nonlingering(socket.into())?))
}

async fn connect_to_addr(addr: SocketAddr) -> io::Result<Async<sys::TcpStream>> {
    connect_to(tcp_socket(&addr)?, &addr).await
}

fn accept(listener: BorrowedFd<'_>, may_linger: bool) -> io::Result<(TcpStream, SocketAddr)> {
    let to_addr = |peer: Option<SocketAddrAny>| SocketAddr::try_from(peer?).ok();
    let (socket, peer) = sys::accept(listener, to_addr)?;
    let Some(peer) = peer else {
        return Err(io::Error::other("the peer of a connection has no address"));
    };
    let io = Async::new_nonlingering(socket.into())?;
    if may_linger {
        io.source().set_may_linger(true);
    }
    Ok((TcpStream::new(io), peer))
}
