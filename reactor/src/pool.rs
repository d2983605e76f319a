//! What has to block: closures on threads of their own.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::current;
use crate::fork::{Origin, PerProcess};
use crate::shortage::cannot_start_thread;
use crate::wake::discard_panic;

/// Threads for closures that block, and the line of those who wait for them.
///
/// Threads are started as closures need them, up to a limit. More closures wait in line, first in,
/// first out; the line has no limit. A thread that has had nothing to do for a while ends. Nobody
/// waits for closures at the end of the program: what still runs then ends wherever it is.
///
/// A closure may run a loop of its own, by [`block_on`](crate::block_on). The thread's reactor is
/// released when the closure returns, so an idle thread holds no file descriptors.
///
/// A pool is a `static`, and each is on its own: what hangs in one holds up no other.
///
/// A forked child has none of its parent's threads. The pool starts afresh there, with an empty
/// line.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass_reactor::{Pool, block_on};
///
/// static HASHES: Pool = Pool::new("hashes", 4, Duration::from_secs(10));
///
/// let hash = HASHES.run(|| (1..=20_u64).fold(7, |hash, n| hash * 31 % 1_000_003 + n))?;
/// assert!(block_on(hash) > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    name: &'static str,
    most_threads: usize,
    linger: Duration,
    crew: PerProcess<Crew>,
}

/// The threads of one process, and the line of closures before them.
struct Crew {
    origin: Origin,
    line: Mutex<Line>,
    /// For threads that have nothing to do: somebody is in line.
    news: Condvar,
}

/// Invariant: while anybody waits, there's a thread that will look here again.
struct Line {
    /// Whom no thread serves yet, in their order: by a number, under which one that is given up
    /// finds its place.
    waiting: BTreeMap<u64, Arc<dyn Work>>,
    taken: u64,
    threads: usize,
    /// How many of the threads have nothing to do.
    idle: usize,
}

impl Pool {
    /// A pool of up to `most_threads` threads of that name, which end when they have had nothing to
    /// do for so long.
    ///
    /// With `usize::MAX` threads, closures may wait for one another. Such a pool never queues a
    /// closure: if the system refuses a thread, [`run`](Pool::run) returns the error.
    ///
    /// # Panics
    ///
    /// If there may be no thread, or the name has a zero byte in it, which no thread's name may. A
    /// `static` doesn't compile then.
    pub const fn new(name: &'static str, most_threads: usize, linger: Duration) -> Pool {
        assert!(most_threads > 0, "a pool without threads does nothing");
        assert!(
            CStr::from_bytes_until_nul(name.as_bytes()).is_err(),
            "a zero byte in the name of a pool's threads"
        );
        Pool {
            name,
            most_threads,
            linger,
            crew: PerProcess::new(),
        }
    }

