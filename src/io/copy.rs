//! Copying between file descriptors.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use windlass_reactor::Async;
use windlass_reactor::net::TcpStream;
#[cfg(unix)]
use windlass_reactor::net::unix::UnixStream;

#[cfg(target_os = "linux")]
use super::splice::{Pipe, Spliced, is_refusal};
use super::{PipeReader, PipeWriter, Stderr, Stdin, Stdout};
use crate::fs::File;

/// The size of the buffer. With a larger one, system calls take the same share of the time.
const BUFFER: usize = 64 * 1024;

/// The size of the buffer for files. Each read from a disk takes a thread. A copy of cached data to
/// a socket takes 6 % less CPU time with it than with `BUFFER`.
const FILE_BUFFER: usize = 256 * 1024;

/// A read of at least this size indicates a large transfer, and the next one goes through a pipe.
/// Copying less than this is faster than splicing it.
const SPLICE_MIN: usize = 32 * 1024;

thread_local! {
    /// The buffer of this thread, between two copies.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Copies all bytes from a reader to a writer until the reader ends, and returns their number. The
/// writer stays open.
///
/// Both have to be file descriptors or references to them, such as sockets, pipes, files, and the
/// standard streams of this process and of its children. For layers above these, such as TLS, use
/// `futures::io::copy_buf`. For whole files by their paths, use [`fs::copy`](crate::fs::copy), by
/// which file systems share the data.
///
/// A copy that waits to read holds no buffer. The thread lends a copy its 64 KiB buffer when bytes
/// arrive. On Linux the kernel moves the pages of large transfers through a pipe (`splice`) without
/// copying them into the program. Up to 16 copies per thread use a pipe at the same time, and the
/// others use the buffer. So do all copies while `SIGPIPE` isn't ignored, because `splice` would
/// raise it.
///
/// A [`File`](crate::fs::File) is read and written at its position, through a buffer of 256 KiB.
/// Cached data is read at once, and a thread reads from the disk, so a slow disk never stops the
/// loop. To a socket, [`send_file`](super::send_file()) takes less CPU time. When a copy to a file
/// completes, the system has all bytes.
///
/// # Errors
///
/// Fails with the errors of reading and writing. Bytes that were read but remain unwritten are
/// lost.
///
/// # Cancel safety
///
/// **May be half done.** When the future is dropped, an unknown first part was written, and up to 1
/// MiB that was read but not yet written is lost. A copy that is dropped while it waits to read
/// loses nothing.
///
/// # Examples
///
/// ```ignore-windows
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass::{block_on, io::{copy, pipe}, net::unix::UnixStream};
///
/// block_on(async {
///     let (reader, mut writer) = pipe()?;
///     let (here, mut there) = UnixStream::pair()?;
///     writer.write_all(b"ahoy").await?;
///     writer.close().await?;
///     assert_eq!(copy(reader, &here).await?, 4);
///     drop(here);
///     let mut text = String::new();
///     there.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Sends a file:
///
/// ```no_run
/// use windlass::{block_on, fs::File, io::copy, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let (client, _) = listener.accept().await?;
///     let sent = copy(File::open("Cargo.toml").await?, &client).await?;
///     println!("{sent} bytes sent");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy<R, W>(mut reader: R, mut writer: W) -> io::Result<u64>
where
    R: AsyncRead + Descriptor + Unpin,
    W: AsyncWrite + Descriptor + Unpin,
{
    let mut transfer = Transfer::new();
    poll_fn(|cx| {
        let polled = transfer.poll(cx, &mut reader, &mut writer, &mut Lent(None))?;
        polled.map(Ok)
    })
    .await
}

/// Copies in both directions between two streams until both have ended. When one stream ends, the
/// other is shut down for writing and still read, so a peer that has sent its whole request still
/// gets the response.
///
/// Returns the number of bytes copied from `a` to `b`, and from `b` to `a`.
///
/// # Errors
///
/// Fails with the first error of either direction, as [`copy`] does, and abandons the other
/// direction.
///
/// # Cancel safety
///
/// **May be half done** in both directions, as for [`copy`].
///
/// # Examples
///
/// ```no_run
/// use windlass::{block_on, io::copy_bidirectional, net::{TcpListener, TcpStream}};
///
/// // A proxy for one connection.
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let (client, _) = listener.accept().await?;
///     let server = TcpStream::connect("127.0.0.1:80").await?;
///     let (sent, received) = copy_bidirectional(&client, &server).await?;
///     println!("{sent} bytes sent, {received} received");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy_bidirectional<A, B>(a: &A, b: &B) -> io::Result<(u64, u64)>
where
    for<'a> &'a A: AsyncRead + AsyncWrite + Descriptor,
    for<'b> &'b B: AsyncRead + AsyncWrite + Descriptor,
{
    let (mut sending, mut receiving) = (Transfer::new(), Transfer::new());
    poll_fn(|cx| {
        let lent = &mut Lent(None);
        let sent = sending.poll_and_close(cx, &mut &*a, &mut &*b, lent)?;
        let received = receiving.poll_and_close(cx, &mut &*b, &mut &*a, lent)?;
        match (sent, received) {
            (Poll::Ready(sent), Poll::Ready(received)) => Poll::Ready(Ok((sent, received))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// A type that [`copy`] can copy from and to. It owns a file descriptor, and its reads and writes
/// go straight to the descriptor. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a file descriptor that `copy` supports",
    note = "`futures::io::copy` and `copy_buf` copy between any readers and writers"
)]
pub trait Descriptor: Splice {}

mod sealed {
    pub trait Splice {
        /// The least size of the buffer.
        const BUFFER: usize = super::BUFFER;

        /// Returns the owner of the file descriptor, if the kernel can splice it.
        #[cfg(target_os = "linux")]
        fn spliced(&self) -> Option<&dyn super::Spliced>;
    }
}
use sealed::Splice;

impl<T: Descriptor + ?Sized> Descriptor for &T {}
impl<T: Descriptor + ?Sized> Descriptor for &mut T {}

macro_rules! by_reference {
    ($($reference:ty),*) => {$(
        impl<T: Splice + ?Sized> Splice for $reference {
            const BUFFER: usize = T::BUFFER;

            #[cfg(target_os = "linux")]
            fn spliced(&self) -> Option<&dyn Spliced> {
                (**self).spliced()
            }
        }
    )*};
}
by_reference!(&T, &mut T);

macro_rules! descriptors {
    ($($type:ty: $this:ident => $spliced:expr;)*) => {$(
        impl Descriptor for $type {}

        impl Splice for $type {
            #[cfg(target_os = "linux")]
            fn spliced(&self) -> Option<&dyn Spliced> {
                let $this = self;
                $spliced
            }
        }
    )*};
}

// Other `Async<T>` are left out, because reads of `T` may return other bytes than its file
// descriptor, as with TLS.
descriptors! {
    TcpStream: this => Some(this);
    Async<net::TcpStream>: this => Some(this);
    PipeReader: this => Some(this.io());
    PipeWriter: this => this.io().map(|io| io as &dyn Spliced);
    Stdin: _this => None;
    Stdout: _this => None;
    Stderr: _this => None;
}

#[cfg(unix)]
descriptors! {
    UnixStream: this => Some(this);
    Async<std::os::unix::net::UnixStream>: this => Some(this);
    Async<std::fs::File>: this => Some(this);
}

impl Descriptor for File {}

// Through a buffer, because `sendfile` would need the position, which other processes may share.
// `send_file` uses it for ranges (decision 0115).
impl Splice for File {
    const BUFFER: usize = FILE_BUFFER;

    #[cfg(target_os = "linux")]
    fn spliced(&self) -> Option<&dyn Spliced> {
        None
    }
}

/// A copy in progress. It reads only when everything read before is written. So few bytes are in
/// flight, and a fill always starts with an empty pipe, which shows the side of a `splice` that has
/// returned `WouldBlock`.
struct Transfer {
    copied: u64,
    in_flight: InFlight,
    /// The reader has ended.
    has_ended: bool,
    /// The writer was closed after that.
    is_closed: bool,
    /// The last read was at least `SPLICE_MIN`.
    is_large: bool,
    /// Both sides support `splice`, and a pipe was available, as far as is known.
    #[cfg(target_os = "linux")]
    can_splice: bool,
}

/// The bytes that were read and wait to be written.
enum InFlight {
    Nothing,
    Buffer(Box<[u8]>, Range<usize>),
    #[cfg(target_os = "linux")]
    Pipe(Pipe),
}

impl Transfer {
    fn new() -> Transfer {
        Transfer {
            copied: 0,
            in_flight: InFlight::Nothing,
            has_ended: false,
            is_closed: false,
            is_large: false,
            #[cfg(target_os = "linux")]
            can_splice: true,
        }
    }

    /// Copies all bytes, and then closes the writer.
    #[inline]
    fn poll_and_close(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Splice + Unpin),
        writer: &mut (impl AsyncWrite + Splice + Unpin),
        lent: &mut Lent,
    ) -> io::Result<Poll<u64>> {
        if !self.is_closed {
            if self.poll(cx, reader, writer, lent)?.is_pending()
                || Pin::new(writer).poll_close(cx)?.is_pending()
            {
                return Ok(Poll::Pending);
            }
            self.is_closed = true;
        }
        Ok(Poll::Ready(self.copied))
    }

    #[inline]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Splice + Unpin),
        writer: &mut (impl AsyncWrite + Splice + Unpin),
        lent: &mut Lent,
    ) -> io::Result<Poll<u64>> {
        loop {
            if !matches!(self.in_flight, InFlight::Nothing)
                && self.poll_rest(cx, writer, lent)?.is_pending()
            {
                return Ok(Poll::Pending);
            }
            if self.has_ended {
                // A file is written in the background.
                return Ok(Pin::new(writer).poll_flush(cx)?.map(|()| self.copied));
            }
            if self.poll_copy(cx, reader, writer, lent)?.is_pending() {
                return Ok(Poll::Pending);
            }
        }
    }

    /// Writes the bytes that were read before.
    #[cold] // a writer takes small messages at once
    fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Splice + Unpin),
        lent: &mut Lent,
    ) -> io::Result<Poll<()>> {
        match mem::replace(&mut self.in_flight, InFlight::Nothing) {
            InFlight::Nothing => Ok(Poll::Ready(())),
            InFlight::Buffer(buffer, filled) => {
                lent.replace(buffer);
                self.poll_write(cx, writer, lent, filled)
            }
            #[cfg(target_os = "linux")]
            InFlight::Pipe(pipe) => self.poll_drain(cx, writer, pipe, lent),
        }
    }

    /// Reads once, and writes what was read.
    #[inline]
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        lent: &mut Lent,
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Splice + Unpin,
        W: AsyncWrite + Splice + Unpin,
    {
        #[cfg(target_os = "linux")]
        if self.is_large && self.can_splice && writer.spliced().is_some() {
            if let Some(spliced) = reader.spliced() {
                match self.poll_fill(cx, spliced) {
                    Err(error) if is_refusal(&error) => self.can_splice = false,
                    Ok(Poll::Ready(pipe)) => return self.poll_drain(cx, writer, pipe, lent),
                    Ok(Poll::Pending) => return Ok(Poll::Pending),
                    Err(error) => return Err(error),
                }
            }
        }
        let buffer = lent.buffer(R::BUFFER.max(W::BUFFER));
        let Poll::Ready(bytes) = Pin::new(reader).poll_read(cx, buffer)? else {
            return Ok(Poll::Pending);
        };
        self.has_ended = bytes == 0;
        self.is_large = bytes >= SPLICE_MIN;
        self.poll_write(cx, writer, lent, 0..bytes)
    }

    /// Writes these bytes of the buffer. Keeps the buffer if the writer has to wait.
    #[inline]
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
        lent: &mut Lent,
        mut filled: Range<usize>,
    ) -> io::Result<Poll<()>> {
        while !filled.is_empty() {
            let bytes = &lent.buffer(filled.end)[filled.clone()];
            match Pin::new(&mut *writer).poll_write(cx, bytes)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    filled.start += written;
                    self.copied += written as u64;
                }
                Poll::Pending => {
                    if let Some(buffer) = lent.0.take() {
                        self.in_flight = InFlight::Buffer(buffer, filled);
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
        Ok(Poll::Ready(()))
    }
}

// Through a pipe.
#[cfg(target_os = "linux")]
impl Transfer {
    /// Reads into a pipe.
    fn poll_fill(&mut self, cx: &mut Context<'_>, reader: &dyn Spliced) -> io::Result<Poll<Pipe>> {
        let mut pipe = Pipe::lend()?;
        let filled = pipe.poll_fill(cx, reader);
        if let Poll::Ready(Ok(bytes)) = filled {
            self.has_ended = bytes == 0;
            self.is_large = bytes >= SPLICE_MIN;
            return Ok(Poll::Ready(pipe));
        }
        pipe.give_back(); // it is still empty
        match filled {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(Poll::Pending),
        }
    }

    /// Writes the bytes in the pipe, and gives it back.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Splice + Unpin),
        mut pipe: Pipe,
        lent: &mut Lent,
    ) -> io::Result<Poll<()>> {
        while !pipe.is_empty() {
            let Some(spliced) = writer.spliced() else {
                return self.poll_write_pipe(cx, writer, pipe, lent);
            };
            match pipe.poll_drain(cx, spliced) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => self.copied += bytes as u64,
                Poll::Ready(Err(error)) if is_refusal(&error) => {
                    return self.poll_write_pipe(cx, writer, pipe, lent);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.in_flight = InFlight::Pipe(pipe);
                    return Ok(Poll::Pending);
                }
            }
        }
        pipe.give_back();
        Ok(Poll::Ready(()))
    }

    /// Writes the bytes in the pipe to a writer that refuses `splice`.
    #[cold]
    fn poll_write_pipe(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
        mut pipe: Pipe,
        lent: &mut Lent,
    ) -> io::Result<Poll<()>> {
        self.can_splice = false;
        let bytes = pipe.read_all()?;
        pipe.give_back();
        let filled = 0..bytes.len();
        lent.replace(bytes);
        self.poll_write(cx, writer, lent, filled)
    }
}

