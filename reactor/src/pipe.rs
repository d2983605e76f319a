//! Anonymous pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::io::Async;

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
/// use windlass_reactor::{block_on, io::pipe};
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
        PipeReader(Async::new_nonblocking(reader)?),
        PipeWriter(Some(Async::new_nonblocking(writer)?)),
    ))
}

/// The end of a [`pipe`] that is read. Its end comes when all writers are closed, those of other
/// processes included.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing.
#[derive(Debug)]
pub struct PipeReader(Async<OwnedFd>);

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
    /// use windlass_reactor::{block_on, io::pipe};
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

    pub(crate) fn io(&self) -> &Async<OwnedFd> {
        &self.0
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0
            .poll_read_with(cx, |fd| Ok(rustix::io::read(fd, &mut *buf)?))
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
pub struct PipeWriter(Option<Async<OwnedFd>>);

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
    pub(crate) fn io(&self) -> Option<&Async<OwnedFd>> {
        self.0.as_ref()
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = self.0.as_ref().ok_or_else(closed)?;
        pipe.poll_write_with(cx, |fd| Ok(rustix::io::write(fd, buf)?))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// A pipe whose ends are non-blocking and close-on-exec.
#[cfg(not(any(target_vendor = "apple", target_os = "aix")))]
pub(crate) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

#[cfg(any(target_vendor = "apple", target_os = "aix"))]
pub(crate) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe()?;
    for end in [&ends.0, &ends.1] {
        rustix::io::ioctl_fionbio(end, true)?;
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(ends)
}

/// Each end is an open file of its own, so this concerns nobody else.
fn into_blocking(io: Async<OwnedFd>) -> io::Result<OwnedFd> {
    let fd = io.into_inner()?;
    rustix::io::ioctl_fionbio(&fd, false)?;
    Ok(fd)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "this end of the pipe was closed")
}
