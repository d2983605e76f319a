//! Pools of threads for closures that block.

use std::ffi::CStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::panic::{
    AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind,
};
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_core::future::FusedFuture;
use windlass_executor::discard_panic;
use windlass_reactor::fork::{Origin, PerProcess};
use windlass_reactor::shortage::cannot_start_thread;

use crate::fs::simulation;
use crate::waits::{
    FacadeWait, FileOperation, FileOperationKind, Numbered, Place, SHARED_LISTS, WaitKind, WakerId,
};

/// A pool of threads for closures that block, with an unbounded queue.
///
/// The pool starts threads when closures need them, up to a limit. Further closures are queued,
/// first in, first out. A thread exits after some idle time. The end of the program kills the
/// closures that still run.
///
/// A closure may run an event loop of its own by [`block_on`](crate::block_on). The thread's
/// reactor is released when the closure returns, so an idle thread holds no file descriptors.
///
/// A pool is a `static`. Pools share nothing, so a closure that hangs in one pool leaves the others
/// unaffected.
///
/// A forked child lacks its parent's threads. There the pool starts with an empty queue.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{Pool, block_on};
///
/// static HASHES: Pool = Pool::new("hashes", 4, Duration::from_secs(10));
///
/// let hash = HASHES.run(|| (1..=20_u64).fold(7, |hash, n| hash * 31 % 1_000_003 + n))?;
/// assert!(block_on(hash) > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    name: &'static str,
    max_threads: usize,
    idle_timeout: Duration,
    inner: PerProcess<Inner>,
}

/// The state of a pool in one process.
struct Inner {
    origin: Origin,
    queue: Mutex<Queue>,
    /// Notifies idle threads of a queued closure.
    queued: Condvar,
}

/// While a closure waits, at least one thread must be going to check the queue again.
struct Queue {
    /// The closures that wait for a thread, in their order. A cancelled one is removed by its
    /// number.
    waiting: Works,
    /// The closures that run, to be listed.
    running: Works,
    last_number: u64,
    threads: usize,
    /// The number of idle threads.
    idle: usize,
    /// The pool is in `POOLS`.
    is_listed: bool,
}

type Works = Numbered<Facts, Arc<dyn Work>>;

/// What readers outside of the process need of a closure.
#[derive(Clone, Copy)]
struct Facts {
    /// The address of the waker of its future, or `None`.
    waker: usize,
    /// The call that has started it. `None` if it is an operation on a file.
    started_at: Option<Place>,
    operation: FileOperationKind,
    /// The descriptor of the file, or -1.
    fd: i32,
}

/// A pool in the list of pools, with the addresses of its name and of the `Vec`s of its closures.
#[derive(Clone, Copy)]
pub(super) struct ListedPool {
    inner: &'static Inner,
    name: &'static str,
    name_address: usize,
    name_len: usize,
    waiting: usize,
    running: usize,
}

impl ListedPool {
    fn new(name: &'static str, inner: &'static Inner, queue: &Queue) -> ListedPool {
        ListedPool {
            inner,
            name,
            name_address: name.as_ptr().expose_provenance(),
            name_len: name.len(),
            waiting: queue.waiting.entries_address(),
            running: queue.running.entries_address(),
        }
    }

    pub(super) const LAYOUT: [usize; 5] = [
        size_of::<ListedPool>(),
        offset_of!(ListedPool, name_address),
        offset_of!(ListedPool, name_len),
        offset_of!(ListedPool, waiting),
        offset_of!(ListedPool, running),
    ];

    pub(super) const WORK_LAYOUT: [usize; 6] = [
        Works::ENTRY_SIZE,
        Works::PRESENT_OFFSET,
        Works::FACTS_OFFSET + offset_of!(Facts, waker),
        Works::FACTS_OFFSET + offset_of!(Facts, started_at),
        Works::FACTS_OFFSET + offset_of!(Facts, operation),
        Works::FACTS_OFFSET + offset_of!(Facts, fd),
    ];
}

/// The state of all pools of the process.
#[derive(Default)]
pub(crate) struct PoolTotals {
    pub(crate) threads: usize,
    pub(crate) waiting: usize,
    /// The closures that the pools were given so far.
    pub(crate) closures: u64,
}

/// Returns the state of all pools of the process.
pub(crate) fn totals() -> PoolTotals {
    let pools = lock(POOLS.get(Mutex::default)).clone();
    let mut totals = PoolTotals::default();
    for pool in pools {
        let queue = lock(&pool.inner.queue);
        totals.threads += queue.threads;
        totals.waiting += queue.waiting.len();
        totals.closures += queue.last_number;
    }
    totals
}

/// The pools that have had a thread, by name.
static POOLS: PerProcess<Mutex<Vec<ListedPool>>> = PerProcess::new();

