//! Adapters for [hyper](https://docs.rs/hyper) 1.x, for HTTP/1.1 and HTTP/2 servers and clients.
//! They need the feature `hyper`.
//!
//! hyper speaks HTTP and needs a runtime for connections, tasks and time. [`Io`] adapts a
//! connection, [`Executor`] spawns the concurrent tasks of HTTP/2, and [`Timer`] provides timeouts.
//! All of them work without tokio's runtime and without `Send`. A handler may share its state by
//! `Rc` and hold a borrow of it across an `.await`.
//!
//! Choose hyper's own features as usual, in a dependency of your own:
//!
//! ```toml
//! [dependencies]
//! windlass = { version = "0.1", features = ["hyper"] }
//! hyper = { version = "1.12", features = ["client", "http1", "server"] }
//! ```
//!
//! # Examples
//!
//! A server with handlers that count in a plain `Cell`, and a client:
//!
//! ```
//! use std::{cell::Cell, convert::Infallible, rc::Rc, time::Duration};
//! use hyper::{Request, Response, client, server, service::service_fn};
//! use windlass::hyper::{Io, Timer};
//! use windlass::net::{TcpListener, TcpStream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! windlass::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let addr = listener.local_addr()?;
//!     let requests = Rc::new(Cell::new(0));
//!     let count = requests.clone();
//!     let _server = windlass::spawn(async move {
//!         while let Ok((stream, _)) = listener.accept().await {
//!             let count = count.clone();
//!             let service = service_fn(move |_| {
//!                 count.set(count.get() + 1);
//!                 async { Ok::<_, Infallible>(Response::new("ahoy".to_owned())) }
//!             });
//!             let connection = server::conn::http1::Builder::new()
//!                 .timer(Timer)
//!                 .header_read_timeout(Duration::from_secs(10))
//!                 .serve_connection(Io::new(stream), service);
//!             windlass::spawn(connection).detach();
//!         }
//!     });
//!
//!     let stream = TcpStream::connect(addr).await?;
//!     let (mut sender, connection) = client::conn::http1::handshake(Io::new(stream)).await?;
//!     let _connection = windlass::spawn(connection);
//!     let response = sender.send_request(Request::new(String::new())).await?;
//!     assert_eq!(response.status(), 200);
//!     assert_eq!(requests.get(), 1);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Errors and cancel safety
//!
//! If the stream fails, the `source` of hyper's error is the stream's `std::io::Error`. hyper's
//! connections and responses may be dropped at any time. Dropping one closes the connection at
//! once, even in the middle of a message. For a graceful shutdown, call `graceful_shutdown` on the
//! connection.

use std::any::TypeId;
use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::hyper::rt;
use futures_io::{AsyncRead, AsyncWrite};

use crate::Async;
use crate::net::TcpStream;
#[cfg(unix)]
use crate::net::unix::UnixStream;
use crate::time;

/// The most bytes per read. A socket rarely has more available at once, even with the fastest
/// clients.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection for hyper. It wraps any stream with the traits of futures-io, such as
/// [`TcpStream`], or a TLS stream on top of it.
///
/// One call writes the head and the body of a response, so they are sent together. A separate body
/// would wait for the client's acknowledgement of the head, which takes up to 40 ms (Nagle's
/// algorithm and delayed acknowledgements). Up to 4 KiB of hyper's buffers are copied into one,
/// because a system call with one buffer is cheaper. The TCP and Unix sockets of windlass write
/// larger ones at once. For other streams, up to 512 KiB are copied, unless
/// [`vectored`](Io::vectored) is set.
///
/// Reads go through a 64 KiB buffer that all connections of the thread share, because hyper's own
/// buffer is uninitialized. Copying the received bytes costs less than zeroing hyper's buffer
/// before each call, and needs no `unsafe`.
///
/// # Examples
///
/// ```
/// use windlass::hyper::Io;
/// use windlass::net::unix::UnixStream;
///
/// windlass::block_on(async {
///     let (ours, _theirs) = UnixStream::pair()?;
///     let io = Io::new(ours);
///     assert_eq!(io.get_ref().try_write(b"ahoy")?, 4);
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Io<T> {
    stream: T,
    /// Its `poll_write_vectored` writes more than the first buffer.
    is_vectored: bool,
}

impl<T> Io<T> {
    /// Wraps a stream.
    pub fn new(stream: T) -> Io<T> {
        let is_vectored = is_known_as_vectored::<T>();
        Io {
            stream,
            is_vectored,
        }
    }

    /// Declares that the stream writes many buffers with one call, so at most 4 KiB are copied.
    ///
    /// Set this for a stream with its own `poll_write_vectored`, such as a wrapper that passes the
    /// call on, or TLS that makes one record of many buffers. The default of futures-io writes the
    /// first buffer only.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::io::AllowStdIo;
    /// use windlass::hyper::Io;
    ///
    /// let _io = Io::new(AllowStdIo::new(Vec::<u8>::new())).vectored();
    /// ```
    #[must_use]
    pub fn vectored(mut self) -> Io<T> {
        self.is_vectored = true;
        self
    }

    /// Returns the stream, for example to read the peer's address.
    pub fn get_ref(&self) -> &T {
        &self.stream
    }

    /// Returns the stream, for example after an upgrade.
    pub fn into_inner(self) -> T {
        self.stream
    }
}

impl<T: AsyncRead + Unpin> rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(SCRATCH_BYTES);
        // Taken out of the thread-local, because the stream is foreign code and may read from
        // another `Io`.
        let mut scratch = SCRATCH.take().unwrap_or_else(new_scratch);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut scratch[..room]);
        if let Poll::Ready(Ok(length)) = read {
            buf.put_slice(&scratch[..length]);
        }
        SCRATCH.set(Some(scratch));
        read.map_ok(|_| ())
    }
}

