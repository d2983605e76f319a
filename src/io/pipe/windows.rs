//! The ends of pipes to child processes on Windows, where the poller can't watch them. A thread
//! performs each operation in flight.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use super::closed;
use crate::io::NotSend;
use crate::{BlockingTask, Pool};

/// A read occupies a thread until the child writes, so each pipe that is read needs one. Further
/// operations are queued.
const MAX_THREADS: usize = 1024;

/// Longer than the pauses between operations. Starting a thread costs about 50 µs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

static PIPES: Pool = Pool::new("windlass-pipe", MAX_THREADS, IDLE_TIMEOUT);

/// The most bytes of one operation.
const CHUNK: usize = 16 * 1024;

/// The pipe, locked only by the operation in flight.
type Shared<P> = Arc<Mutex<P>>;

/// The reading end of a pipe. It ends when all writers are closed, including writers in other
/// processes.
///
/// On Windows a thread reads from the first read on, until bytes arrive. Up to 1,024 pipes can be
/// read at the same time. A pipe that is dropped during a read is closed when the read completes.
///
/// # Cancel safety
///
/// A cancelled read has consumed nothing. Bytes that arrive later go to the next read.
pub struct PipeReader {
    pipe: Shared<dyn Read + Send>,
    reading: Option<BlockingTask<io::Result<Vec<u8>>>>,
    /// The bytes of the last read.
    bytes: Vec<u8>,
    /// How many of them the caller has consumed.
    consumed: usize,
    thread: NotSend,
}

impl PipeReader {
    fn new(pipe: impl Read + Send + 'static) -> PipeReader {
        PipeReader {
            pipe: Arc::new(Mutex::new(pipe)),
            reading: None,
            bytes: Vec::new(),
            consumed: 0,
            thread: PhantomData,
        }
    }

    /// Appends the available bytes to `bytes` and returns their number, 0 at the end.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let new = ready!(self.poll_fill(cx))?;
        bytes.extend_from_slice(new);
        let n = new.len();
        self.consumed += n;
        Poll::Ready(Ok(n))
    }

    /// Returns the unconsumed bytes, or an empty slice at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.consumed == self.bytes.len() {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                none => {
                    let (pipe, bytes) = (self.pipe.clone(), mem::take(&mut self.bytes));
                    self.consumed = 0;
                    let reading = PIPES.run(move || read_into(bytes, &pipe));
                    none.insert(reading?)
                }
            };
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            self.bytes = read?;
        }
        Poll::Ready(Ok(&self.bytes[self.consumed..]))
    }
}

/// Runs on a thread of the pool.
fn read_into(mut bytes: Vec<u8>, pipe: &Mutex<dyn Read + Send>) -> io::Result<Vec<u8>> {
    bytes.resize(CHUNK, 0);
    let n = lock(pipe).read(&mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

impl TryFrom<ChildStdout> for PipeReader {
    type Error = io::Error;

    fn try_from(stdout: ChildStdout) -> io::Result<PipeReader> {
        Ok(PipeReader::new(stdout))
    }
}

impl TryFrom<ChildStderr> for PipeReader {
    type Error = io::Error;

    fn try_from(stderr: ChildStderr) -> io::Result<PipeReader> {
        Ok(PipeReader::new(stderr))
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_fill(cx))?.read(buf)?;
        self.consumed += n;
        Poll::Ready(Ok(n))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_fill(cx))?.read_vectored(bufs)?;
        self.consumed += n;
        Poll::Ready(Ok(n))
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").finish_non_exhaustive()
    }
}

/// The writing end of a pipe.
///
/// On Windows a thread writes. So the next write, flush or close returns the error of a write:
/// `BrokenPipe` when all readers are closed. Dropping this lets the write in flight complete. The
/// end of the program loses an unflushed write.
///
/// [`close`](futures_io::AsyncWrite::poll_close) flushes and closes it.
///
/// # Cancel safety
///
/// A cancelled write has written nothing.
pub struct PipeWriter {
    /// `None` once it is closed.
    pipe: Option<Shared<ChildStdin>>,
    writing: Option<BlockingTask<io::Result<()>>>,
    thread: NotSend,
}

impl TryFrom<ChildStdin> for PipeWriter {
    type Error = io::Error;

    fn try_from(stdin: ChildStdin) -> io::Result<PipeWriter> {
        Ok(PipeWriter {
            pipe: Some(Arc::new(Mutex::new(stdin))),
            writing: None,
            thread: PhantomData,
        })
    }
}

impl AsyncWrite for PipeWriter {
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
        ready!(self.as_mut().poll_flush(cx))?;
        let pipe = self.pipe.clone().ok_or_else(closed)?;
        let mut bytes = Vec::new();
        for buf in bufs {
            let n = buf.len().min(CHUNK - bytes.len());
            bytes.extend_from_slice(&buf[..n]);
        }
        let n = bytes.len();
        let writing = PIPES.run(move || lock(&pipe).write_all(&bytes));
        self.writing = Some(writing?);
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

impl Drop for PipeWriter {
    /// The thread shares the pipe, and closes it after its write.
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.detach();
        }
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter")
            .field("closed", &self.pipe.is_none())
            .finish_non_exhaustive()
    }
}

/// A panic under this lock leaves only its own operation incomplete.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
