//! The threads that have loops, as other threads see them.
//!
//! The loops of a thread share its reactor. The shared part is kept until the thread ends. So a
//! `block_on`, which makes a runtime of its own, registers and adds up little.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::cell::RefCell;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use windlass_executor::PulseReading;
#[cfg(target_os = "linux")]
use windlass_reactor::fork::Origin;
use windlass_reactor::fork::PerProcess;
use windlass_reactor::{Reactor, ReactorPulse};

use super::loops;
use super::metrics::Metrics;
use super::stack::ThreadHandle;
use crate::counters::{self, ThreadCounters};

/// A thread with a reactor.
pub(crate) struct LoopThread {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) id: ThreadId,
    /// The number that Linux knows the thread by, and 0 elsewhere.
    pub(crate) tid: i32,
    /// The thread as its stack is captured. Set while stacks are captured.
    pub(crate) handle: OnceLock<ThreadHandle>,
    /// The descriptor of the reactor. Open while a loop of the thread is in the list.
    #[cfg(unix)]
    pub(crate) fd: RawFd,
    pub(crate) reactor: ReactorPulse,
    counters: Arc<ThreadCounters>,
    /// The metrics of the thread before its first loop.
    before: Metrics,
    /// The totals of the executors that have ended. Changed under the lock of the loops, so that no
    /// reader finds an executor here and in the list, or in neither.
    ended: Mutex<ExecutorTotals>,
    /// The thread has dropped its thread-local values, or has another reactor now.
    has_ended: AtomicBool,
}

/// Numbers of one executor, or sums over several.
#[derive(Clone, Copy, Default)]
pub(crate) struct ExecutorTotals {
    polls: u64,
    wakes: u64,
    remote_wakes: u64,
    spawned: u64,
}

impl ExecutorTotals {
    /// Advances the totals to the counters of the executor, which wrap around.
    pub(crate) fn advance(&mut self, reading: &PulseReading) {
        widen(&mut self.polls, reading.polls);
        widen(&mut self.spawned, reading.spawned);
        widen(&mut self.remote_wakes, reading.remote_wakes);
        // A spawned task is polled later, so the difference may shrink for a while.
        self.wakes = self.wakes.max(self.polls.saturating_sub(self.spawned));
    }

    fn add(&mut self, other: &ExecutorTotals) {
        self.polls += other.polls;
        self.wakes += other.wakes;
        self.remote_wakes += other.remote_wakes;
        self.spawned += other.spawned;
    }

    pub(crate) fn add_to(&self, sum: &mut Metrics) {
        sum.polls += self.polls;
        sum.wakes += self.wakes;
        sum.remote_wakes += self.remote_wakes;
        sum.spawned += self.spawned;
    }
}

/// Advances a total to the current value of a counter that wraps around.
fn widen(total: &mut u64, counter: usize) {
    *total += counter.wrapping_sub(*total as usize) as u64;
}

/// The threads of the process that have loops or have had some.
#[derive(Default)]
struct Threads {
    live: Vec<Arc<LoopThread>>,
    /// The totals of the threads that have ended.
    ended: Metrics,
}

/// Locked under the lock of the loops.
static THREADS: PerProcess<Mutex<Threads>> = PerProcess::new();

fn threads() -> MutexGuard<'static, Threads> {
    unpoison(THREADS.get(Mutex::default))
}

/// No user code runs under the locks, so the state is consistent even if one is poisoned.
fn unpoison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local!(static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) });

/// This thread, until it ends or gets another reactor.
struct Current(Arc<LoopThread>);

impl Drop for Current {
    fn drop(&mut self) {
        let loops = loops::lock();
        self.0.has_ended.store(true, Relaxed);
        self.0.end_unless_in(&loops);
    }
}

impl LoopThread {
    /// Returns this thread. It is listed if it has a loop that is listed.
    pub(crate) fn current(reactor: &Reactor, is_listed: bool) -> Arc<LoopThread> {
        if !is_listed {
            return LoopThread::new(reactor, false);
        }
        let pulse = reactor.pulse();
        let known = CURRENT.try_with(|current| {
            let current = current.borrow();
            let same = current.as_ref().filter(|it| it.0.reactor == pulse);
            same.map(|it| it.0.clone())
        });
        match known {
            Ok(Some(thread)) => thread,
            Ok(None) => {
                let new = LoopThread::new(reactor, false);
                threads().live.push(new.clone());
                let previous = CURRENT.with(|it| it.replace(Some(Current(new.clone()))));
                drop(previous); // it takes locks
                new
            }
            // While the thread ends, its last loop ends this, too.
            Err(_) => {
                let new = LoopThread::new(reactor, true);
                threads().live.push(new.clone());
                new
            }
        }
    }

    fn new(reactor: &Reactor, has_ended: bool) -> Arc<LoopThread> {
        let (thread, counters) = (thread::current(), counters::current());
        let reactor_pulse = reactor.pulse();
        Arc::new(LoopThread {
            name: thread.name().map(Arc::from),
            id: thread.id(),
            tid: current_tid(),
            handle: OnceLock::new(),
            #[cfg(unix)]
            fd: reactor.as_raw_fd(),
            before: read(&reactor_pulse, &counters),
            reactor: reactor_pulse,
            counters,
            ended: Mutex::default(),
            has_ended: AtomicBool::new(has_ended),
        })
    }

    /// Returns the metrics of the reactor and of the thread.
    pub(crate) fn metrics(&self) -> Metrics {
        read(&self.reactor, &self.counters).since(&self.before)
    }

    /// Returns the metrics of the thread and of its executors that have ended. The caller holds the
    /// lock of the loops.
    pub(crate) fn metrics_with_ended(&self) -> Metrics {
        let mut metrics = self.metrics();
        unpoison(&self.ended).add_to(&mut metrics);
        metrics
    }

    /// Adds the totals of a loop that was taken out of the list, which the caller has locked.
    pub(crate) fn end_loop(&self, totals: &ExecutorTotals, loops: &[Arc<loops::Loop>]) {
        unpoison(&self.ended).add(totals);
        if self.has_ended.load(Relaxed) {
            self.end_unless_in(loops);
        }
    }

    /// Moves a thread without loops into the totals of the process.
    #[cold]
    fn end_unless_in(&self, loops: &[Arc<loops::Loop>]) {
        let is_self = |it: &Arc<LoopThread>| std::ptr::eq(&**it, self);
        if loops.iter().any(|it| is_self(&it.thread)) {
            return;
        }
        let mut threads = threads();
        // Missing in a forked child.
        if let Some(position) = threads.live.iter().position(is_self) {
            let ended = threads.live.swap_remove(position);
            threads.ended.add(&ended.metrics_with_ended(), true);
        }
    }
}

fn read(reactor: &ReactorPulse, thread: &ThreadCounters) -> Metrics {
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

/// Returns the metrics of all threads and of the executors that have ended. The caller holds the
/// lock of the loops.
pub(crate) fn metrics_of_all() -> Metrics {
    let threads = threads();
    let mut sum = threads.ended;
    for thread in &threads.live {
        sum.add(&thread.metrics_with_ended(), false);
    }
    sum
}

/// Returns the metrics of this thread and of its executors that have ended. The caller holds the
/// lock of the loops.
pub(crate) fn metrics_of_current() -> Metrics {
    let of_current = |current: &RefCell<Option<Current>>| {
        let current = current.borrow();
        current.as_ref().map(|it| it.0.metrics_with_ended())
    };
    CURRENT
        .try_with(of_current)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Returns the number that Linux knows this thread by. It is cached, so that a runtime makes no
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