/// Adds a pool to the list of pools. The caller may hold the lock of its queue.
#[cold]
fn list_pool(pool: ListedPool) {
    let mut pools = lock(POOLS.get(Mutex::default));
    pools.push(pool);
    let address = ptr::from_ref(&*pools).expose_provenance();
    SHARED_LISTS.pools.store(address, Relaxed);
}

impl Facts {
    fn new(purpose: Purpose, waker: usize) -> Facts {
        let (started_at, operation, fd) = match purpose {
            Purpose::Closure(place) => (Some(place), FileOperationKind::Other, None),
            Purpose::File(operation) => (None, operation.kind, operation.fd),
        };
        Facts {
            waker,
            started_at,
            operation,
            fd: fd.unwrap_or(-1),
        }
    }

    fn wait(&self, pool: &'static str, is_running: bool) -> WaitKind {
        match self.started_at {
            Some(_) => WaitKind::Blocking { pool, is_running },
            None => WaitKind::File {
                operation: FileOperation {
                    kind: self.operation,
                    fd: Some(self.fd).filter(|&fd| fd >= 0),
                },
                is_running,
            },
        }
    }
}

impl Pool {
    /// Creates a pool of up to `max_threads` threads of that name. A thread exits after
    /// `idle_timeout`.
    ///
    /// With `usize::MAX` threads, closures may wait for one another. Such a pool starts each
    /// closure at once. If the system refuses a thread, [`run`](Pool::run) returns the error.
    ///
    /// # Panics
    ///
    /// Panics if `max_threads` is zero, or the name contains a zero byte. For a `static` that is a
    /// compile error.
    pub const fn new(name: &'static str, max_threads: usize, idle_timeout: Duration) -> Pool {
        assert!(max_threads > 0, "a pool needs at least one thread");
        assert!(
            CStr::from_bytes_until_nul(name.as_bytes()).is_err(),
            "the name of a pool contains a zero byte"
        );
        Pool {
            name,
            max_threads,
            idle_timeout,
            inner: PerProcess::new(),
        }
    }

    fn inner(&self) -> &'static Inner {
        self.inner.get(Inner::new)
    }

    /// Runs a closure on a thread of the pool. It may start before the [`BlockingTask`] is awaited.
    ///
    /// # Errors
    ///
    /// Fails if the pool has no thread and the system refuses one. The error names the exhausted
    /// resource, and its kind is never `WouldBlock`. If the pool has threads, they serve the queue.
    #[track_caller]
    pub fn run<F, T>(&'static self, f: F) -> io::Result<BlockingTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.run_as(Purpose::Closure(Location::caller()), f)
    }

    /// As [`run`](Pool::run), for an operation on a file.
    pub(crate) fn run_operation<F, T>(
        &'static self,
        operation: FileOperation,
        f: F,
    ) -> io::Result<BlockingTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.run_as(Purpose::File(operation), f)
    }

    fn run_as<F, T>(&'static self, purpose: Purpose, f: F) -> io::Result<BlockingTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Arc::new(Job {
            closure: Mutex::new(Some(f)),
            answer: Mutex::new(Answer {
                finished: false,
                result: None,
                waker: None,
            }),
        });
        let inner = self.inner();
        let waker = ptr::from_ref(&lock(&job.answer).waker).expose_provenance();
        let number = self.enqueue(inner, Facts::new(purpose, waker), job.clone())?;
        Ok(BlockingTask {
            inner,
            number,
            job: Some(job),
            output: PhantomData,
        })
    }

    fn enqueue(
        &'static self,
        inner: &'static Inner,
        facts: Facts,
        work: Arc<dyn Work>,
    ) -> io::Result<u64> {
        #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
        if let Some(host) = simulation::current() {
            simulate(host, work);
            return Ok(0); // no number in the queue
        }
        let mut queue = lock(&inner.queue);
        queue.last_number += 1;
        let number = queue.last_number;
        queue.waiting.push(number, facts, work);
        if queue.waiting.len() <= queue.idle {
            drop(queue);
            inner.queued.notify_one();
        } else if queue.threads < self.max_threads {
            // Under the lock, so that no other call counts a thread that fails to start.
            let thread = thread::Builder::new().name(self.name.into());
            match thread.spawn(move || self.serve(inner)) {
                Ok(_) => {
                    queue.threads += 1;
                    if !mem::replace(&mut queue.is_listed, true) {
                        list_pool(ListedPool::new(self.name, inner, &queue));
                    }
                }
                Err(error) if queue.threads == 0 || self.is_unlimited() => {
                    let work = queue.waiting.remove(number);
                    drop(queue);
                    drop(work); // the closure, outside of the lock
                    return Err(cannot_start_thread(error));
                }
                Err(_) => {} // one of the other threads takes it
            }
        }
        Ok(number)
    }

    /// Returns whether each closure gets a thread of its own. The running closures may wait for the
    /// new one, so queueing it could deadlock.
    fn is_unlimited(&self) -> bool {
        self.max_threads == usize::MAX
    }

    /// The main function of each thread. Runs closures until the idle timeout.
    fn serve(&self, inner: &Inner) {
        while let Some((number, work)) = self.next(inner) {
            work.work();
            // Before this thread drops its share, so that a listing thread never drops the last.
            if inner.origin.is_here() {
                lock(&inner.queue).running.remove(number);
            }
            // May drop the output of a detached closure. The thread survives a panic of the drop,
            // because queued closures depend on the thread.
            discard_panic(|| drop(work));
        }
    }

    fn next(&self, inner: &Inner) -> Option<(u64, Arc<dyn Work>)> {
        if !inner.origin.is_here() {
            return None; // a closure has forked, and this is the child
        }
        let mut queue = lock(&inner.queue);
        queue.idle += 1;
        let is_empty = |queue: &mut Queue| queue.waiting.is_empty();
        if !self.idle_timeout.is_zero() {
            let waited = inner
                .queued
                .wait_timeout_while(queue, self.idle_timeout, is_empty);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.idle -= 1;
        let next = queue.waiting.pop_first();
        match &next {
            Some((number, facts, work)) => queue.running.push(*number, *facts, work.clone()),
            None => queue.threads -= 1,
        }
        next.map(|(number, _, work)| (number, work))
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.inner().queue).waiting.len()
    }

    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        lock(&self.inner().queue).threads
    }
}

