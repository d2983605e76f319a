//! The loops of the process, as other threads see them.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::fmt;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LockResult, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use windlass_executor::{Executor, Pulse};
#[cfg(target_os = "linux")]
use windlass_reactor::fork::Origin;
use windlass_reactor::fork::PerProcess;
use windlass_reactor::{LoopState, Reactor, ReactorPulse};

use super::metrics::Metrics;
use super::root::{self, Record};
use super::stack::ThreadHandle;
use super::thread_state::ThreadState;
use crate::counters::{self, ThreadCounters};

/// A runtime and its thread.
pub(crate) struct Loop {
    /// Identifies the loop in the process.
    pub(crate) id: u64,
    /// The name of the thread.
    pub(crate) thread_name: Option<Arc<str>>,
    pub(crate) thread_id: ThreadId,
    /// The number that Linux knows the thread by, and 0 elsewhere.
    pub(crate) tid: i32,
    /// The thread as its stack is captured. Set while stacks are captured.
    pub(crate) thread: OnceLock<ThreadHandle>,
    /// The descriptor of the reactor. Open while the loop is in the list.
    #[cfg(unix)]
    pub(crate) fd: RawFd,
    pub(crate) executor: Pulse,
    pub(crate) reactor: ReactorPulse,
    record: Record,
    counters: Arc<ThreadCounters>,
    /// The metrics of the thread when the loop was created.
    since: Metrics,
    last: Mutex<LastReading>,
}

/// What the last reader of a loop has found.
#[derive(Default)]
struct LastReading {
    /// The metrics of the executor. They widen counters that wrap around.
    metrics: Metrics,
    /// The numbers of the poll and of the turn, and when a reader has first found them.
    progress: Option<(usize, u64, Instant)>,
}

