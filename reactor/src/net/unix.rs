//! Unix sockets, for connections and datagrams between processes of one machine.
//!
//! A path names a socket. `bind` creates the file, and closing the socket leaves it there. Remove
//! it before the next `bind`. On Linux, a path that begins with a zero byte is an abstract name,
//! without a file.

use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::SocketAddrUnix;

use super::accept::{Accepting, Acceptor, listener};
use super::context;
use super::datagram::datagram;
use super::socket::{connect_to, socket};
use super::stream::stream;
use super::sys::{self, AddressFamily, SocketType};
use crate::async_io::Async;
use crate::time::{Sleep, sleep};

/// A Unix socket that accepts connections.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass::{block_on, net::unix::{UnixListener, UnixStream}};
///
/// let path = std::env::temp_dir().join(format!("windlass-doc-{}", std::process::id()));
/// block_on(async {
///     let listener = UnixListener::bind(&path).await?;
///     let server = async {
///         let (mut stream, _peer) = listener.accept().await?;
///         stream.write_all(b"ahoy").await?;
///         stream.close().await
///     };
///     let client = async {
///         let mut text = String::new();
///         UnixStream::connect(&path).await?.read_to_string(&mut text).await?;
///         std::io::Result::Ok(text)
///     };
///     let (served, text) = join!(server, client);
///     served?;
///     assert_eq!(text?, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixListener {
    acceptor: Acceptor<sys::UnixListener>,
}

impl UnixListener {
    /// Creates a socket with this name and listens on it.
    ///
    /// # Errors
    ///
    /// Returns `AddrInUse` if the file exists, even if nothing listens any more. The error names
    /// the path.
    ///
    /// # Cancel safety
    ///
    /// The future never waits. If it is dropped before it is polled, it has done nothing.
    pub async fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let path = path.as_ref();
        listen(path).map_err(|error| context("can't listen on", format_args!("{path:?}"), error))
    }
}

listener!(
    UnixListener,
    UnixStream,
    SocketAddr,
    sys::UnixListener,
    accept
);

/// A Unix connection.
///
/// Streams and references to them implement [`AsyncRead`](futures_io::AsyncRead) and
/// [`AsyncWrite`](futures_io::AsyncWrite). All clones share the connection. Closing and splitting
/// work as for a [`TcpStream`](crate::net::TcpStream).
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass::{block_on, net::unix::UnixStream};
///
/// let (mut here, mut there) = UnixStream::pair()?;
/// block_on(async {
///     here.write_all(b"ahoy").await?;
///     here.close().await?;
///     let mut text = String::new();
///     there.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixStream {
    io: Arc<Async<sys::UnixStream>>,
}

impl UnixStream {
    /// Connects to a listener.
    ///
    /// When the listener's queue is full, Linux refuses at once and has no event for a free slot.
    /// So this retries after pauses of 1 to 32 ms. See [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    ///
    /// Fails if the file does not exist or nothing listens. The error names the path.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let path = path.as_ref();
        match connect(path).await {
            Ok(io) => Ok(UnixStream::new(io)),
            Err(error) => Err(context("can't connect to", format_args!("{path:?}"), error)),
        }
    }

    /// Creates two streams that are connected with each other.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (here, there) = sys::stream_pair()?;
        let stream = |socket| io::Result::Ok(UnixStream::new(Async::new_nonlingering(socket)?));
        Ok((stream(here)?, stream(there)?))
    }
}

socket!(UnixStream, SocketAddr, sys::UnixStream);
stream!(UnixStream);

/// A Unix socket for datagrams. It is lossless, because senders wait while the receiver's queue is
/// full.
///
/// All clones share the socket.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, net::unix::UnixDatagram};
///
/// let (here, there) = UnixDatagram::pair()?;
/// block_on(async {
///     here.send(b"ahoy").await?;
///     let mut buffer = [0; 16];
///     let n = there.recv(&mut buffer).await?;
///     assert_eq!(&buffer[..n], b"ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UnixDatagram {
    io: Arc<Async<sys::UnixDatagram>>,
}

socket!(UnixDatagram, SocketAddr, sys::UnixDatagram);
datagram!(UnixDatagram, SocketAddr);