impl<T: AsyncWrite + Unpin> rt::Write for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_vectored && total > COPIED_BYTES {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        poll_write_flat(Pin::new(&mut self.stream), cx, bufs, total)
    }

    /// Returns true for all streams, because `poll_write_flat` joins the buffers. Otherwise hyper
    /// would write HTTP/2 frames in parts.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Buffers of at most this many bytes together are copied into one for every stream. On loopback
/// TCP a `send` takes 0.2 µs less than a `sendmsg` of two buffers. The copy takes as much at 8 KiB.
const COPIED_BYTES: usize = 4 * 1024;

/// The most bytes of several buffers that are copied into one.
const FLAT_BYTES: usize = 512 * 1024;

/// Writes several buffers of `total` bytes by one `poll_write`.
fn poll_write_flat(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
    total: usize,
) -> Poll<io::Result<usize>> {
    let first = bufs.iter().find(|buf| !buf.is_empty());
    let first: &[u8] = first.map_or(&[], |buf| buf);
    if first.len() == total {
        return stream.poll_write(cx, first);
    }
    // Leaves at least `FLAT_BYTES / 4` for the next write, because a small rest would wait for an
    // acknowledgement.
    let most = match total {
        ..=FLAT_BYTES => total,
        _ => FLAT_BYTES.min(total - FLAT_BYTES / 4),
    };
    if first.len() > most {
        return stream.poll_write(cx, &first[..first.len() - FLAT_BYTES / 4]);
    }
    let mut scratch = SCRATCH.take().unwrap_or_else(new_scratch);
    let mut large = Vec::new();
    let flat = match scratch.get_mut(..most) {
        Some(flat) => flat,
        None => {
            large.resize(most, 0);
            &mut large[..]
        }
    };
    let mut length = 0;
    for buf in bufs {
        let n = buf.len().min(most - length);
        flat[length..][..n].copy_from_slice(&buf[..n]);
        length += n;
    }
    let written = stream.poll_write(cx, flat);
    SCRATCH.set(Some(scratch));
    written
}

fn new_scratch() -> Box<[u8]> {
    vec![0; SCRATCH_BYTES].into()
}

/// Returns whether `T` is a stream of windlass that writes many buffers with one call.
fn is_known_as_vectored<T>() -> bool {
    use std::net::TcpStream as StdTcpStream;

    let id = typeid::of::<T>();
    let is_tcp = is_any_of::<TcpStream, Async<StdTcpStream>>(id);
    #[cfg(unix)]
    let is_unix = is_any_of::<UnixStream, Async<std::os::unix::net::UnixStream>>(id);
    #[cfg(not(unix))]
    let is_unix = false;
    is_tcp || is_unix
}

/// Returns whether the ID belongs to one of the types or a reference to it. The IDs ignore
/// lifetimes.
fn is_any_of<A: 'static, B: 'static>(id: TypeId) -> bool {
    [TypeId::of::<A>(), TypeId::of::<&'static A>()].contains(&id)
        || [TypeId::of::<B>(), TypeId::of::<&'static B>()].contains(&id)
}

/// Spawns hyper's concurrent tasks of HTTP/2 on the calling thread's runtime. In a server these are
/// the handlers of the requests, and in a client the connection. The futures need not be `Send`.
///
/// The tasks are detached, and hyper ends them with their connection.
///
/// # Panics
///
/// Panics outside of a running runtime, as [`spawn`](crate::spawn) does.
///
/// # Examples
///
/// An HTTP/2 server with a handler that holds an `Rc` across an `.await`:
///
/// ```
/// use std::{convert::Infallible, rc::Rc};
/// use hyper::{Request, Response, client, server, service::service_fn};
/// use windlass::hyper::{Executor, Io};
/// use windlass::net::unix::UnixStream;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// windlass::block_on(async {
///     let (theirs, ours) = UnixStream::pair()?;
///     let word = Rc::new("ahoy");
///     let service = service_fn(move |_| {
///         let word = word.clone();
///         async move {
///             windlass::yield_now().await;
///             Ok::<_, Infallible>(Response::new(word.to_string()))
///         }
///     });
///     let server = server::conn::http2::Builder::new(Executor);
///     let _server = windlass::spawn(server.serve_connection(Io::new(theirs), service));
///
///     let client = client::conn::http2::handshake(Executor, Io::new(ours));
///     let (mut sender, connection) = client.await?;
///     let _client = windlass::spawn(connection);
///     let response = sender.send_request(Request::new(String::new())).await?;
///     assert_eq!(response.status(), 200);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F: Future + 'static> rt::Executor<F> for Executor {
    #[track_caller]
    fn execute(&self, future: F) {
        crate::spawn(future).detach();
    }
}

/// Provides hyper's timeouts by [`sleep_until`](crate::time::sleep_until).
///
/// hyper requires sleeps that are `Send` and `Sync`, although a connection stays on its thread
/// here. A sleep is both, because it consists of plain numbers that identify a timer of a reactor.
/// When polled on another thread, it restarts there, or panics if no reactor turns there. When
/// dropped on another thread, it leaves its timer in place until it expires without effect.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use hyper::server::conn::http1;
/// use windlass::hyper::Timer;
///
/// let mut server = http1::Builder::new();
/// server.timer(Timer).header_read_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep(time::sleep(duration)))
    }

    /// The time of windlass's timers, which is virtual in a simulation.
    fn now(&self) -> Instant {
        crate::time::now()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep(time::sleep_until(deadline)))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(mut sleep) => sleep.0.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// A sleep as hyper requires it, `Send` and `Sync`.
struct Sleep(time::Sleep);

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
