//! Adapters for [hyper](https://docs.rs/hyper) 1.x, HTTP/1.1 and HTTP/2, servers and clients. With
//! the feature `hyper`.
//!
//! hyper speaks HTTP and needs a runtime for connections, tasks and time. [`Io`] gives it
//! connections, [`Executor`] spawns what HTTP/2 does at the same time, and [`Timer`] keeps its time
//! limits. None of them needs tokio's runtime, and nothing has to be `Send`: a handler may share
//! its state by `Rc` and hold a borrow of it over an `.await`.
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
//! A server whose handlers count in a plain `Cell`, and a client:
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
//! Errors of the stream are found in the `source` of hyper's errors, as the `std::io::Error` that
//! they were. hyper's connections and responses may be dropped at any time; that closes the
//! connection in the middle of whatever it was about. For a good end there is their
//! `graceful_shutdown`.

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

/// How much one read takes: what a socket hands out at once even to the fastest of clients, more or
/// less.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection for hyper: any stream that has the traits of futures-io, such as
/// [`TcpStream`], or one of TLS on top of it.
///
/// Head and body of an answer are written with one call, so they leave together. Sent apart, the
/// body would wait for the client's acknowledgement of the head, which takes up to 40 ms (Nagle's
/// algorithm and delayed acknowledgements). The sockets of windlass write many buffers at once. Of
/// another stream that isn't known, so hyper's buffers are copied into one, up to 512 KiB of them,
/// unless [`vectored`](Io::vectored) says that it can.
///
/// What is read goes through a buffer of 64 KiB that all connections of the thread share: hyper's
/// own isn't initialized, and to copy what came costs less than to zero all of that before each
/// call, and needs no `unsafe`.
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
    /// Takes a stream.
    pub fn new(stream: T) -> Io<T> {
        let is_vectored = is_known_as_vectored::<T>();
        Io {
            stream,
            is_vectored,
        }
    }

    /// Says that the stream writes many buffers with one call: that its `poll_write_vectored` isn't
    /// the one that futures-io provides, which writes the first buffer only. Then nothing is
    /// copied. For wrappers that pass the call on, and for TLS that makes one record of many
    /// buffers.
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

    /// The stream, to ask it for the peer's address say.
    pub fn get_ref(&self) -> &T {
        &self.stream
    }

    /// Gives the stream back, after an upgrade say.
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
        // Taken out: the stream may be anything, and read from another one on its way.
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
        if self.is_vectored {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        poll_write_flat(Pin::new(&mut self.stream), cx, bufs)
    }

    /// Also where the stream can't: this can. Else hyper would write HTTP/2's frames in parts.
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

/// How many bytes of several buffers are copied into one at most.
const FLAT_BYTES: usize = 512 * 1024;

/// Writes several buffers by one `poll_write`.
fn poll_write_flat(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let first = bufs.iter().find(|buf| !buf.is_empty());
    let first: &[u8] = first.map_or(&[], |buf| buf);
    if first.len() == total {
        return stream.poll_write(cx, first);
    }
    // What is left for the next write must not be small: it would wait for an acknowledgement.
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

/// Whether it is a stream of windlass that writes many buffers with one call.
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

/// Also by reference. All references have one id, however long they live.
fn is_any_of<A: 'static, B: 'static>(id: TypeId) -> bool {
    [TypeId::of::<A>(), TypeId::of::<&'static A>()].contains(&id)
        || [TypeId::of::<B>(), TypeId::of::<&'static B>()].contains(&id)
}

/// Spawns for hyper, on the runtime of the thread that calls it, what HTTP/2 does at the same time:
/// each request's handler in a server, the connection in a client. Futures need not be `Send`.
///
/// The tasks are detached; hyper ends them with their connection.
///
/// # Panics
///
/// Outside of a running runtime, as [`spawn`](crate::spawn).
///
/// # Examples
///
/// A server of HTTP/2 whose handler holds an `Rc` over an `.await`:
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

/// Keeps hyper's time limits, by [`sleep_until`](crate::time::sleep_until).
///
/// hyper wants sleeps that are `Send` and `Sync`, although a connection never leaves its thread
/// here. They are: a sleep is plain numbers that name a timer of some reactor. Polled on another
/// thread it starts over there, or panics if no reactor turns there; dropped on another thread it
/// leaves its timer to run out, unheard.
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

/// As hyper wants it: `Send` and `Sync`.
struct Sleep(time::Sleep);

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
