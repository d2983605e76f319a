//! Anonymous pipes.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use windlass_reactor::{Async, set_nonblocking};

use super::closed;

/// The most bytes that `poll_append` reads in one operation, so that the budget limits a child that
/// writes endlessly.
const CHUNK: u64 = 64 * 1024;

/// Creates a pipe and returns its two ends.
///
/// Both are close-on-exec. An end converts into the [`Stdio`](std::process::Stdio) of a child, and
/// into a blocking file descriptor for other programs.
///
/// # Errors
///
/// Fails if the process is out of file descriptors, or this thread has no reactor and none can be
/// created.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass::{block_on, io::pipe};
///
/// block_on(async {
///     let (mut reader, mut writer) = pipe()?;
///     let mut text = String::new();
///     let (wrote, read) = join!(
///         async {
///             writer.write_all(b"ahoy").await?;
///             writer.close().await
///         },
///         reader.read_to_string(&mut text)
///     );
///     wrote?;
///     read?;
///     assert_eq!(text, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    crate::sim::current::refuse("pipes: use `UnixStream::pair`")?;
    let (reader, writer) = ends()?;
    Ok((
        PipeReader(Async::new_nonlingering(reader.into())?),
        PipeWriter(Some(Async::new_nonlingering(writer.into())?)),
    ))
}

/// The reading end of a [`pipe`]. It ends when all writers are closed, including writers in other
/// processes.
///
/// # Cancel safety
///
/// A cancelled read has consumed nothing.
#[derive(Debug)]
pub struct PipeReader(Async<File>);

impl PipeReader {
    /// Takes the file descriptor out and makes it blocking, as other programs expect. It can become
    /// a child's [`Stdio`](std::process::Stdio), for example.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the system.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Command;
    /// use futures::AsyncWriteExt;
    /// use windlass::{block_on, io::pipe};
    ///
    /// let (reader, mut writer) = pipe()?;
    /// let mut child = Command::new("cat").stdin(reader.into_blocking_fd()?).spawn()?;
    /// block_on(writer.write_all(b"ahoy\n"))?;
    /// drop(writer);
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        into_blocking(self.0)
    }

    #[cfg(target_os = "linux")] // for `splice`
    pub(crate) fn io(&self) -> &Async<File> {
        &self.0
    }

    /// Appends the available bytes to `bytes` and returns their number, 0 at the end.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        // `read_to_end` keeps the bytes that it has read before `WouldBlock`.
        let read = |pipe: &File| pipe.take(CHUNK).read_to_end(bytes);
        self.0.poll_read_with(cx, read)
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the blocking file descriptor, as [`into_blocking_fd`](PipeReader::into_blocking_fd)
/// does. If the system refuses to make it blocking, it stays non-blocking.
impl From<PipeReader> for OwnedFd {
    fn from(reader: PipeReader) -> OwnedFd {
        into_owned(reader.0)
    }
}

/// Lets a child read from the pipe. The [`Command`](crate::process::Command) has the reader until
/// it is dropped.
impl From<PipeReader> for Stdio {
    fn from(reader: PipeReader) -> Stdio {
        OwnedFd::from(reader).into()
    }
}

impl TryFrom<ChildStdout> for PipeReader {
    type Error = io::Error;

    fn try_from(stdout: ChildStdout) -> io::Result<PipeReader> {
        Ok(PipeReader(nonblocking(stdout.into())?))
    }
}

impl TryFrom<ChildStderr> for PipeReader {
    type Error = io::Error;

    fn try_from(stderr: ChildStderr) -> io::Result<PipeReader> {
        Ok(PipeReader(nonblocking(stderr.into())?))
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read_vectored(cx, bufs)
    }
}

/// The writing end of a [`pipe`]. Writes fail with `BrokenPipe` once all readers are closed.
///
/// Both [`close`](futures_io::AsyncWrite::poll_close) and dropping close it.
///
/// # Cancel safety
///
/// A cancelled write has written nothing.
#[derive(Debug)]
pub struct PipeWriter(Option<Async<File>>);

impl PipeWriter {
    /// Takes the file descriptor out and makes it blocking, as [`PipeReader::into_blocking_fd`]
    /// does.
    ///
    /// # Errors
    ///
    /// Fails if this end was closed, and with the errors of the system.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        into_blocking(self.0.ok_or_else(closed)?)
    }

    /// Returns `None` once this end is closed.
    #[cfg(target_os = "linux")] // for `splice`
    pub(crate) fn io(&self) -> Option<&Async<File>> {
        self.0.as_ref()
    }
}

/// # Panics
///
/// Panics if this end was closed.
impl AsFd for PipeWriter {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        let io = self.0.as_ref();
        io.expect("this end of the pipe was closed").as_fd()
    }
}

/// Returns the blocking file descriptor, as [`into_blocking_fd`](PipeWriter::into_blocking_fd)
/// does. If the system refuses to make it blocking, it stays non-blocking.
///
/// # Panics
///
/// Panics if this end was closed.
impl From<PipeWriter> for OwnedFd {
    #[track_caller]
    fn from(writer: PipeWriter) -> OwnedFd {
        into_owned(writer.0.expect("this end of the pipe was closed"))
    }
}

/// Lets a child write to the pipe. The [`Command`](crate::process::Command) has the writer until it
/// is dropped, and only then can the pipe end.
///
/// # Panics
///
/// Panics if this end was closed.
impl From<PipeWriter> for Stdio {
    #[track_caller]
    fn from(writer: PipeWriter) -> Stdio {
        OwnedFd::from(writer).into()
    }
}

impl TryFrom<ChildStdin> for PipeWriter {
    type Error = io::Error;

    fn try_from(stdin: ChildStdin) -> io::Result<PipeWriter> {
        Ok(PipeWriter(Some(nonblocking(stdin.into())?)))
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.as_ref().ok_or_else(closed)?;
        Pin::new(&mut pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.as_ref().ok_or_else(closed)?;
        Pin::new(&mut pipe).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Wakes a task that waits to write, for example by a lock around this. Its write fails.
        let closed = self.0.take().map(Async::into_inner).transpose();
        Poll::Ready(closed.map(drop))
    }
}

/// Creates a pipe with non-blocking, close-on-exec ends.
#[cfg(not(any(target_vendor = "apple", target_os = "aix")))]
pub(crate) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    ends.or_else(|_| ends_by_calls()) // other errors than of the flags recur
}

#[cfg(any(target_vendor = "apple", target_os = "aix"))]
pub(crate) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    ends_by_calls()
}

fn ends_by_calls() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe()?;
    for end in [&ends.0, &ends.1] {
        set_nonblocking(end.as_fd(), true)?;
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(ends)
}

/// Each end is an open file of its own, so the other end stays non-blocking.
fn into_blocking(io: Async<File>) -> io::Result<OwnedFd> {
    let pipe = io.into_inner()?;
    set_nonblocking(pipe.as_fd(), false)?;
    Ok(pipe.into())
}

/// As `into_blocking`, also if the system refuses to make it blocking.
fn into_owned(io: Async<File>) -> OwnedFd {
    let pipe = io.into_inner().expect("a pipe is never simulated");
    let _ = set_nonblocking(pipe.as_fd(), false);
    pipe.into()
}

fn nonblocking(pipe: OwnedFd) -> io::Result<Async<File>> {
    set_nonblocking(pipe.as_fd(), true)?;
    Async::new_nonblocking(pipe.into())
}
