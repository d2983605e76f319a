//! What is asked of the system about files, and the two ways that it takes: a ring that the kernel
//! works on, or a pool of threads.

use std::future::Future;
use std::io;
use std::mem;
use std::ops::Deref;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::OpenOptions;
use super::files::Files;
use super::line::{Line, Ticket};
use super::platform::{self, SystemPath};
use super::ring::{Dropped, Ring, is_refused};
use crate::{BlockingTask, Pool};
use windlass_reactor::budget::{poll_charge, refund};
use windlass_reactor::completion::Registration;
use windlass_reactor::fork;
use windlass_reactor::wake::{discard_panic, wake_all};

/// How much an operation reads or writes at most (bytes): while the data is in memory, the kernel
/// copies it at once, on the loop's thread, and that is 20 to 40 µs for so much.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// So many threads at once ask the system about files. Disks have queues of 32 to 1,024 places;
/// beyond that, threads cost memory and bring nothing.
const MOST_THREADS: usize = 64;

/// A pool of its own, so that files wait for nothing else, not even for closures that wait for
/// files.
static FILES: Pool = Pool::new("windlass-files", MOST_THREADS, Duration::from_secs(10));

/// Threads for pipes with a name, terminals and other devices, which may wait for a peer without
/// end. There is no limit, so that they hold up neither files nor one another.
static PEERS: Pool = Pool::new("windlass-peers", usize::MAX, Duration::ZERO);

/// An operation, and everything that it needs. Its caller may be gone by the time that the system
/// reads or writes the memory.
pub(crate) enum Operation {
    /// Appends to the buffer.
    Read {
        file: Ticket,
        buffer: Vec<u8>,
        wanted: usize,
        at: Place,
    },
    /// A first part of the buffer, or all of it in pieces: whoever writes at a cursor goes on, and
    /// can't say any more what to do with a rest.
    Write {
        file: Ticket,
        buffer: Vec<u8>,
        at: Place,
        all: bool,
        /// Its caller has gone on: an error is for a later operation.
        in_background: bool,
        /// What the buffer has before it is only there to align it.
        from: u16,
        /// How many bytes were written.
        done: usize,
    },
    Sync {
        file: Ticket,
        data_only: bool,
    },
    Open(Box<Opening>),
    Close(Option<std::fs::File>),
    /// It's still under way, but nothing turns that could bring it back.
    Lost,
}

/// An open. It is boxed, because it is the largest operation.
pub(crate) struct Opening {
    pub(crate) path: SystemPath,
    pub(crate) options: OpenOptions,
    pub(crate) opened: Option<std::fs::File>,
}

/// Where to read or write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Offset(u64),
    /// At the position of the open file description, which moves on. Threads do this for files:
    /// io_uring doesn't lock the position, and (Linux 6.18) leaves it where it was after a write of
    /// which a full disk has taken a part, so that the next write would overwrite that.
    Cursor,
}

impl Place {
    pub(crate) fn after(self, bytes: usize) -> Place {
        match self {
            Place::Offset(offset) => Place::Offset(offset.saturating_add(bytes as u64)),
            Place::Cursor => Place::Cursor,
        }
    }
}

/// An operation that has ended: how many bytes were read or written, and what it was given.
pub(crate) type Ended = (io::Result<usize>, Operation);

impl Operation {
    /// How many bytes it may move.
    pub(crate) fn len(&self) -> usize {
        match self {
            Operation::Read { wanted, .. } => *wanted,
            Operation::Write {
                buffer, from, done, ..
            } => (buffer.len() - usize::from(*from) - done).min(MOST_BYTES),
            _ => 0,
        }
    }

