//! A child's standard streams.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::io::Async;

/// How many bytes of a child's output are collected in one operation at most: so one that never
/// stops writing gives way to others, as any source that is always ready.
const CHUNK: u64 = 64 * 1024;

/// A child's standard input.
///
/// To write when the child reads no more is an error (`BrokenPipe`). The system also sends
/// `SIGPIPE`, which Rust programs ignore; in a host that isn't one, ignore it there.
///
/// [`close`](AsyncWrite::poll_close) closes it, as dropping does, and the child reads an end.
///
/// # Cancel safety
///
/// A write that is dropped has written nothing.
#[derive(Debug)]
pub struct ChildStdin {
    /// None once it's closed.
    io: Option<Async<File>>,
}

impl ChildStdin {
    /// Takes the descriptor out and makes it blocking, as other programs expect it: for the
    /// [`Stdio`] of another child, say.
    ///
    /// # Errors
    ///
    /// If it was closed.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        into_blocking(self.io.ok_or_else(closed)?)
    }
}

impl TryFrom<std::process::ChildStdin> for ChildStdin {
    type Error = io::Error;

    fn try_from(stdin: std::process::ChildStdin) -> io::Result<ChildStdin> {
        let io = Some(nonblocking(stdin.into())?);
        Ok(ChildStdin { io })
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut io = self.io.as_ref().ok_or_else(closed)?;
        Pin::new(&mut io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io = None;
        Poll::Ready(Ok(()))
    }
}

/// A child's standard output.
///
/// It ends when nobody can write to it any more: neither the child, nor those of its own children
/// that have inherited it.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing.
///
/// # Examples
///
/// What one child writes, another reads:
///
/// ```
/// use windlass_reactor::{block_on, process::{Command, Stdio}};
///
/// block_on(async {
///     let mut echo = Command::new("echo").arg("ahoy").stdout(Stdio::piped()).spawn()?;
///     let words = echo.stdout.take().expect("it is piped").into_blocking_fd()?;
///     let count = Command::new("wc").arg("-c").stdin(words).output().await?;
///     assert_eq!(count.stdout.trim_ascii(), b"5");
///     assert!(echo.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ChildStdout {
    pub(crate) io: Async<File>,
}

/// A child's standard error, as [`ChildStdout`].
#[derive(Debug)]
pub struct ChildStderr {
    pub(crate) io: Async<File>,
}

/// What both can.
macro_rules! output_stream {
    ($output:ident) => {
        impl $output {
            /// Takes the descriptor out and makes it blocking, as other programs expect it: for
            /// the [`Stdio`] of another child, say.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
                into_blocking(self.io)
            }
        }

        impl TryFrom<std::process::$output> for $output {
            type Error = io::Error;

            fn try_from(output: std::process::$output) -> io::Result<$output> {
                let io = nonblocking(output.into())?;
                Ok($output { io })
            }
        }

        impl AsyncRead for $output {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.io).poll_read(cx, buf)
            }
        }

        impl AsFd for $output {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.io.as_fd()
            }
        }
    };
}

output_stream!(ChildStdout);
output_stream!(ChildStderr);

/// Our end of a pipe. It's an open file of its own: the child's end stays blocking.
fn nonblocking(pipe: OwnedFd) -> io::Result<Async<File>> {
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Async::new_nonblocking(pipe.into())
}

fn into_blocking(io: Async<File>) -> io::Result<OwnedFd> {
    let pipe = io.into_inner()?;
    rustix::io::ioctl_fionbio(&pipe, false)?;
    Ok(pipe.into())
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "this standard input was closed")
}

/// All that comes from a pipe.
pub(crate) struct Collected {
    /// None once it has ended, or if there is none.
    pipe: Option<Async<File>>,
    pub(crate) bytes: Vec<u8>,
}

impl Collected {
    pub(crate) fn new(pipe: Option<Async<File>>) -> Collected {
        let bytes = Vec::new();
        Collected { pipe, bytes }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pipe) = &self.pipe {
            // What was read before `WouldBlock` is kept as well.
            let read = |pipe: &File| pipe.take(CHUNK).read_to_end(&mut self.bytes);
            if ready!(pipe.poll_read_with(cx, read))? == 0 {
                self.pipe = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
