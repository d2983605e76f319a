//! Anonymous pipes.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use windlass_reactor::{Async, set_nonblocking};

use super::closed;

/// How many bytes `poll_append` takes in one operation at most: so a child that never stops writing
/// gives way to others, as any source that is always ready.
const CHUNK: u64 = 64 * 1024;

/// Makes a pipe: what is written at one end is read at the other.
///
/// Both ends are close-on-exec. To give one to another program, see
/// [`into_blocking_fd`](PipeReader::into_blocking_fd).
///
/// # Errors
///
/// If the descriptors can't be had.
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
    let (reader, writer) = ends()?;
    Ok((
        PipeReader(Async::new_nonlingering(reader.into())?),
        PipeWriter(Some(Async::new_nonlingering(writer.into())?)),
    ))
}

/// The end of a [`pipe`] that is read. Its end comes when all writers are closed, those of other
/// processes included.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing.
#[derive(Debug)]
pub struct PipeReader(Async<File>);

impl PipeReader {
    /// Takes the descriptor out and makes it blocking, as other programs expect it, for a child's
    /// [`Stdio`](std::process::Stdio) say.
    ///
    /// # Errors
    ///
    /// Those of the system.
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

    /// Appends what is there, and says how much that was; 0 at the end.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        // What was read before `WouldBlock` is kept as well.
        let read = |pipe: &File| pipe.take(CHUNK).read_to_end(bytes);
        self.0.poll_read_with(cx, read)
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

/// The end of a [`pipe`] that is written. To write when all readers are closed is an error
/// (`BrokenPipe`).
///
/// [`close`](futures_io::AsyncWrite::poll_close) closes it, as dropping does.
///
/// # Cancel safety
///
/// A write that is dropped has written nothing.
#[derive(Debug)]
pub struct PipeWriter(Option<Async<File>>);

impl PipeWriter {
    /// As [`PipeReader::into_blocking_fd`].
    ///
    /// # Errors
    ///
    /// If it was closed, and those of the system.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        into_blocking(self.0.ok_or_else(closed)?)
    }

    /// None once it's closed.
    #[cfg(target_os = "linux")] // for `splice`
    pub(crate) fn io(&self) -> Option<&Async<File>> {
        self.0.as_ref()
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
        // Wakes a task that waits to write, for example by a lock around this: it gets the error.
        let closed = self.0.take().map(Async::into_inner).transpose();
        Poll::Ready(closed.map(drop))
    }
}

/// A pipe whose ends are non-blocking and close-on-exec.
#[cfg(not(any(target_vendor = "apple", target_os = "aix")))]
pub(crate) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    ends.or_else(|_| ends_by_calls()) // which fails as well if it isn't the flags
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

/// Each end is an open file of its own, so this concerns nobody else.
fn into_blocking(io: Async<File>) -> io::Result<OwnedFd> {
    let pipe = io.into_inner()?;
    set_nonblocking(pipe.as_fd(), false)?;
    Ok(pipe.into())
}

fn nonblocking(pipe: OwnedFd) -> io::Result<Async<File>> {
    set_nonblocking(pipe.as_fd(), true)?;
    Async::new_nonblocking(pipe.into())
}