    /// What it has read into or written from.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        match self {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => buffer,
            _ => Vec::new(),
        }
    }

    /// What it has opened.
    pub(crate) fn into_opened(self) -> Option<std::fs::File> {
        match self {
            Operation::Open(opening) => opening.opened,
            _ => None,
        }
    }

    /// Does it here and now, on a thread that may block.
    fn perform(mut self) -> Ended {
        loop {
            let mut result = self.attempt();
            if !self.goes_on(&mut result) {
                let mut wakers = Vec::new();
                self.finish(&mut result, &mut wakers);
                wake_all(wakers);
                return (result, self);
            }
        }
    }

    /// The system is done with it: it leaves the line of its handle. The caller wakes those whose
    /// turn it is.
    pub(crate) fn finish(&mut self, result: &mut io::Result<usize>, wakers: &mut Vec<Waker>) {
        match self {
            Operation::Write {
                file,
                buffer,
                in_background: true,
                ..
            } => {
                let error = mem::replace(result, Ok(0)).err();
                file.finish_in_background(error, mem::take(buffer), wakers);
            }
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file, .. } => file.finish(wakers),
            _ => {}
        }
    }

    /// As [`finish`](Operation::finish), on the thread of the ring that has done it.
    #[inline]
    pub(crate) fn finish_on_ring(
        &mut self,
        result: &mut io::Result<usize>,
        wakers: &mut Vec<Waker>,
    ) {
        match self {
            Operation::Read { file, .. }
            | Operation::Write {
                file,
                in_background: false,
                ..
            } => file.finish_on_ring(wakers),
            _ => self.finish(result, wakers),
        }
    }

    /// The handle that it is about, while it isn't over.
    fn handle(&self) -> Option<&Handle> {
        match self {
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The threads that may do it.
    fn pool(&self) -> &'static Pool {
        match self.handle() {
            Some(handle) if handle.is_stream => &PEERS,
            _ => &FILES,
        }
    }

    /// Whether only a thread does it as std would.
    fn is_for_threads(&self) -> bool {
        let (Operation::Read { file, at, .. } | Operation::Write { file, at, .. }) = self else {
            return false;
        };
        file.is_nonblocking || (matches!(at, Place::Cursor) && !file.is_stream)
    }

    /// After a part of it was done, or a signal came: whether the rest is to be done as well.
    pub(crate) fn goes_on(&mut self, result: &mut io::Result<usize>) -> bool {
        if matches!(result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            return true;
        }
        let Operation::Write {
            buffer,
            from,
            done,
            all,
            ..
        } = self
        else {
            return false;
        };
        let len = buffer.len() - usize::from(*from);
        match result {
            Ok(0) if *all && *done < len => *result = Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *done += *n,
            Err(_) => {}
        }
        *all && result.is_ok() && *done < len
    }

    fn attempt(&mut self) -> io::Result<usize> {
        let len = self.len();
        match self {
            Operation::Read {
                file, buffer, at, ..
            } => {
                let old = buffer.len();
                buffer.resize(old + len, 0);
                let read = platform::read(file, &mut buffer[old..], *at);
                buffer.truncate(old + *read.as_ref().unwrap_or(&0));
                read
            }
            Operation::Write {
                file,
                buffer,
                at,
                from,
                done,
                ..
            } => platform::write(
                file,
                &buffer[usize::from(*from) + *done..][..len],
                at.after(*done),
            ),
            Operation::Sync { file, data_only } if *data_only => file.sync_data().map(|()| 0),
            Operation::Sync { file, .. } => file.sync_all().map(|()| 0),
            Operation::Open(opening) => {
                let path = platform::path(&opening.path);
                opening.opened = Some(opening.options.std().open(path)?);
                Ok(0)
            }
            Operation::Close(file) => file.take().map_or(Ok(()), platform::close).map(|()| 0),
            Operation::Lost => Ok(0),
        }
    }
}

/// An open file. Operations in flight share it, so that its descriptor can't become another
/// file's meanwhile. The last of them closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(super) file: std::fs::File,
    /// The order of its operations.
    pub(super) line: Arc<Line>,
    /// A pipe, a socket, a terminal or another device: it may wait for a peer.
    pub(crate) is_stream: bool,
    /// It was opened with `O_NONBLOCK`, which io_uring understands in its own way.
    pub(crate) is_nonblocking: bool,
    /// It was opened with `O_DIRECT`: memory has to be aligned.
    pub(crate) is_direct: bool,
    /// What is written goes to the end.
    pub(crate) appends: bool,
    /// It was opened to be written, as far as is known.
    pub(crate) writes: bool,
}

