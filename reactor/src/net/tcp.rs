//! TCP: a listener and streams.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::socket::{accept, connect_to, is_lost_connection, new_socket};
use super::{ToAddrs, context, each_addr};
use crate::io::{Async, also_by_value};
use crate::readiness::{Readable, Writable};
use crate::time::{Sleep, sleep_until};

/// How many connections may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// How long an accept loop rests when the system has no descriptor left for a connection.
///
/// Such a connection stays in the queue, so the next try would fail at once, and the one after it.
/// It isn't told either when a descriptor gets free. So it is tried again after a while.
const PAUSE: Duration = Duration::from_millis(50);

/// A TCP socket that accepts connections.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass_reactor::{block_on, net::{TcpListener, TcpStream}};
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
    io: Async<std::net::TcpListener>,
    /// When to try again, after the system ran out of descriptors.
    pause: Cell<Option<Instant>>,
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
    pub async fn bind(addr: impl ToAddrs) -> io::Result<TcpListener> {
        each_addr(addr, async |addr| {
            listen(&addr).map_err(|error| context("can't listen on", addr, &error))
        })
        .await
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// Errors of one connection that was lost before it was accepted don't show: the next one is
    /// taken. When there's no descriptor or memory left (`EMFILE` and the like), that is told
    /// once, and the next call rests for 50 ms before it tries again: a loop that logs errors and
    /// goes on neither spins nor goes deaf.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut sleep = None;
        poll_fn(|cx| self.poll_accept_with(cx, &mut sleep)).await
    }

    /// An endless stream of connections, each as from [`accept`](TcpListener::accept).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            sleep: None,
        }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// Takes the socket out, still non-blocking, for another thread say.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.io.into_inner()
    }

    fn poll_accept_with(
        &self,
        cx: &mut Context<'_>,
        sleep: &mut Option<Sleep>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            if let Some(until) = self.pause.get() {
                ready!(Pin::new(sleep.get_or_insert_with(|| sleep_until(until))).poll(cx));
                self.pause.set(None);
                *sleep = None;
            }
            match ready!(self.io.poll_read_with(cx, accept_one)) {
                Err(error) if is_lost_connection(&error) => continue,
                Err(error) => {
                    self.pause.set(Instant::now().checked_add(PAUSE));
                    return Poll::Ready(Err(context("can't accept", "a connection", &error)));
                }
                accepted => return Poll::Ready(accepted),
            }
        }
    }
}

/// The stream of [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    sleep: Option<Sleep>,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.listener;
        let accepted = ready!(listener.poll_accept_with(cx, &mut self.sleep));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

/// A TCP connection.
///
/// Reading and writing are those of [`AsyncRead`] and [`AsyncWrite`], for the stream and for
/// references to it. A clone is the same connection: give one to the task that reads and one to
/// the task that writes.
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
/// use windlass_reactor::net::TcpStream;
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
    io: Rc<Async<std::net::TcpStream>>,
}

impl TcpStream {
    /// Connects. Of several addresses, the first that answers.
    ///
    /// # Errors
    ///
    /// If it is refused or can't be reached: the address is in the text. There's no time limit but
    /// the system's own (minutes); see [`timeout`](crate::time::timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the connection.
    pub async fn connect(addr: impl ToAddrs) -> io::Result<TcpStream> {
        each_addr(addr, async |addr| {
            let io = async { connect_to(socket_for(&addr, SocketType::STREAM)?, &addr).await };
            match io.await {
                Ok(io) => Ok(TcpStream { io: Rc::new(io) }),
                Err(error) => Err(context("can't connect to", addr, &error)),
            }
        })
        .await
    }

    /// Waits until there's something to read: data, an end, or an error.
    ///
    /// # Errors
    ///
    /// If no reactor turns on this thread.
    pub fn readable(&self) -> Readable<'_> {
        self.io.readable()
    }

    /// Waits until there is room to write, or an error.
    ///
    /// # Errors
    ///
    /// If no reactor turns on this thread.
    pub fn writable(&self) -> Writable<'_> {
        self.io.writable()
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there, and those of the system.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.io.try_read_with(|mut io| io.read(buf))?;
        self.io.note_read(n, buf.len());
        Ok(n)
    }

    /// Writes as much as there is room for, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room, and those of the system.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_write_with(|mut io| io.write(buf))
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

    /// Shuts down one half, or both. What was shut down already, or is not connected any more,
    /// is no error.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.io.get_ref().shutdown(how) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
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

    /// Sets how long closing waits for unsent data; zero resets the connection instead
    /// (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&*self.io, linger)?)
    }

    /// Lets the system probe a silent peer (`SO_KEEPALIVE`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_keepalive(&*self.io, keepalive)?)
    }

    /// Takes the error that the system has noted for this socket, if any (`SO_ERROR`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.get_ref().take_error()
    }

    /// Takes the socket out, still non-blocking, for another thread say.
    ///
    /// # Errors
    ///
    /// If there are other clones of it.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        match Rc::try_unwrap(self.io) {
            Ok(io) => io.into_inner(),
            Err(_) => Err(io::Error::other("there are other clones of this stream")),
        }
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.io.poll_read_with(cx, |mut io| io.read(buf)))?;
        self.io.note_read(n, buf.len());
        Poll::Ready(Ok(n))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.io.poll_read_with(cx, |mut io| io.read_vectored(bufs)))?;
        self.io.note_read(n, bufs.iter().map(|buf| buf.len()).sum());
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_write_with(cx, |mut io| io.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_write_with(cx, |mut io| io.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

also_by_value!([] TcpStream);

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream {
            io: Rc::new(Async::new_nonblocking(stream)?),
        })
    }
}

impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener {
            io: Async::new_nonblocking(listener)?,
            pause: Cell::new(None),
        })
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

fn listen(addr: &SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_for(addr, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener {
        io: Async::new_nonblocking(socket.into())?,
        pause: Cell::new(None),
    })
}

fn accept_one(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = accept(listener)?;
    let peer = match peer.map(SocketAddr::try_from) {
        Some(Ok(peer)) => peer,
        _ => return Err(io::Error::other("the peer of a connection has no address")),
    };
    Ok((
        TcpStream {
            io: Rc::new(Async::new_nonblocking(socket.into())?),
        },
        peer,
    ))
}

/// A new socket for the family of `addr`.
pub(super) fn socket_for(addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    match addr {
        SocketAddr::V4(_) => new_socket(AddressFamily::INET, kind),
        SocketAddr::V6(_) => new_socket(AddressFamily::INET6, kind),
    }
}