impl UnixDatagram {
    /// Creates a socket with this name.
    ///
    /// # Errors
    ///
    /// Returns `AddrInUse` if the file exists. The error names the path.
    ///
    /// # Cancel safety
    ///
    /// The future never waits. If it is dropped before it is polled, it has done nothing.
    pub async fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        let path = path.as_ref();
        let bound = || {
            let addr = address(path)?;
            let socket = sys::socket(AddressFamily::UNIX, SocketType::DGRAM)?;
            let (socket, ()) = sys::prepare(socket, |socket| sys::bind(socket, &addr))?;
            Ok(UnixDatagram::new(Async::new_nonlingering(socket.into())?))
        };
        bound().map_err(|error| context("can't bind to", format_args!("{path:?}"), error))
    }

    /// Creates a socket without a name. It can send, and receives only from sockets that are
    /// connected to it.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn unbound() -> io::Result<UnixDatagram> {
        let socket = sys::socket(AddressFamily::UNIX, SocketType::DGRAM)?;
        Ok(UnixDatagram::new(Async::new_nonlingering(socket.into())?))
    }

    /// Creates two sockets that are connected with each other.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (here, there) = sys::datagram_pair()?;
        let datagram = |socket| io::Result::Ok(UnixDatagram::new(Async::new_nonlingering(socket)?));
        Ok((datagram(here)?, datagram(there)?))
    }

    /// Connects the socket: [`send`](UnixDatagram::send) sends to the peer with this name, and only
    /// datagrams from it are received.
    ///
    /// # Errors
    ///
    /// Fails if there is no such socket. The error names the path.
    ///
    /// # Cancel safety
    ///
    /// The future never waits. If it is dropped before it is polled, it has done nothing.
    pub async fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let connected = address(path).and_then(|addr| sys::connect(self, &addr));
        let connected = connected.map(|_in_progress| ()); // never, for datagrams
        connected.map_err(|error| context("can't connect to", format_args!("{path:?}"), error))
    }

    /// Sends a datagram to the socket with this name.
    ///
    /// When the receiver's queue is full, no event reliably reports a free slot. So this retries
    /// after pauses of 1 to 32 ms. [`connect`](UnixDatagram::connect) and
    /// [`send`](UnixDatagram::send) wait for the event instead.
    ///
    /// # Errors
    ///
    /// Fails if there is no such socket or if the datagram is too large. The error names the path.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing was sent.
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        let mut retry = Retry::default();
        let sent = match address(path) {
            Ok(addr) => poll_fn(|cx| self.poll_send_to(cx, &mut retry, buf, &addr)).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| context("can't send to", format_args!("{path:?}"), error))
    }

    /// Sends a datagram to the socket with this name, without waiting.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the receiver's queue is full, and fails as
    /// [`send_to`](UnixDatagram::send_to) does.
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        let sent = address(path).and_then(|addr| {
            self.io
                .try_write_with(|io| sys::send_to_path(io, buf, &addr))
        });
        sent.map_err(|error| context("can't send to", format_args!("{path:?}"), error))
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        retry: &mut Retry,
        buf: &[u8],
        addr: &SocketAddrUnix,
    ) -> Poll<io::Result<usize>> {
        loop {
            // A wait for an event would spin while the queue is full. On Linux, the refused
            // datagram itself causes an event when its memory is freed.
            let polled = self
                .io
                .poll_write_with(cx, |io| match sys::send_to_path(io, buf, addr) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    sent => sent.map(Some),
                });
            match ready!(polled)? {
                Some(sent) => return Poll::Ready(Ok(sent)),
                None => ready!(retry.poll(cx))?,
            }
        }
    }
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let bytes = path.as_os_str().as_bytes();
    Ok(match bytes {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        bytes => SocketAddrUnix::new(bytes)?,
    })
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let addr = address(path)?;
    let socket = sys::socket(AddressFamily::UNIX, SocketType::STREAM)?;
    let (socket, ()) = sys::prepare(socket, |socket| sys::listen(socket, &addr))?;
    let acceptor = Acceptor::new(Async::new_nonlingering(socket.into())?);
    Ok(UnixListener { acceptor })
}

async fn connect(path: &Path) -> io::Result<Async<sys::UnixStream>> {
    let addr = address(path)?;
    let mut retry = Retry::default();
    loop {
        let socket = sys::socket(AddressFamily::UNIX, SocketType::STREAM)?;
        match connect_to(socket, &addr).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| retry.poll(cx)).await?;
            }
            connected => return connected,
        }
    }
}

fn accept(
    listener: BorrowedFd<'_>,
    _: bool, // the system ignores linger times of Unix sockets
) -> io::Result<(UnixStream, SocketAddr)> {
    let (socket, has_name) = sys::accept(listener, |peer| {
        peer.is_some_and(|peer| peer.addr_len() > 2)
    })?;
    let stream = UnixStream::new(Async::new_nonlingering(socket.into())?);
    // Most clients are unnamed. Their address is a family alone, of two bytes. std reads the other
    // addresses, because rustix 1.1 panics at a path that fills the address to its end.
    let peer = match has_name {
        true => stream.peer_addr()?,
        false => SocketAddr::from_pathname("")?,
    };
    Ok((stream, peer))
}

/// Pauses between attempts where events do not report success. They grow from 1 ms to 32 ms.
#[derive(Default)]
struct Retry {
    tries: u32,
    sleep: Option<Sleep>,
}

impl Retry {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pause = || sleep(Duration::from_millis(1 << self.tries.min(5)));
        ready!(self.sleep.get_or_insert_with(pause).poll_io(cx))?;
        self.sleep = None;
        self.tries += 1;
        Poll::Ready(Ok(()))
    }
}
