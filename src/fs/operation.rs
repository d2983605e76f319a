//! Operations on files, and their two back ends, io_uring and a pool of threads.

use std::future::Future;
use std::io;
use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::OpenOptions;
use super::files::Files;
use super::handle::Handle;
use super::order::OperationGuard;
use super::platform::{self, SystemPath};
use super::position::Position;
use super::ring::{Leftover, Ring, is_refused};
use super::simulation::{self, Task, is_simulated};
use crate::waits::{FileOperation, FileOperationKind};
use crate::{BlockingTask, Pool};
use windlass_reactor::budget::{poll_charge, refund};
use windlass_reactor::completion::Registration;
use windlass_reactor::fork;
use windlass_reactor::wake::{discard_panic, wake_all};

/// How much an operation reads or writes at most (bytes). If the page cache has the data, the
/// kernel copies it on the loop's thread. For this size that takes 20 to 40 µs.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// How many threads perform operations at once. Disks have queues of 32 to 1,024 entries. More
/// threads would only cost memory.
const MAX_THREADS: usize = 64;

/// The pool of files. Other closures have other pools, so files never wait for closures that wait
/// for files.
static FILES: Pool = Pool::new("windlass-files", MAX_THREADS, Duration::from_secs(10));

/// Threads for named pipes, terminals and other devices, which may wait for a peer without end.
/// Their number is unlimited, so each blocks only itself.
static PEERS: Pool = Pool::new("windlass-peers", usize::MAX, Duration::ZERO);

/// A closure on the pool of files, in the list of waits.
pub(crate) const OTHER: FileOperation = FileOperation {
    kind: FileOperationKind::Other,
    fd: None,
};

/// An operation, and everything that it needs. Its caller may be gone by the time that the system
/// reads or writes the memory.
pub(crate) enum Operation {
    /// Appends to the buffer.
    Read {
        file: OperationGuard,
        buffer: Vec<u8>,
        wanted: usize,
        at: Position,
    },
    /// Writes a first part of the buffer, or all of it in pieces. A background write must write
    /// all, because its caller has already returned.
    Write {
        file: OperationGuard,
        buffer: Vec<u8>,
        at: Position,
        all: bool,
        /// The caller has already returned. A later operation returns the error.
        in_background: bool,
        /// Where the data starts. The bytes before only align it.
        from: u16,
        /// How many bytes were written.
        done: usize,
    },
    Sync {
        file: OperationGuard,
        data_only: bool,
    },
    Open(Box<Opening>),
    Close(Option<std::fs::File>),
    /// The operation is still in flight and can't be returned, because its reactor has stopped or
    /// this is a forked child.
    Lost,
}

/// An open. It is boxed, because it is the largest operation.
pub(crate) struct Opening {
    pub(crate) path: SystemPath,
    pub(crate) options: OpenOptions,
    pub(crate) opened: Option<std::fs::File>,
}

/// The number of bytes that an operation has read or written, and the operation with its buffer.
pub(crate) type OpOutput = (io::Result<usize>, Operation);

impl Operation {
    /// Returns how many bytes the next attempt may read or write.
    pub(crate) fn len(&self) -> usize {
        match self {
            Operation::Read { wanted, .. } => *wanted,
            Operation::Write {
                buffer, from, done, ..
            } => (buffer.len() - usize::from(*from) - done).min(MAX_BYTES),
            _ => 0,
        }
    }