impl Handle {
    pub(crate) fn new(file: std::fs::File) -> Handle {
        platform::handle(file)
    }

    pub(crate) fn into_file(self) -> std::fs::File {
        self.file
    }
}

impl Deref for Handle {
    type Target = std::fs::File;

    fn deref(&self) -> &std::fs::File {
        &self.file
    }
}

/// An operation under way: a future of its end. Given up when it's dropped.
pub(crate) struct Doing(Way);

enum Way {
    Ring {
        files: Registration<Files>,
        slot: u32,
    },
    Pool(OnPool<Ended>),
    /// It could not begin.
    Failed(Box<io::Error>),
    Over,
}

/// Begins an operation: on this thread's ring if there's one and something turns, and otherwise on
/// the pool.
pub(crate) fn start(operation: Operation) -> Doing {
    if !operation.is_for_threads() {
        if let Some(files) = Files::driven() {
            if let Some(ring) = files.ring() {
                let slot = ring.start(operation);
                Files::begun(&files);
                return Doing(Way::Ring { files, slot });
            }
        }
    }
    Doing(start_on_thread(operation))
}

fn start_on_thread(operation: Operation) -> Way {
    let pool = operation.pool();
    match pool.run(move || operation.perform()).map(OnPool) {
        Ok(task) => Way::Pool(task),
        Err(error) => Way::lost(error),
    }
}

/// What a ring is done with, for the caller to go on with under no borrow.
#[derive(Default)]
pub(crate) struct Collected {
    /// Operations that are over and that nobody comes for.
    pub(crate) ended: Vec<Operation>,
    /// Operations that nobody comes for and that the ring can't do.
    pub(crate) refused: Vec<Operation>,
}

/// Drops what is over, and leaves the rest to threads.
#[cold]
pub(crate) fn end_files(collected: Collected) {
    collected.refused.into_iter().for_each(leave_to_thread);
    drop(collected.ended);
}

#[cold]
fn leave_to_thread(operation: Operation) {
    let pool = operation.pool();
    let ours = Arc::new(Mutex::new(Some(operation)));
    let theirs = ours.clone();
    let take = |it: &Mutex<Option<Operation>>| {
        let operation = it.lock().unwrap_or_else(PoisonError::into_inner).take();
        operation.unwrap_or(Operation::Lost)
    };
    match pool.run(move || take(&theirs).perform()) {
        Ok(task) => leave(task),
        Err(error) => {
            // The next operation on the handle returns the error.
            let mut wakers = Vec::new();
            take(&ours).finish(&mut Err(error), &mut wakers);
            wake_all(wakers);
        }
    }
}

/// Nobody comes for the task. The end of this thread's loop waits for it.
fn leave(task: BlockingTask<Ended>) {
    match Files::driven() {
        Some(files) => files.leave_to_thread(task),
        None => task.detach(),
    }
}

/// Whether operations that are begun here and now go to a ring.
pub(crate) fn has_ring() -> bool {
    Files::driven().is_some_and(|files| files.ring().is_some())
}

/// As [`start`], for what only a thread can do.
pub(crate) async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_on_pool(work)?.await
}

/// As [`on_pool`], for futures written by hand.
pub(crate) fn spawn_on_pool<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<OnPool<T>> {
    FILES.run(work).map(OnPool)
}

/// As [`on_pool`], for what a path may make wait for a peer: then it has a thread of its own.
pub(crate) async fn on_pool_with_paths<T, F, const N: usize>(
    paths: [&Path; N],
    work: F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let paths = paths.map(Path::to_owned);
    let look = move || {
        if paths.iter().any(|path| platform::may_wait(path)) {
            return PEERS.run(work).map(Err); // begins now, and not at the next poll
        }
        work().map(Ok)
    };
    match on_pool(look).await? {
        Ok(output) => Ok(output),
        Err(waits) => OnPool(waits).await,
    }
}