    /// The threads of this process.
    fn crew(&self) -> &'static Crew {
        self.crew.get(Crew::new)
    }

    /// Runs a closure on one of the threads. It may begin at once, whether or not the
    /// [`BlockingTask`] is awaited.
    ///
    /// # Errors
    ///
    /// If the pool has no thread and the system refuses one. The error names what ran out, and its
    /// kind is never `WouldBlock`. A pool that has threads goes on with those.
    pub fn run<F, T>(&'static self, f: F) -> io::Result<BlockingTask<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let order = Arc::new(Order {
            closure: Mutex::new(Some(f)),
            answer: Mutex::new(Answer {
                finished: false,
                result: None,
                waker: None,
            }),
        });
        let crew = self.crew();
        let number = self.enqueue(crew, order.clone())?;
        Ok(BlockingTask {
            crew,
            number,
            order: Some(order),
            output: PhantomData,
        })
    }

    fn enqueue(&'static self, crew: &'static Crew, work: Arc<dyn Work>) -> io::Result<u64> {
        let mut line = lock(&crew.line);
        line.taken += 1;
        let number = line.taken;
        line.waiting.insert(number, work);
        if line.waiting.len() <= line.idle {
            drop(line);
            crew.news.notify_one();
        } else if line.threads < self.most_threads {
            // Under the lock, so that nobody counts on a thread that can't be had.
            let thread = thread::Builder::new().name(self.name.into());
            match thread.spawn(move || self.serve(crew)) {
                Ok(_) => line.threads += 1,
                Err(error) if line.threads == 0 || self.is_unlimited() => {
                    let work = line.waiting.remove(&number);
                    drop(line);
                    drop(work); // the closure, under no lock
                    return Err(cannot_start_thread(error));
                }
                Err(_) => {} // one of the others will come to it
            }
        }
        Ok(number)
    }

    /// Whether each closure has a thread of its own. The threads that exist may wait for the peer
    /// of the new one, so a place behind them could be a deadlock.
    fn is_unlimited(&self) -> bool {
        self.most_threads == usize::MAX
    }

    /// What a thread does: one closure after the other, as long as there are any.
    fn serve(&self, crew: &Crew) {
        while let Some(work) = self.next(crew) {
            work.work();
            // Drops a value that nobody waits for. Its panic must not end the thread, on which
            // other closures count.
            discard_panic(|| drop(work));
        }
    }

    fn next(&self, crew: &Crew) -> Option<Arc<dyn Work>> {
        if !crew.origin.is_here() {
            return None; // a closure has forked, and this is its thread in the child
        }
        let mut line = lock(&crew.line);
        line.idle += 1;
        let nobody = |line: &mut Line| line.waiting.is_empty();
        if !self.linger.is_zero() {
            let waited = crew.news.wait_timeout_while(line, self.linger, nobody);
            line = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        line.idle -= 1;
        let next = line.waiting.pop_first();
        if next.is_none() {
            line.threads -= 1;
        }
        next.map(|(_, work)| work)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.crew().line).waiting.len()
    }

    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        lock(&self.crew().line).threads
    }
}

impl Crew {
    fn new() -> Crew {
        Crew {
            origin: Origin::here(),
            line: Mutex::new(Line {
                waiting: BTreeMap::new(),
                taken: 0,
                threads: 0,
                idle: 0,
            }),
            news: Condvar::new(),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = lock(&self.crew().line);
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("threads", &line.threads)
            .field("waiting", &line.waiting.len())
            .finish_non_exhaustive()
    }
}

/// A closure that was given to a [`Pool`]: a future of what it returns. May be awaited on any
/// thread, under any executor.
///
/// # Panics
///
/// If the closure has panicked, with its panic. Or in a forked child, if the closure was given to
/// the pool before the fork: its thread is the parent's.
///
/// # Cancel safety
///
/// Nothing can stop a thread. If this is dropped, a closure that has begun runs to its end, and
/// what it returns is dropped on its thread. One that still waits for a thread is cancelled: it
/// never runs, and is dropped here.
#[must_use = "a closure that has not begun is cancelled when this is dropped: `.await` or \
              `.detach()` it"]
pub struct BlockingTask<T> {
    crew: &'static Crew,
    /// Its place in the line.
    number: u64,
    /// None once it's detached.
    order: Option<Arc<dyn Ordered<T>>>,
    output: PhantomData<T>,
}

impl<T> BlockingTask<T> {
    /// Lets the closure run, also if it has not begun. What it returns is dropped on its thread; a
    /// panic is told by the panic hook and by nothing else.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use windlass_reactor::Pool;
    ///
    /// static POOL: Pool = Pool::new("hauling", 1, Duration::ZERO);
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// POOL.run(move || sender.send("hauled"))?.detach();
    /// assert_eq!(receiver.recv(), Ok("hauled"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn detach(mut self) {
        self.order = None;
    }

    /// Returns true in a forked child if the closure was given to the pool before the fork. Then
    /// no thread of the child runs it, and to await it panics.
    pub fn is_inherited(&self) -> bool {
        !self.crew.origin.is_here()
    }

    /// Returns whether the closure has returned or panicked. Returns false in a forked child, which
    /// has no thread that could finish it.
    pub fn is_finished(&self) -> bool {
        !self.is_inherited() && lock(self.order().answer()).finished
    }