impl Inner {
    fn new() -> Inner {
        Inner {
            origin: Origin::here(),
            queue: Mutex::new(Queue {
                waiting: Numbered::new(),
                running: Numbered::new(),
                last_number: 0,
                threads: 0,
                idle: 0,
                is_listed: false,
            }),
            queued: Condvar::new(),
        }
    }
}

/// Returns whether a pool of the process has a closure that runs or is queued.
pub(crate) fn has_closures() -> bool {
    let pools = lock(POOLS.get(Mutex::default)).clone(); // `enqueue` locks a queue first
    pools.iter().any(|pool| {
        let queue = lock(&pool.inner.queue);
        !queue.waiting.is_empty() || !queue.running.is_empty()
    })
}

/// Lists the waits for closures, of all threads.
pub(crate) fn list_waits(waits: &mut Vec<FacadeWait>) {
    let pools = lock(POOLS.get(Mutex::default)).clone(); // `enqueue` locks a queue first
    for ListedPool { name, inner, .. } in pools {
        let queue = lock(&inner.queue);
        let queued = queue.waiting.iter().map(|it| (it, false));
        let running = queue.running.iter().map(|it| (it, true));
        let each = queued.chain(running);
        waits.extend(each.filter_map(|((number, facts, work), is_running)| {
            Some(FacadeWait {
                waker: work.waker()?,
                kind: facts.wait(name, is_running),
                object: number as usize,
                created_at: facts.started_at,
                awaited_at: None,
            })
        }));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = lock(&self.inner().queue);
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("threads", &queue.threads)
            .field("waiting", &queue.waiting.len())
            .finish_non_exhaustive()
    }
}

/// The output of a closure that a [`Pool`] runs, as a future. Any thread may await it, under any
/// executor.
///
/// # Panics
///
/// If the closure panics, awaiting it resumes the panic. Panics in a forked child if the closure
/// was started before the fork, because its thread is the parent's. Panics if it is polled again
/// after it has completed.
///
/// # Cancel safety
///
/// A running closure can't be stopped. When this is dropped, a closure that has started runs to its
/// end, and its output is dropped on its thread. A queued closure is cancelled and dropped here.
#[must_use = "a closure that has not started is cancelled when this is dropped: `.await` or \
              `.detach()` it"]
pub struct BlockingTask<T> {
    inner: &'static Inner,
    /// Its number in the queue.
    number: u64,
    /// `None` once it is detached.
    job: Option<Arc<dyn Answered<T>>>,
    output: PhantomData<T>,
}

