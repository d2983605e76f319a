//! The ends of pipes to children where no poller can watch a pipe: threads read and write, one for
//! each operation that is under way.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use windlass_reactor::shortage::cannot_start_thread;
use windlass_reactor::{BlockingTask, Pool};

use super::closed;
use crate::io::NotSend;

/// A thread waits as long as the child is silent, so each pipe that is read has to have one; more
/// than these wait in line.
const MOST_THREADS: usize = 1024;

/// Longer than the pauses between operations: to start a thread costs some 50 µs.
const LINGER: Duration = Duration::from_secs(10);

static PIPES: Pool = Pool::new("windlass-pipe", MOST_THREADS, LINGER);

/// How many bytes an operation moves at most.
const CHUNK: usize = 16 * 1024;

/// The pipe, which is locked only by the operation that is under way.
type Shared<P> = Arc<Mutex<P>>;

/// The end of a pipe that is read. Its end comes when all writers are closed, those of other
/// processes included.
///
/// On Windows a thread reads, from the first read on and as long as nothing comes; 1,024 pipes can
/// be read at the same time. Dropped in the middle of a read, the pipe is closed only when
/// something has come.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing: what comes goes to the next one.
pub struct PipeReader {
    pipe: Shared<dyn Read + Send>,
    reading: Option<BlockingTask<io::Result<Vec<u8>>>>,
    /// What was read, and how much of it was given away.
    bytes: Vec<u8>,
    given: usize,
    thread: NotSend,
}

impl PipeReader {
    fn new(pipe: impl Read + Send + 'static) -> PipeReader {
        PipeReader {
            pipe: Arc::new(Mutex::new(pipe)),
            reading: None,
            bytes: Vec::new(),
            given: 0,
            thread: PhantomData,
        }
    }

    /// Appends what is there, and says how much that was; 0 at the end.
    pub(crate) fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let new = ready!(self.poll_fill(cx))?;
        bytes.extend_from_slice(new);
        let n = new.len();
        self.given += n;
        Poll::Ready(Ok(n))
    }

    /// What was read and not given away. Nothing at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.given == self.bytes.len() {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                none => {
                    let (pipe, bytes) = (self.pipe.clone(), mem::take(&mut self.bytes));
                    self.given = 0;
                    let reading = PIPES.run(move || read_into(bytes, &pipe));
                    none.insert(reading.map_err(cannot_start_thread)?)
                }
            };
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            self.bytes = read?;
        }
        Poll::Ready(Ok(&self.bytes[self.given..]))
    }
}

/// On a thread.
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
        self.given += n;
        Poll::Ready(Ok(n))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_fill(cx))?.read_vectored(bufs)?;
        self.given += n;
        Poll::Ready(Ok(n))
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").finish_non_exhaustive()
    }
}

/// The end of a pipe that is written.
///
/// On Windows a thread does the writing. So the error of a write, `BrokenPipe` when all readers are
/// closed, is told by the next write, flush or close. What was written goes there also if this is
/// dropped; at the end of the program it's lost if it wasn't flushed.
///
/// [`close`](futures_io::AsyncWrite::poll_close) flushes, and closes it.
///
/// # Cancel safety
///
/// A write that is dropped has written nothing.
pub struct PipeWriter {
    /// None once it's closed.
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
        self.writing = Some(writing.map_err(cannot_start_thread)?);
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
    /// The thread has the pipe as well, and closes it when it has written.
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

/// A panic under this lock leaves nothing half done but its own operation.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
