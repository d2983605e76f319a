//! The standard streams where no poller can watch them: a thread reads, and writes are direct.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use windlass_executor::discard_panic;
use windlass_reactor::Pool;
use windlass_reactor::shortage::cannot_start_thread;

use crate::io::NotSend;

/// The standard input of the process.
///
/// A read takes what is there, of a console a line. A thread of the process waits for it, from the
/// first read on that finds nothing until something comes, and doesn't hold up the end of the
/// program. A read that is dropped has taken nothing: what is typed later goes to the next one. For
/// lines, put it into a `BufReader`.
///
/// It has the same buffer as [`std::io::stdin`], which blocks while that thread waits; use one of
/// the two.
///
/// Any number of `Stdin` may read; each gets what the others haven't taken. Dropping one doesn't
/// close the stream itself.
///
/// # Errors
///
/// Those of the system, or that no thread can be had.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing. To wait for the next of `lines()` may be given up as
/// well: the stream keeps what it has of a line.
///
/// # Examples
///
/// Waits for an answer, for a while:
///
/// ```no_run
/// use futures::{StreamExt, AsyncBufReadExt, io::BufReader};
/// use std::time::Duration;
/// use windlass::{block_on, io::stdin, time::timeout};
///
/// block_on(async {
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
    Stdin(PhantomData)
}

/// The standard output of the process.
///
/// On Windows it is that of std without its buffer: each write blocks the loop until it's out, as
/// that of `println!` does. Any number of `Stdout` may write; dropping or closing one doesn't close
/// the stream itself.
///
/// # Errors
///
/// Those of the system. To a console only text can be written, in UTF-8.
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::{block_on, io::stdout};
///
/// block_on(stdout().write_all(b"ahoy\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdout() -> Stdout {
    Stdout(PhantomData)
}

/// The standard error of the process; all else as [`stdout`].
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::{block_on, io::stderr};
///
/// block_on(stderr().write_all(b"man overboard\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stderr() -> Stderr {
    Stderr(PhantomData)
}

/// Made by [`stdin`].
#[derive(Debug)]
pub struct Stdin(NotSend);

/// Made by [`stdout`].
#[derive(Debug)]
pub struct Stdout(NotSend);

/// Made by [`stderr`].
#[derive(Debug)]
pub struct Stderr(NotSend);

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_vectored(cx, &mut [IoSliceMut::new(buf)])
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut input = lock();
        if input.given < input.bytes.len() {
            let n = (&input.bytes[input.given..]).read_vectored(bufs)?;
            input.given += n;
            return Poll::Ready(Ok(n));
        }
        if let Some(over) = input.over.take() {
            return Poll::Ready(over.map(|()| 0));
        }
        if !input.reading {
            READER.run(read_more).map_err(cannot_start_thread)?.detach();
            input.reading = true;
        }
        if !input.wakers.iter().any(|known| known.will_wake(&waker)) {
            input.wakers.push(waker);
        }
        Poll::Pending
    }
}

macro_rules! writes {
    ($stream:ident, $std:path) => {
        impl AsyncWrite for $stream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.poll_write_vectored(cx, &[IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let mut std = $std().lock();
                let mut written = 0;
                for buf in bufs {
                    let n = match std.write(buf) {
                        Err(error) if written == 0 => return Poll::Ready(Err(error)),
                        n => n.unwrap_or(0), // the next write gets the error
                    };
                    written += n;
                    if n < buf.len() {
                        break;
                    }
                }
                Poll::Ready(std.flush().map(|()| written))
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

writes!(Stdout, std::io::stdout);
writes!(Stderr, std::io::stderr);

/// One thread, which ends with its read: so none is left while nobody reads.
static READER: Pool = Pool::new("windlass-stdin", 1, Duration::ZERO);

static INPUT: Mutex<Input> = Mutex::new(Input {
    bytes: Vec::new(),
    given: 0,
    over: None,
    reading: false,
    wakers: Vec::new(),
});

/// What the thread has read, for whoever comes first.
struct Input {
    bytes: Vec<u8>,
    /// How many of these were given away.
    given: usize,
    /// It has read an end, or failed; not told yet.
    over: Option<io::Result<()>>,
    /// A thread reads.
    reading: bool,
    /// Whom it wakes then.
    wakers: Vec<Waker>,
}

fn read_more() {
    let mut bytes = vec![0; 8 * 1024];
    let read = std::io::stdin().lock().read(&mut bytes);
    bytes.truncate(*read.as_ref().unwrap_or(&0));
    let mut input = lock();
    input.bytes = bytes;
    input.given = 0;
    input.over = match read {
        Ok(0) => Some(Ok(())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    input.reading = false;
    let wakers = std::mem::take(&mut input.wakers);
    drop(input);
    for waker in wakers {
        discard_panic(|| waker.wake());
    }
}

fn lock() -> MutexGuard<'static, Input> {
    INPUT.lock().unwrap_or_else(PoisonError::into_inner)
}
