//! The loops of the process, as other threads see them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use windlass_executor::{Executor, Pulse, PulseReading};
use windlass_reactor::fork::PerProcess;
use windlass_reactor::{LoopState, Reactor};

use super::loop_thread::{self, ExecutorTotals, LoopThread};
use super::metrics::Metrics;
use super::root::{self, Record};
use super::stack::ThreadHandle;
use super::thread_state::ThreadState;

/// A runtime and its thread.
pub(crate) struct Loop {
    /// Identifies the loop in the process.
    pub(crate) id: u64,
    pub(crate) thread: Arc<LoopThread>,
    pub(crate) executor: Pulse,
    record: Record,
    last: Mutex<LastReading>,
}

/// What the last reader of a loop has found.
#[derive(Default)]
struct LastReading {
    totals: ExecutorTotals,
    /// The numbers of the poll and of the turn, and when a reader has first found them.
    progress: Option<(usize, u64, Instant)>,
}

impl Loop {
    /// Returns the metrics of this loop and, since `since`, of its thread.
    pub(crate) fn metrics(&self, since: Option<&Metrics>) -> Metrics {
        let metrics = self.thread.metrics();
        let mut metrics = since.map_or(metrics, |since| metrics.since(since));
        self.add_executor(&mut metrics);
        metrics
    }

    /// Returns for how long the loop has been in the same poll or the same turn, as far as this was
    /// called meanwhile.
    pub(crate) fn lag(&self) -> Duration {
        let reading = self.executor.read();
        self.update_lag(&mut unpoison(self.last.lock()), reading.as_ref())
    }

    fn update_lag(&self, last: &mut LastReading, reading: Option<&PulseReading>) -> Duration {
        let polls = reading.map(|reading| reading.polls);
        let is_awake = self.thread.reactor.loop_state() == LoopState::Awake;
        let Some(polls) = polls.filter(|_| is_awake) else {
            last.progress = None;
            return Duration::ZERO;
        };
        let turns = self.thread.reactor.read().turns;
        match last.progress {
            Some((poll, turn, since)) if (poll, turn) == (polls, turns) => since.elapsed(),
            _ => {
                last.progress = Some((polls, turns, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Adds the metrics of the executor.
    fn add_executor(&self, sum: &mut Metrics) {
        let mut last = unpoison(self.last.lock());
        let reading = self.executor.read();
        let lag = self.update_lag(&mut last, reading.as_ref());
        if let Some(reading) = reading {
            last.totals.advance(&reading);
            let live = reading.spawned.wrapping_sub(reading.ended) as isize;
            sum.live += live.max(0) as u64;
        }
        last.totals.add_to(sum);
        sum.loops += 1;
        sum.loop_lag = sum.loop_lag.max(lag);
    }
}

impl Loop {
    /// Samples the state of the thread.
    pub(crate) fn thread_state(&self) -> ThreadState {
        ThreadState::of_thread(self.thread.tid)
    }

    /// Returns the number of the executor, which is unique in the process.
    pub(crate) fn executor_id(&self) -> u16 {
        self.record.executor.id as u16
    }

    /// Returns how many timers of the reactor are pending. The caller holds the lock of the loops,
    /// so the reactor exists. The reactor's thread counts them in a plain word, which costs timers
    /// nothing, and only the kernel can read such a word while it changes.
    #[cfg(target_os = "linux")]
    pub(crate) fn pending_timers(&self) -> Option<usize> {
        super::proc_file::read_word(self.record.reactor.timers_pending)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn pending_timers(&self) -> Option<usize> {
        None
    }
}

static LOOPS: PerProcess<Mutex<Vec<Arc<Loop>>>> = PerProcess::new();

/// Returns the loops in the order of their creation. While the list is locked, none of them ends,
/// so their threads and the descriptors of their reactors exist.
pub(crate) fn lock() -> MutexGuard<'static, Vec<Arc<Loop>>> {
    unpoison(LOOPS.get(Mutex::default).lock())
}

/// No user code runs under the locks, so the state is consistent even if one is poisoned.
fn unpoison<T>(locked: LockResult<MutexGuard<'_, T>>) -> MutexGuard<'_, T> {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// Returns the sum of the metrics of the loops of this thread, including those that have ended.
pub(crate) fn metrics_of_thread() -> Metrics {
    let (loops, id) = (lock(), thread::current().id());
    let mut sum = loop_thread::metrics_of_current();
    let here = loops.iter().filter(|it| it.thread.id == id);
    here.for_each(|it| it.add_executor(&mut sum));
    sum
}

/// Returns the sum of the metrics of all loops, including the totals of those that have ended.
pub(crate) fn metrics_of_all() -> Metrics {
    let loops = lock();
    let mut sum = loop_thread::metrics_of_all();
    loops.iter().for_each(|it| it.add_executor(&mut sum));
    sum
}

/// Updates the link that leads to the loop before `position`, for readers outside of the process.
fn update_link(loops: &[Arc<Loop>], position: usize) {
    let target = position.checked_sub(1).map(|before| &loops[before].record);
    match loops.get(position) {
        Some(next) => next.record.set_next(target),
        None => root::set_first(target),
    }
}

static CAPTURES_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes the stacks of this thread, and of those that will have a loop, available to captures.
/// Finding the bounds of a stack takes up to 50 µs.
pub(crate) fn capture_stacks() {
    CAPTURES_STACKS.store(true, Relaxed);
    let id = thread::current().id();
    for known in lock().iter().filter(|it| it.thread.id == id) {
        known.thread.handle.get_or_init(ThreadHandle::current);
    }
}

/// Keeps a loop in the list until it is dropped.
pub(crate) struct Registration {
    entry: Arc<Loop>,
    /// Keeps the descriptor open while the loop is in the list. At the end of a thread this may be
    /// the last reference to the reactor.
    reactor: Reactor,
}

impl Registration {
    /// Registers a loop, or makes an entry that the list lacks.
    pub(crate) fn new(executor: &Executor, reactor: &Reactor, is_listed: bool) -> Registration {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let thread = LoopThread::current(reactor, is_listed);
        let name = thread.name.as_deref();
        let new = Arc::new(Loop {
            id: IDS.fetch_add(1, Relaxed),
            record: Record::new(thread.tid, name, executor, reactor),
            executor: executor.pulse(),
            thread,
            last: Mutex::default(),
        });
        if CAPTURES_STACKS.load(Relaxed) {
            new.thread.handle.get_or_init(ThreadHandle::current);
        }
        if is_listed {
            let mut loops = lock();
            loops.push(new.clone());
            update_link(&loops, loops.len() - 1);
            update_link(&loops, loops.len());
        }
        Registration {
            entry: new,
            reactor: reactor.clone(),
        }
    }

    pub(crate) fn entry(&self) -> &Loop {
        &self.entry
    }

    /// Reads the metrics of the executor for the last time, before it is dropped.
    pub(crate) fn read_finally(&self) {
        if let Some(reading) = self.entry.executor.read() {
            unpoison(self.entry.last.lock()).totals.advance(&reading);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.reactor.pulse(); // publishes the number of turns
        let mut loops = lock();
        // Missing in a forked child.
        if let Some(position) = loops.iter().rposition(|it| Arc::ptr_eq(it, &self.entry)) {
            let ended = loops.remove(position);
            update_link(&loops, position);
            let totals = unpoison(ended.last.lock()).totals;
            ended.thread.end_loop(&totals, &loops);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