/// The buffer of this thread during one poll, if that has needed it.
struct Lent(Option<Box<[u8]>>);

impl Lent {
    /// Returns the buffer. A new one has at least this size.
    #[inline]
    fn buffer(&mut self, size: usize) -> &mut [u8] {
        self.0.get_or_insert_with(|| {
            let spare = SPARE.take().filter(|spare| spare.len() >= size);
            spare.unwrap_or_else(|| make_buffer(size))
        })
    }

    #[cold]
    fn replace(&mut self, buffer: Box<[u8]>) {
        drop(Lent(self.0.replace(buffer)));
    }
}

impl Drop for Lent {
    /// Keeps the buffer for other copies of this thread.
    #[inline]
    fn drop(&mut self) {
        let lent = self.0.take();
        if let Some(buffer) = lent.filter(|it| [BUFFER, FILE_BUFFER].contains(&it.len())) {
            SPARE.set(Some(buffer));
        }
    }
}

#[cold]
fn make_buffer(size: usize) -> Box<[u8]> {
    vec![0; size].into()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::{env, fs, process, thread};

    use super::*;

    /// A file in append mode refuses `splice` only when bytes are already in the pipe.
    #[test]
    fn bytes_in_the_pipe_are_written_where_splice_is_refused() {
        let path = env::temp_dir().join(format!("windlass-copy-{}", process::id()));
        let file = fs::File::options().append(true).create(true).open(&path);
        let to = Async::new_nonblocking(file.unwrap()).unwrap();
        let (here, mut there) = StdUnixStream::pair().unwrap();
        let data: Vec<u8> = (0..4_000_000_u32).map(|i| (i / 7 % 251) as u8).collect();
        let sent = data.clone();
        let writing = thread::spawn(move || there.write_all(&sent));
        let from = Async::new(here).unwrap();
        let copied = windlass_reactor::block_on(copy(from, to));
        writing.join().unwrap().unwrap();
        assert_eq!(copied.unwrap(), data.len() as u64);
        assert!(fs::read(&path).unwrap() == data);
        fs::remove_file(path).unwrap();
    }
}