    fn order(&self) -> &Arc<dyn Ordered<T>> {
        self.order.as_ref().expect("it is there until the drop")
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        assert!(
            !self.is_inherited(),
            "this closure was given to a pool before fork(): its thread is the parent's"
        );
        let mut waker = Some(cx.waker().clone());
        let mut answer = lock(self.order().answer());
        let result = answer.result.take();
        if result.is_none() {
            std::mem::swap(&mut answer.waker, &mut waker);
        }
        drop(answer);
        // The earlier one. A panic of its drop must not cost the result.
        discard_panic(|| drop(waker));
        match result {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(panic)) => resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

/// The output is on its way, not in here.
impl<T> Unpin for BlockingTask<T> {}

impl<T> Drop for BlockingTask<T> {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        if let Some(order) = self.order.take() {
            let place = lock(&self.crew.line).waiting.remove(&self.number);
            let waker = lock(order.answer()).waker.take();
            discard_panic(|| drop(waker)); // under no lock, as the closure
            drop(place);
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

/// What a future and a thread share.
struct Order<F, T> {
    closure: Mutex<Option<F>>,
    answer: Mutex<Answer<T>>,
}

struct Answer<T> {
    finished: bool,
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

/// An order as the thread sees it.
trait Work: Send + Sync {
    fn work(&self);
}

/// An order as the future sees it.
trait Ordered<T>: Send + Sync {
    fn answer(&self) -> &Mutex<Answer<T>>;
}

impl<F: FnOnce() -> T + Send, T: Send> Work for Order<F, T> {
    fn work(&self) {
        let closure = lock(&self.closure).take().expect("it is taken out once");
        let result = catch_unwind(AssertUnwindSafe(closure));
        // Before the answer: when a closure is awaited, its descriptors are closed.
        discard_panic(current::release);
        let mut answer = lock(&self.answer);
        answer.finished = true;
        answer.result = Some(result);
        let waker = answer.waker.take();
        drop(answer);
        // A waker that panics must not end the thread.
        if let Some(waker) = waker {
            discard_panic(|| waker.wake());
        }
    }
}

impl<F: Send, T: Send> Ordered<T> for Order<F, T> {
    fn answer(&self) -> &Mutex<Answer<T>> {
        &self.answer
    }
}

/// A panic under one of these locks can't leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;
    use std::time::Instant;

    use super::*;
    use crate::block_on;
    use crate::time::timeout;

    /// What takes longer has hung.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn wait_until(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "it hangs");
            thread::yield_now();
        }
    }

    fn output<T>(task: BlockingTask<T>) -> T {
        block_on(timeout(PATIENCE, task)).expect("it hangs")
    }

    /// Two closures of the pool: each tells that it has begun, and ends when its key is dropped.
    fn gates<const N: usize>(
        pool: &'static Pool,
    ) -> ([Sender<()>; N], [BlockingTask<usize>; N], Receiver<usize>) {
        let (begins, begun) = channel();
        let mut keys = Vec::new();
        let tasks = std::array::from_fn(|number| {
            let (key, locked) = channel::<()>();
            let begins = begins.clone();
            keys.push(key);
            let gate = move || {
                begins.send(number).unwrap();
                _ = locked.recv();
                number
            };
            pool.run(gate).unwrap()
        });
        (keys.try_into().unwrap(), tasks, begun)
    }

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn there_are_no_more_threads_than_the_limit_and_the_rest_waits_in_line() {
        static POOL: Pool = Pool::new("test", 2, Duration::ZERO);
        let (keys, tasks, begun) = gates::<5>(&POOL);
        assert_eq!(begun.recv().unwrap() + begun.recv().unwrap(), 1);
        assert_eq!((POOL.threads(), POOL.waiting()), (2, 3));
        let [first, second, rest @ ..] = keys;
        drop(second);
        assert_eq!(begun.recv(), Ok(2)); // by the thread that is free
        assert_eq!((POOL.threads(), POOL.waiting()), (2, 2));
        drop((first, rest));
        assert_eq!(tasks.map(output), [0, 1, 2, 3, 4]);
        wait_until(|| POOL.threads() == 0);
    }

    #[test]
    #[should_panic(expected = "a pool without threads")]
    fn a_pool_that_may_have_no_thread_is_refused() {
        let _ = Pool::new("test", 0, Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "a zero byte in the name")]
    fn a_pool_whose_threads_could_not_have_its_name_is_refused() {
        let _ = Pool::new("te\0st", 1, Duration::ZERO);
    }

    #[test]
    fn a_thread_that_lingers_takes_the_next_closure_and_ends_when_none_comes() {
        static POOL: Pool = Pool::new("test", 9, Duration::from_millis(20));
        for _ in 0..100 {
            output(POOL.run(|| ()).unwrap());
            wait_until(|| POOL.threads() == 0 || lock(&POOL.crew().line).idle == 1);
            assert!(POOL.threads() <= 1);
        }
        wait_until(|| POOL.threads() == 0);
    }

    #[test]
    fn an_idle_thread_that_was_called_already_does_not_count_for_the_next() {
        static POOL: Pool = Pool::new("test", 9, PATIENCE);
        output(POOL.run(|| ()).unwrap());
        wait_until(|| lock(&POOL.crew().line).idle == 1);
        let (keys, tasks, begun) = gates::<9>(&POOL);
        for _ in 0..9 {
            begun.recv_timeout(PATIENCE).expect("one has no thread");
        }
        drop(keys);
        assert_eq!(tasks.map(output), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_waits_in_line_can_be_given_up_and_leaves_nothing() {
        static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
        let ([key], [task], begun) = gates(&POOL);
        assert_eq!(begun.recv(), Ok(0));
        for _ in 0..1000 {
            let late = POOL.run(|| panic!("nobody wants it")).unwrap();
            assert!(block_on(timeout(Duration::ZERO, late)).is_err());
        }
        assert_eq!((POOL.threads(), POOL.waiting()), (1, 0));
        drop((task, key));
        wait_until(|| POOL.threads() == 0);
    }

    #[test]
    fn what_was_given_up_wakes_nobody() {
        static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(counter.clone());
        let ([key], [mut task], _begun) = gates(&POOL);
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop((task, waker));
        assert_eq!(Arc::strong_count(&counter), 1, "its waker is dropped");
        drop(key);
        wait_until(|| POOL.threads() == 0);
        assert_eq!(counter.0.load(SeqCst), 0);
    }

    #[test]
    fn neither_a_waker_nor_a_value_that_panics_keeps_anybody_else_waiting() {
        struct PanicsOnWake;
        impl Wake for PanicsOnWake {
            fn wake(self: Arc<Self>) {
                panic!("a planned panic");
            }
        }
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                panic!("a planned panic");
            }
        }
        static POOL: Pool = Pool::new("test", 1, Duration::ZERO);
        let ([key], [mut task], begun) = gates(&POOL);
        let waker = Waker::from(Arc::new(PanicsOnWake));
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert_eq!(begun.recv(), Ok(0));
        POOL.run(|| PanicsOnDrop).unwrap().detach();
        let last = POOL.run(|| 7).unwrap();
        drop(key);
        assert_eq!(output(last), 7);
        wait_until(|| POOL.threads() == 0);
    }

    /// What panics once more when it's dropped as the payload of a panic.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a planned panic");
        }
    }

    #[test]
    fn payloads_that_panic_when_dropped_end_no_thread() {
        struct WakesWithBomb;
        impl Wake for WakesWithBomb {
            fn wake(self: Arc<Self>) {
                std::panic::panic_any(Bomb);
            }
        }
        struct DropsWithBomb;
        impl Drop for DropsWithBomb {
            fn drop(&mut self) {
                std::panic::panic_any(Bomb);
            }
        }
        static POOL: Pool = Pool::new("test", 1, PATIENCE);
        let ([key], [mut task], begun) = gates(&POOL);
        let waker = Waker::from(Arc::new(WakesWithBomb));
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert_eq!(begun.recv(), Ok(0));
        POOL.run(|| DropsWithBomb).unwrap().detach();
        POOL.run(|| std::panic::panic_any(Bomb)).unwrap().detach();
        let last = POOL.run(|| 7).unwrap();
        drop(key);
        assert_eq!(output(last), 7);
        wait_until(|| lock(&POOL.crew().line).idle == 1);
        assert_eq!((POOL.threads(), POOL.waiting()), (1, 0));
    }
}