    /// Returns the buffer of a read or a write.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        match self {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => buffer,
            _ => Vec::new(),
        }
    }

    /// Returns the file that the operation has opened.
    pub(crate) fn into_opened(self) -> Option<std::fs::File> {
        match self {
            Operation::Open(opening) => opening.opened,
            _ => None,
        }
    }

    /// Performs the operation, on a thread that may block.
    fn perform_on_thread(self) -> OpOutput {
        let mut wakers = Vec::new();
        let output = self.perform(false, &mut wakers);
        wake_all(wakers);
        output
    }

    /// Performs the operation, which may block. The caller wakes the operations that may start.
    pub(crate) fn perform(mut self, is_owners_thread: bool, wakers: &mut Vec<Waker>) -> OpOutput {
        loop {
            let mut result = self.attempt();
            if !self.must_continue(&mut result) {
                self.finish(&mut result, is_owners_thread, wakers);
                return (result, self);
            }
        }
    }

    /// Removes a completed operation from the queue of its handle. The caller wakes the operations
    /// that may start.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        result: &mut io::Result<usize>,
        is_owners_thread: bool,
        wakers: &mut Vec<Waker>,
    ) {
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
            | Operation::Sync { file, .. } => file.finish(is_owners_thread, wakers),
            _ => {}
        }
    }

    /// Returns the handle, until the operation has completed.
    fn handle(&self) -> Option<&Handle> {
        match self {
            Operation::Read { file, .. }
            | Operation::Write { file, .. }
            | Operation::Sync { file, .. } => Some(file),
            _ => None,
        }
    }

    /// Describes the operation to the list of waits.
    pub(crate) fn listed(&self) -> FileOperation {
        let kind = match self {
            Operation::Read { .. } => FileOperationKind::Read,
            Operation::Write { .. } => FileOperationKind::Write,
            Operation::Sync { .. } => FileOperationKind::Sync,
            Operation::Open(_) => FileOperationKind::Open,
            Operation::Close(_) => FileOperationKind::Close,
            Operation::Lost => FileOperationKind::Other,
        };
        let file = match self {
            Operation::Close(file) => file.as_ref(),
            _ => self.handle().map(|handle| &**handle),
        };
        let fd = file.and_then(platform::raw_fd);
        FileOperation { kind, fd }
    }

    /// Returns the pool that may perform the operation.
    fn pool(&self) -> &'static Pool {
        match self.handle() {
            Some(handle) if handle.is_stream => &PEERS,
            _ => &FILES,
        }
    }

    /// Returns whether only a thread performs the operation as std would.
    fn is_for_threads(&self) -> bool {
        let (Operation::Read { file, at, .. } | Operation::Write { file, at, .. }) = self else {
            return false;
        };
        file.is_nonblocking || (matches!(at, Position::Cursor) && !file.is_stream)
    }

    /// Returns whether the operation must be submitted again, after an attempt that was interrupted
    /// by a signal or has done a part of it.
    pub(crate) fn must_continue(&mut self, result: &mut io::Result<usize>) -> bool {
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
                let read = file.read(&mut buffer[old..], *at);
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
            } => file.write(
                &buffer[usize::from(*from) + *done..][..len],
                at.after(*done),
            ),
            Operation::Sync { file, data_only } => file.sync(*data_only).map(|()| 0),
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

/// The future of an operation's result. Dropping it abandons the operation.
pub(crate) struct OpFuture(Backend);

enum Backend {
    Ring {
        files: Registration<Files>,
        slot: u32,
    },
    Pool(OnPool<OpOutput>),
    /// The operation could not start.
    Failed(Box<io::Error>),
    Over,
}

/// Starts an operation on this thread's ring if it has one and its reactor turns, and otherwise on
/// the pool. A simulated host has operations of its own.
pub(crate) fn start(operation: Operation) -> OpFuture {
    if let Some(host) = simulation::current() {
        return OpFuture(Backend::Pool(OnPool::Simulated(host.start(operation))));
    }
    if !operation.is_for_threads() {
        if let Some(files) = Files::driven() {
            if let Some(ring) = files.ring() {
                let slot = ring.start(operation);
                Files::request_submit(&files);
                return OpFuture(Backend::Ring { files, slot });
            }
        }
    }
    OpFuture(start_on_thread(operation))
}

fn start_on_thread(operation: Operation) -> Backend {
    let pool = operation.pool();
    let listed = operation.listed();
    let started = pool.run_operation(listed, move || operation.perform_on_thread());
    match started.map(OnPool::Thread) {
        Ok(task) => Backend::Pool(task),
        Err(error) => Backend::lost(error),
    }
}

/// Completed operations without a future. The caller handles them outside of borrows.
#[derive(Default)]
pub(crate) struct Collected {
    /// Operations that have completed.
    pub(crate) ended: Vec<Operation>,
    /// Operations that the kernel has refused for lack of a thread.
    pub(crate) refused: Vec<Operation>,
}

/// Drops the completed operations, and retries the others on threads.
#[cold]
pub(crate) fn drop_or_retry(collected: Collected) {
    collected.refused.into_iter().for_each(detach_on_thread);
    drop(collected.ended);
}

#[cold]
fn detach_on_thread(operation: Operation) {
    let pool = operation.pool();
    let ours = Arc::new(Mutex::new(Some(operation)));
    let theirs = ours.clone();
    let take = |it: &Mutex<Option<Operation>>| {
        let operation = it.lock().unwrap_or_else(PoisonError::into_inner).take();
        operation.unwrap_or(Operation::Lost)
    };
    match pool.run(move || take(&theirs).perform_on_thread()) {
        Ok(task) => detach(task),
        Err(error) => {
            // The next operation of the handle returns the error.
            let mut wakers = Vec::new();
            take(&ours).finish(&mut Err(error), false, &mut wakers);
            wake_all(wakers);
        }
    }
}

/// Detaches the task from its future. The end of this thread's loop waits for it.
fn detach(task: BlockingTask<OpOutput>) {
    match Files::driven() {
        Some(files) => files.detach_on_thread(task),
        None => task.detach(),
    }
}

/// Returns whether operations that start now complete one by one, on a ring or in a simulation.
pub(crate) fn has_ring() -> bool {
    is_simulated() || Files::driven().is_some_and(|files| files.ring().is_some())
}

/// Runs a closure on the pool of files.
pub(crate) async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_on_pool(work)?.await
}

/// As [`on_pool`], for futures written by hand.
pub(crate) fn spawn_on_pool<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<OnPool<T>> {
    if let Some(host) = simulation::current() {
        return Ok(OnPool::Simulated(host.spawn(work)));
    }
    FILES.run_operation(OTHER, work).map(OnPool::Thread)
}