impl Loop {
    /// Returns the metrics of this loop. Loops of one thread share the part of the thread.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = self.executor_metrics();
        metrics.add(&self.thread_metrics().since(&self.since), false);
        metrics
    }

    /// Returns for how long the loop has been in the same poll or the same turn, as far as this was
    /// called meanwhile.
    pub(crate) fn lag(&self) -> Duration {
        let mut last = unpoison(self.last.lock());
        self.update_lag(&mut last)
    }

    fn update_lag(&self, last: &mut LastReading) -> Duration {
        let polls = self.executor.read().map(|reading| reading.polls);
        let is_awake = self.reactor.loop_state() == LoopState::Awake;
        let Some(polls) = polls.filter(|_| is_awake) else {
            last.progress = None;
            return Duration::ZERO;
        };
        let turns = self.reactor.read().turns;
        match last.progress {
            Some((poll, turn, since)) if (poll, turn) == (polls, turns) => since.elapsed(),
            _ => {
                last.progress = Some((polls, turns, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn executor_metrics(&self) -> Metrics {
        let mut last = unpoison(self.last.lock());
        let lag = self.update_lag(&mut last);
        let metrics = &mut last.metrics;
        (metrics.loops, metrics.loop_lag) = (1, lag);
        match self.executor.read() {
            Some(reading) => {
                widen(&mut metrics.polls, reading.polls);
                widen(&mut metrics.spawned, reading.spawned);
                widen(&mut metrics.remote_wakes, reading.remote_wakes);
                // A spawned task is polled later, so the difference may shrink for a while.
                let wakes = metrics.polls.saturating_sub(metrics.spawned);
                metrics.wakes = metrics.wakes.max(wakes);
                let live = reading.spawned.wrapping_sub(reading.ended) as isize;
                metrics.live = live.max(0) as u64;
            }
            None => metrics.live = 0,
        }
        *metrics
    }

    /// Returns the metrics of the reactor and of the thread, since the thread has begun.
    fn thread_metrics(&self) -> Metrics {
        thread_metrics(&self.reactor, &self.counters)
    }
}

fn thread_metrics(reactor: &ReactorPulse, thread: &ThreadCounters) -> Metrics {
    let reading = reactor.read();
    let mut metrics = Metrics {
        turns: reading.turns,
        timers_set: reading.timers_set,
        timers_fired: reading.timers_fired,
        total_lateness: reading.total_lateness,
        max_lateness: reading.max_lateness,
        sources: reading.sources,
        ring_operations: thread.ring_in_flight(),
        poll_times: thread.poll_times.read(),
        ..Metrics::default()
    };
    metrics.system_calls.waits = reading.turns;
    metrics.system_calls.registrations = reading.registrations;
    metrics.system_calls.timer_settings = reading.timer_settings;
    metrics.system_calls.notifications = reading.notifications;
    metrics.system_calls.ring_submits = thread.ring_submits();
    metrics
}

/// Advances a total to the current value of a counter that wraps around.
fn widen(total: &mut u64, counter: usize) {
    *total += counter.wrapping_sub(*total as usize) as u64;
}

impl Loop {
    /// Samples the state of the thread.
    pub(crate) fn thread_state(&self) -> ThreadState {
        ThreadState::of_thread(self.tid)
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

/// The totals of the loops that have ended. Locked under the lock of the list, so that no reader
/// finds a loop in both or in neither.
static ENDED: PerProcess<Mutex<Metrics>> = PerProcess::new();

/// Returns the loops in the order of their creation. While the list is locked, none of them ends,
/// so their threads and the descriptors of their reactors exist.
pub(crate) fn lock() -> MutexGuard<'static, Vec<Arc<Loop>>> {
    unpoison(LOOPS.get(Mutex::default).lock())
}

/// No user code runs under the locks, so the state is consistent even if one is poisoned.
fn unpoison<T>(locked: LockResult<MutexGuard<'_, T>>) -> MutexGuard<'_, T> {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// Returns the sum of the metrics of the loops of this thread.
pub(crate) fn metrics_of_thread() -> Metrics {
    let (loops, thread) = (lock(), counters::current());
    let mut here = loops.iter().filter(|it| Arc::ptr_eq(&it.counters, &thread));
    let mut sum = here
        .next()
        .map_or(Metrics::default(), |first| first.metrics());
    here.for_each(|it| sum.add(&it.executor_metrics(), false));
    sum
}

/// Returns the sum of the metrics of all loops, including the totals of those that have ended.
pub(crate) fn metrics_of_all() -> Metrics {
    let loops = lock();
    let mut sum = *unpoison(ENDED.get(Mutex::default).lock());
    for (position, it) in loops.iter().enumerate() {
        sum.add(&it.executor_metrics(), false);
        if find(&loops[..position], &it.reactor).is_none() {
            sum.add(&it.thread_metrics().since(&it.since), false);
        }
    }
    sum
}

/// Returns the first loop with this reactor.
fn find<'a>(loops: &'a [Arc<Loop>], reactor: &ReactorPulse) -> Option<&'a Arc<Loop>> {
    loops.iter().find(|it| it.reactor == *reactor)
}

/// Adds the totals of a loop that was taken out of the list at `position`. The first loop of a
/// reactor counts its thread until the next loop of the reactor does.
fn add_ended(ended: &Loop, loops: &[Arc<Loop>], position: usize) {
    let mut sum = unpoison(ENDED.get(Mutex::default).lock());
    sum.add(&ended.executor_metrics(), true);
    if find(&loops[..position], &ended.reactor).is_none() {
        let end = match find(&loops[position..], &ended.reactor) {
            Some(next) => next.since,
            None => ended.thread_metrics(),
        };
        sum.add(&end.since(&ended.since), true);
    }
}

/// Updates the link that leads to the loop before `position`, for readers outside of the process.
fn update_link(loops: &[Arc<Loop>], position: usize) {
    let target = position.checked_sub(1).map(|before| &loops[before].record);
    match loops.get(position) {
        Some(next) => next.record.set_next(target),
        None => root::set_first(target),
    }
}

/// Returns the number that Linux knows this thread by. It is cached, so that a `block_on` makes no
/// system call for it. The thread of a forked child has another one.
#[cfg(target_os = "linux")]
fn current_tid() -> i32 {
    thread_local!(static TID: Cell<Option<(Origin, i32)>> = const { Cell::new(None) });
    match TID.get() {
        Some((origin, tid)) if origin.is_here() => tid,
        _ => {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            TID.set(Some((Origin::here(), tid)));
            tid
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn current_tid() -> i32 {
    0
}

static CAPTURES_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes the stacks of this thread, and of those that will have a loop, available to captures.
/// Finding the bounds of a stack takes up to 50 µs.
pub(crate) fn capture_stacks() {
    CAPTURES_STACKS.store(true, Relaxed);
    let id = thread::current().id();
    for known in lock().iter().filter(|it| it.thread_id == id) {
        known.thread.get_or_init(ThreadHandle::current);
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
        let thread = thread::current();
        let thread_name = thread.name().map(Arc::from);
        let tid = current_tid();
        let record = Record::new(tid, thread_name.as_deref(), executor, reactor);
        let counters = counters::current();
        let new = Arc::new(Loop {
            id: IDS.fetch_add(1, Relaxed),
            record,
            thread_name,
            thread_id: thread.id(),
            tid,
            thread: OnceLock::new(),
            #[cfg(unix)]
            fd: reactor.as_raw_fd(),
            executor: executor.pulse(),
            since: thread_metrics(&reactor.pulse(), &counters),
            reactor: reactor.pulse(),
            counters,
            last: Mutex::default(),
        });
        if CAPTURES_STACKS.load(Relaxed) {
            new.thread.get_or_init(ThreadHandle::current);
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
        self.entry.executor_metrics();
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
            add_ended(&ended, &loops, position);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
