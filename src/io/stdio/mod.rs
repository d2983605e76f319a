//! The standard streams of the process.

#[cfg(unix)]
#[path = "unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows.rs"]
mod platform;

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use platform::{Input, Output};

/// Returns the standard input of the process.
///
/// It is unbuffered. A read returns the bytes that are available, which on a terminal are one line.
/// Wrap it in a `BufReader` to read lines. The program can end during a pending read.
///
/// Use either this or [`std::io::stdin`]: bytes in the buffer of std are not seen here.
///
/// Any number of `Stdin` handles may read, and each byte goes to one of them. Dropping a handle
/// leaves the stream open.
///
/// # When it may block the loop
///
/// A regular file is read directly, which may take as long as its disk takes. A socket is read when
/// the system reports that it is readable, and so is a terminal that can't be reopened, for example
/// one of another user after `su`. If another process takes the input between the report and the
/// read, the read blocks, and the loop with it. On systems other than Linux this also holds for
/// pipes and terminals.
///
/// On Windows a thread reads while a read waits. It uses the buffer of [`std::io::stdin`], and
/// reads of std block as long as that thread waits.
///
/// # Errors
///
/// Reads fail with the errors of the system, and on Windows if no thread can be started. A closed
/// standard input reads as empty, because Rust programs open `/dev/null` in its place at the start.
///
/// # Cancel safety
///
/// A cancelled read has consumed nothing. Input that arrives later goes to the next read. The same
/// holds for the next line of `lines()`, because the stream keeps the part of the line that it has
/// read.
///
/// # Examples
///
/// Waits up to ten seconds for an answer:
///
/// ```no_run
/// use futures::{StreamExt, AsyncBufReadExt, io::BufReader};
/// use std::time::Duration;
/// use windlass::{io::stdin, time::timeout};
///
/// windlass::block_on(async {
///     let mut lines = BufReader::new(stdin()).lines();
///     match timeout(Duration::from_secs(10), lines.next()).await {
///         Ok(Some(line)) => println!("you said: {}", line?),
///         Ok(None) => println!("there will be no answer"),
///         Err(_) => println!("that took too long"),
///     }
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin(Input::stdin())
}

/// Returns the standard output of the process.
///
/// It is unbuffered, so each write is a system call. `println!` buffers up to the end of the line,
/// so a partial line may appear after text that is written here later.
///
/// While a terminal is stopped (Ctrl-S) or a pipe is full, a write waits and the loop keeps
/// running. Any number of `Stdout` handles may write. Dropping or closing one leaves the stream
/// open.
///
/// # When it may block the loop
///
/// A write may block in the cases that [`stdin`] lists. Where a write follows a report of the
/// system, it writes at most `PIPE_BUF` bytes, which fit as soon as the stream is writable.
///
/// On Windows each write blocks the loop until it is done, as `println!` does.
///
/// # Errors
///
/// Writes fail with the errors of the system, such as `BrokenPipe` if the reader is closed. A
/// Windows console takes only UTF-8 text.
///
/// # Cancel safety
///
/// A cancelled write has written nothing. A cancelled `write_all` may have written a part.
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::io::stdout;
///
/// windlass::block_on(stdout().write_all(b"ahoy\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdout() -> Stdout {
    Stdout(Output::stdout())
}

/// Returns the standard error of the process. It behaves as [`stdout`].
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::io::stderr;
///
/// windlass::block_on(stderr().write_all(b"man overboard\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stderr() -> Stderr {
    Stderr(Output::stderr())
}

/// The reader returned by [`stdin`].
#[derive(Debug)]
pub struct Stdin(Input);

/// The writer returned by [`stdout`].
#[derive(Debug)]
pub struct Stdout(Output);

/// The writer returned by [`stderr`].
#[derive(Debug)]
pub struct Stderr(Output);

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_vectored(cx, &mut [IoSliceMut::new(buf)])
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, bufs)
    }
}

macro_rules! writes {
    ($stream:ident) => {
        impl AsyncWrite for $stream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.poll_write_vectored(cx, &[IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, bufs)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    };
}

writes!(Stdout);
writes!(Stderr);