/// The work of a thread on files. The task's budget bounds how many results one poll takes.
pub(crate) struct OnPool<T>(BlockingTask<T>);

impl<T> Future for OnPool<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        ready!(poll_charge(cx));
        let polled = Pin::new(&mut self.0).poll(cx);
        if polled.is_pending() {
            refund();
        }
        polled
    }
}

impl Doing {
    /// Lets it go on to its end.
    ///
    /// # Errors
    ///
    /// If it could not begin.
    pub(crate) fn detach(mut self) -> io::Result<()> {
        match self.take() {
            Way::Ring { files, slot } => {
                drop(ring_of(&files).map(|ring| ring.detach(slot)));
                Files::leave_to_ring(&files);
            }
            Way::Pool(task) => leave(task.0),
            Way::Failed(error) => return Err(*error),
            Way::Over => {}
        }
        Ok(())
    }

    /// The ring can't do it: a thread does.
    #[cold]
    fn start_over(&mut self, polled: Poll<Ended>) {
        if let Poll::Ready((_, operation)) = polled {
            self.0 = start_on_thread(operation);
        }
    }

    /// The end of an operation that can't go on: nothing turns its ring, or this is a forked child.
    #[cold]
    fn lose(&mut self) -> Poll<Ended> {
        let not_driven = match &self.0 {
            Way::Ring { files, .. } => files.check_driven().err(),
            _ => None,
        };
        let error = not_driven.unwrap_or_else(|| fork::error("this operation on a file"));
        drop(self.take().give_up());
        Poll::Ready((Err(error), Operation::Lost))
    }

    fn take(&mut self) -> Way {
        mem::replace(&mut self.0, Way::Over)
    }
}

impl Future for Doing {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Way::Ring { files, slot } = &self.0 {
            let mut left = None;
            let Some(ring) = ring_of(files) else {
                return self.lose(); // in a forked child
            };
            let polled = ring.poll(*slot, cx, &mut left);
            match &polled {
                Poll::Pending if files.is_driven() => return Poll::Pending,
                Poll::Pending => return self.lose(),
                Poll::Ready((result, _)) if is_refused(result) => self.start_over(polled),
                Poll::Ready(_) => {
                    self.0 = Way::Over;
                    // A panic of a waker's drop must not cost the result.
                    if left.is_some() {
                        discard_panic(|| drop(left));
                    }
                    return polled;
                }
            }
        }
        let ended = match &mut self.0 {
            Way::Pool(task) if task.0.is_inherited() => return self.lose(),
            Way::Pool(task) => ready!(Pin::new(task).poll(cx)),
            _ => self.take().into_failed(),
        };
        self.0 = Way::Over;
        Poll::Ready(ended)
    }
}

/// The ring of operations that were begun. None in a forked child: its entries would be carried out
/// in the parent's memory.
#[inline]
fn ring_of(files: &Registration<Files>) -> Option<&Ring> {
    files.ring().filter(|_| !files.is_inherited())
}

impl Way {
    fn lost(error: io::Error) -> Way {
        Way::Failed(Box::new(error))
    }

    #[cold]
    fn into_failed(self) -> Ended {
        match self {
            Way::Failed(error) => (Err(*error), Operation::Lost),
            _ => unreachable!("polled after its end"),
        }
    }

    /// The kernel is told, the pool need not be. The caller drops what comes back.
    fn give_up(&self) -> Option<Dropped> {
        let Way::Ring { files, slot } = self else {
            return None;
        };
        let given_up = ring_of(files)?.give_up(*slot);
        Files::leave_to_ring(files);
        Some(given_up)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        drop(self.0.give_up());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_has_interrupted_goes_on_and_other_errors_end_it() {
        let goes_on = |error: io::ErrorKind| Operation::Close(None).goes_on(&mut Err(error.into()));
        assert!(goes_on(io::ErrorKind::Interrupted));
        assert!(!goes_on(io::ErrorKind::NotFound));
    }
}