impl<T> BlockingTask<T> {
    /// Lets the closure run, even if it is still queued. Its output is dropped on its thread, or by
    /// this call if the closure has returned. A panic is only reported by the panic hook.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use windlass::Pool;
    ///
    /// static POOL: Pool = Pool::new("hauling", 1, Duration::ZERO);
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// POOL.run(move || sender.send("hauled"))?.detach();
    /// assert_eq!(receiver.recv(), Ok("hauled"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn detach(mut self) {
        self.job = None;
    }

    /// Returns true in a forked child if the closure was given to the pool before the fork. The
    /// child has no thread that runs it, and awaiting it panics.
    pub fn is_inherited(&self) -> bool {
        !self.inner.origin.is_here()
    }

    /// Returns whether the closure has returned or panicked. Returns false in a forked child, which
    /// has no thread that could finish it.
    pub fn is_finished(&self) -> bool {
        !self.is_inherited() && lock(self.job().answer()).finished
    }

    fn job(&self) -> &Arc<dyn Answered<T>> {
        self.job.as_ref().expect("job is present until drop")
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        assert!(
            !self.is_inherited(),
            "this closure was started before fork(): its thread belongs to the parent process"
        );
        let mut waker = Some(cx.waker().clone());
        let mut answer = lock(self.job().answer());
        let result = answer.result.take();
        let was_taken = result.is_none() && answer.finished;
        if result.is_none() {
            mem::swap(&mut answer.waker, &mut waker);
        }
        drop(answer);
        assert!(
            !was_taken,
            "this `BlockingTask` was awaited to its end before"
        );
        // The previous waker. The result is kept even if its drop panics.
        discard_panic(|| drop(waker));
        match result {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(panic)) => resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

impl<T> FusedFuture for BlockingTask<T> {
    fn is_terminated(&self) -> bool {
        if self.is_inherited() {
            return false;
        }
        let answer = lock(self.job().answer());
        answer.finished && answer.result.is_none()
    }
}

// The output is on the heap.
impl<T> Unpin for BlockingTask<T> {}

impl<T> Drop for BlockingTask<T> {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        if let Some(job) = self.job.take() {
            let queued = lock(&self.inner.queue).waiting.remove(self.number);
            job.cancel();
            let waker = lock(job.answer()).waker.take();
            discard_panic(|| drop(waker)); // outside of the lock, as the closure
            drop(queued);
        }
    }
}

impl<T> fmt::Debug for BlockingTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingTask")
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A closure and its output, shared by the future and the thread.
struct Job<F, T> {
    closure: Mutex<Option<F>>,
    answer: Mutex<Answer<T>>,
}

struct Answer<T> {
    finished: bool,
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

/// What a closure is for, to be listed.
enum Purpose {
    /// The place is the call that has started it.
    Closure(Place),
    File(FileOperation),
}

/// A job as the thread sees it.
trait Work: Send + Sync {
    /// Runs the closure, unless it was cancelled. Returns the waker of the future.
    fn run(&self) -> Option<Waker>;

    /// Runs the closure on a thread of the pool, and wakes the future.
    fn work(&self) {
        // The thread survives a waker that panics.
        if let Some(waker) = self.run() {
            discard_panic(|| waker.wake());
        }
    }

    /// The waker of the future, to be listed.
    fn waker(&self) -> Option<WakerId>;
}

/// A job as the future sees it.
trait Answered<T>: Send + Sync {
    fn answer(&self) -> &Mutex<Answer<T>>;

    /// Drops the closure, unless it has started.
    fn cancel(&self);
}

impl<F: FnOnce() -> T + Send, T: Send> Work for Job<F, T> {
    fn run(&self) -> Option<Waker> {
        let closure = lock(&self.closure).take()?;
        let result = catch_unwind(AssertUnwindSafe(closure));
        // Before the answer, so that the closure's file descriptors are closed when it is awaited.
        if !simulation::is_simulated() {
            discard_panic(release_thread);
        }
        let mut answer = lock(&self.answer);
        answer.finished = true;
        answer.result = Some(result);
        answer.waker.take()
    }

    fn waker(&self) -> Option<WakerId> {
        lock(&self.answer).waker.as_ref().map(WakerId::of)
    }
}

impl<F: Send, T: Send> Answered<T> for Job<F, T> {
    fn answer(&self) -> &Mutex<Answer<T>> {
        &self.answer
    }

    fn cancel(&self) {
        let closure = lock(&self.closure).take();
        discard_panic(|| drop(closure)); // user code, outside of the lock
    }
}

/// Runs a closure inline in a simulated host, after a time. A thread of the pool could be one of
/// another world.
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
fn simulate(host: simulation::Host, work: Arc<dyn Work>) {
    let waiting = work.clone();
    host.run_closure(
        move || waiting.waker(),
        move |wakers| wakers.extend(work.run()),
    );
}

/// Releases the reactor and the file descriptors that the closure has left on the thread.
fn release_thread() {
    #[cfg(unix)]
    crate::process::orphans::release();
    #[cfg(target_os = "linux")]
    crate::io::splice::release();
    windlass_reactor::release_reactor();
}

// A closure that has panicked is consumed, and its panic is only passed on.
impl<T> UnwindSafe for BlockingTask<T> {}
impl<T> RefUnwindSafe for BlockingTask<T> {}

/// Wherever code can panic under one of these locks, the state is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
