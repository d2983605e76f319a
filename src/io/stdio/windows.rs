//! The standard streams on Windows, where the poller can't watch them. A thread reads, and writes
//! are direct.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use windlass_executor::discard_panic;

use crate::Pool;
use crate::io::NotSend;

#[derive(Debug)]
pub(super) struct Input(NotSend);

impl Input {
    pub(super) fn stdin() -> Input {
        Input(PhantomData)
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut shared = lock();
        if shared.consumed < shared.bytes.len() {
            let n = (&shared.bytes[shared.consumed..]).read_vectored(bufs)?;
            shared.consumed += n;
            return Poll::Ready(Ok(n));
        }
        if let Some(end) = shared.end.take() {
            return Poll::Ready(end.map(|()| 0));
        }
        if !shared.is_reading {
            READER.run(read_more)?.detach();
            shared.is_reading = true;
        }
        if !shared.wakers.iter().any(|known| known.will_wake(&waker)) {
            shared.wakers.push(waker);
        }
        Poll::Pending
    }
}

#[derive(Debug)]
pub(super) struct Output(Stream, NotSend);

#[derive(Debug)]
enum Stream {
    Stdout,
    Stderr,
}

impl Output {
    pub(super) fn stdout() -> Output {
        Output(Stream::Stdout, PhantomData)
    }

    pub(super) fn stderr() -> Output {
        Output(Stream::Stderr, PhantomData)
    }

    pub(super) fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.0 {
            Stream::Stdout => write(io::stdout().lock(), bufs),
            Stream::Stderr => write(io::stderr().lock(), bufs),
        })
    }
}

fn write(mut stream: impl Write, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut written = 0;
    for buf in bufs {
        let n = match stream.write(buf) {
            Err(error) if written == 0 => return Err(error),
            n => n.unwrap_or(0), // the next write returns the error
        };
        written += n;
        if n < buf.len() {
            break;
        }
    }
    stream.flush().map(|()| written)
}

/// A pool of one thread, which exits after its read.
static READER: Pool = Pool::new("windlass-stdin", 1, Duration::ZERO);

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    bytes: Vec::new(),
    consumed: 0,
    end: None,
    is_reading: false,
    wakers: Vec::new(),
});

/// The bytes that the thread has read, for the first task that polls.
struct Shared {
    bytes: Vec<u8>,
    /// How many of the bytes tasks have read.
    consumed: usize,
    /// An end of file or an error for the next task that reads.
    end: Option<io::Result<()>>,
    /// A thread reads.
    is_reading: bool,
    /// The tasks that wait for the thread.
    wakers: Vec<Waker>,
}

fn read_more() {
    let mut bytes = vec![0; 8 * 1024];
    let read = io::stdin().lock().read(&mut bytes);
    bytes.truncate(*read.as_ref().unwrap_or(&0));
    let mut shared = lock();
    shared.bytes = bytes;
    shared.consumed = 0;
    shared.end = match read {
        Ok(0) => Some(Ok(())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    shared.is_reading = false;
    let wakers = std::mem::take(&mut shared.wakers);
    drop(shared);
    for waker in wakers {
        discard_panic(|| waker.wake());
    }
}

fn lock() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}