/// As [`on_pool`], for a closure that may wait for a peer, depending on a path. Then it has a
/// thread of its own.
pub(crate) async fn on_pool_with_paths<T, F, const N: usize>(
    paths: [&Path; N],
    work: F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    if is_simulated() {
        return on_pool(work).await; // its disk has no pipes
    }
    let paths = paths.map(Path::to_owned);
    let work = move || {
        if paths.iter().any(|path| platform::may_wait(path)) {
            // Starts now instead of at the next poll.
            return PEERS.run_operation(OTHER, work).map(Err);
        }
        work().map(Ok)
    };
    match on_pool(work).await? {
        Ok(output) => Ok(output),
        Err(task) => OnPool::Thread(task).await,
    }
}

/// The future of a closure on the pool. It charges the budget of the task, because threads could
/// keep a task running that uses many of them.
pub(crate) enum OnPool<T> {
    Thread(BlockingTask<T>),
    /// The operation of a simulated host.
    Simulated(Task<T>),
}

impl<T> Future for OnPool<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        ready!(poll_charge(cx));
        let polled = match &mut *self {
            OnPool::Thread(task) => Pin::new(task).poll(cx),
            OnPool::Simulated(task) => Pin::new(task).poll(cx),
        };
        if polled.is_pending() {
            refund();
        }
        polled
    }
}

impl OpFuture {
    /// Detaches the operation from its future.
    ///
    /// # Errors
    ///
    /// Returns an error if the operation could not start.
    pub(crate) fn detach(mut self) -> io::Result<()> {
        match self.take() {
            Backend::Ring { files, slot } => {
                drop(ring_of(&files).map(|ring| ring.detach(slot)));
                Files::detach_on_ring(&files);
            }
            Backend::Pool(OnPool::Thread(task)) => detach(task),
            Backend::Pool(OnPool::Simulated(task)) => task.detach(),
            Backend::Failed(error) => return Err(*error),
            Backend::Over => {}
        }
        Ok(())
    }

    /// Retries an operation on a thread after the ring has refused it.
    #[cold]
    fn start_over(&mut self, polled: Poll<OpOutput>) {
        if let Poll::Ready((_, operation)) = polled {
            self.0 = start_on_thread(operation);
        }
    }

    /// Returns the error of an operation that can't complete, because its reactor has stopped or
    /// this is a forked child.
    #[cold]
    fn lose(&mut self) -> Poll<OpOutput> {
        let not_driven = match &self.0 {
            Backend::Ring { files, .. } => files.check_driven().err(),
            _ => None,
        };
        let error = not_driven.unwrap_or_else(|| fork::error("this operation on a file"));
        drop(self.take().abandon());
        Poll::Ready((Err(error), Operation::Lost))
    }

    fn take(&mut self) -> Backend {
        mem::replace(&mut self.0, Backend::Over)
    }
}

impl Future for OpFuture {
    type Output = OpOutput;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<OpOutput> {
        if let Backend::Ring { files, slot } = &self.0 {
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
                    self.0 = Backend::Over;
                    // Keeps the result even if the drop of a waker panics.
                    if left.is_some() {
                        discard_panic(|| drop(left));
                    }
                    return polled;
                }
            }
        }
        let ended = match &mut self.0 {
            Backend::Pool(OnPool::Thread(task)) if task.is_inherited() => return self.lose(),
            Backend::Pool(task) => ready!(Pin::new(task).poll(cx)),
            _ => self.take().into_failed(),
        };
        self.0 = Backend::Over;
        Poll::Ready(ended)
    }
}

/// Returns the ring of an operation in flight. Returns `None` in a forked child, because the kernel
/// would perform its operations in the parent's memory.
#[inline]
fn ring_of(files: &Registration<Files>) -> Option<&Ring> {
    files.ring().filter(|_| !files.is_inherited())
}

impl Backend {
    fn lost(error: io::Error) -> Backend {
        Backend::Failed(Box::new(error))
    }

    #[cold]
    fn into_failed(self) -> OpOutput {
        match self {
            Backend::Failed(error) => (Err(*error), Operation::Lost),
            _ => unreachable!("polled after completion"),
        }
    }

    /// Abandons the operation on the ring. On the pool, the drop of the task does so. The caller
    /// drops the result.
    fn abandon(&self) -> Option<Leftover> {
        let Backend::Ring { files, slot } = self else {
            return None;
        };
        let abandoned = ring_of(files)?.abandon(*slot);
        Files::detach_on_ring(files);
        Some(abandoned)
    }
}

impl Drop for OpFuture {
    fn drop(&mut self) {
        drop(self.0.abandon());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_operation_is_retried_and_other_errors_end_it() {
        let must_continue =
            |error: io::ErrorKind| Operation::Close(None).must_continue(&mut Err(error.into()));
        assert!(must_continue(io::ErrorKind::Interrupted));
        assert!(!must_continue(io::ErrorKind::NotFound));
    }
}
