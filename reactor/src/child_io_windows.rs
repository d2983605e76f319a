//! A child's standard streams where no poller can watch a pipe: threads read and write, one for
//! each operation that is under way.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::pool::{BlockingTask, Pool};
use crate::stdio::OnItsThread;

/// A thread waits as long as the child is silent, so each pipe that is read has to have one; more
/// than these wait in line.
const MOST_THREADS: usize = 1024;

/// Longer than the pauses between operations: to start a thread costs some 50 µs.
const LINGER: Duration = Duration::from_secs(10);

static PIPES: Pool = Pool::new("windlass-child", MOST_THREADS, LINGER);

/// How many bytes an operation moves at most.
const CHUNK: usize = 16 * 1024;

/// A child's standard input.
///
/// To write when the child reads no more is an error (`BrokenPipe`), which the next write or flush
/// tells of: on Windows a thread does the writing. So does what is written still go to the child
/// when this is dropped; at the end of the program it's lost if it wasn't flushed.
///
/// [`close`](AsyncWrite::poll_close) flushes and closes it, and the child reads an end.
///
/// # Cancel safety
///
/// A write that is dropped has written nothing.
pub struct ChildStdin {
    /// None once it's closed.
    pipe: Option<Shared<std::process::ChildStdin>>,
    writing: Option<BlockingTask<io::Result<()>>>,
    thread: OnItsThread,
}

/// The pipe, and the operation on it. Locked only by the one that is under way.
type Shared<P> = Arc<Mutex<P>>;

impl TryFrom<std::process::ChildStdin> for ChildStdin {
    type Error = io::Error;

    fn try_from(stdin: std::process::ChildStdin) -> io::Result<ChildStdin> {
        Ok(ChildStdin {
            pipe: Some(Arc::new(Mutex::new(stdin))),
            writing: None,
            thread: PhantomData,
        })
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let pipe = self.pipe.clone().ok_or_else(closed)?;
        let bytes = buf[..buf.len().min(CHUNK)].to_vec();
        let n = bytes.len();
        self.writing = Some(PIPES.run(move || lock(&pipe).write_all(&bytes))?);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(Ok(()));
        };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        Poll::Ready(written)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.as_mut().poll_flush(cx));
        self.pipe = None;
        Poll::Ready(flushed)
    }
}

impl Drop for ChildStdin {
    /// The thread has the pipe as well, and closes it when it has written.
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.detach();
        }
    }
}

impl fmt::Debug for ChildStdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildStdin")
            .field("closed", &self.pipe.is_none())
            .finish_non_exhaustive()
    }
}

/// A child's standard output.
///
/// It ends when nobody can write to it any more: neither the child, nor those of its own children
/// that have inherited it.
///
/// On Windows a thread reads, from the first read on and as long as the child is silent; 1,024
/// pipes can be read at the same time. Dropped in the middle of a read, the pipe is closed only
/// when the child has written something or ended.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing: what comes goes to the next one.
pub struct ChildStdout {
    pub(crate) io: Reader<std::process::ChildStdout>,
}

/// A child's standard error, as [`ChildStdout`].
pub struct ChildStderr {
    pub(crate) io: Reader<std::process::ChildStderr>,
}

/// What both can.
macro_rules! output_stream {
    ($output:ident) => {
        impl TryFrom<std::process::$output> for $output {
            type Error = io::Error;

            fn try_from(output: std::process::$output) -> io::Result<$output> {
                let io = Reader::new(output);
                Ok($output { io })
            }
        }

        impl AsyncRead for $output {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.io.poll_read(cx, buf)
            }
        }

        impl fmt::Debug for $output {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($output)).finish_non_exhaustive()
            }
        }
    };
}

output_stream!(ChildStdout);
output_stream!(ChildStderr);

/// A pipe from which threads read.
pub(crate) struct Reader<P> {
    pipe: Shared<P>,
    reading: Option<BlockingTask<io::Result<Vec<u8>>>>,
    /// What was read, and how much of it was given away.
    bytes: Vec<u8>,
    given: usize,
    thread: OnItsThread,
}

impl<P: Read + Send + 'static> Reader<P> {
    fn new(pipe: P) -> Reader<P> {
        Reader {
            pipe: Arc::new(Mutex::new(pipe)),
            reading: None,
            bytes: Vec::new(),
            given: 0,
            thread: PhantomData,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.given == self.bytes.len() {
            ready!(self.poll_fill(cx))?;
        }
        let n = (&self.bytes[self.given..]).read(buf)?;
        self.given += n;
        Poll::Ready(Ok(n))
    }

    /// Reads the next bytes. There are none at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => {
                let pipe = self.pipe.clone();
                let mut bytes = std::mem::take(&mut self.bytes);
                self.given = 0;
                none.insert(PIPES.run(move || {
                    bytes.resize(CHUNK, 0);
                    let n = lock(&pipe).read(&mut bytes)?;
                    bytes.truncate(n);
                    Ok(bytes)
                })?)
            }
        };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.bytes = read?;
        Poll::Ready(Ok(()))
    }
}

/// All that comes from a pipe.
pub(crate) struct Collected<P> {
    /// None once it has ended, or if there is none.
    pipe: Option<Reader<P>>,
    pub(crate) bytes: Vec<u8>,
}

impl<P: Read + Send + 'static> Collected<P> {
    pub(crate) fn new(pipe: Option<Reader<P>>) -> Collected<P> {
        let bytes = Vec::new();
        Collected { pipe, bytes }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe {
            if pipe.given == pipe.bytes.len() {
                ready!(pipe.poll_fill(cx))?;
            }
            let new = &pipe.bytes[pipe.given..];
            self.bytes.extend_from_slice(new);
            pipe.given = pipe.bytes.len();
            if pipe.bytes.is_empty() {
                self.pipe = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "this standard input was closed")
}
