//! What other threads can see of an executor: its counters, and the task that it polls.
//!
//! The loop writes plain values with relaxed stores, so an executor that nothing reads pays nothing
//! for this. A reader finds them through the executor's [`PulseSlot`], which lives forever. The
//! slot's lock keeps the values alive while they are read.

use std::fmt;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crate::key::Key;
use crate::names::Names;
use crate::task_id::TaskId;

/// The values of an executor that other threads may read.
pub(crate) struct PulseCell {
    /// The number of the current poll, which tells polls apart. Wraps around.
    pub(crate) polls: Counter,
    /// The task that is being polled, or `Key::SELF_WOKEN` once that task has woken itself.
    pub(crate) current_task: CurrentTask,
    /// The loop is on the thread's stack. Written while polls are published.
    is_running: AtomicBool,
    /// The main future is being polled. Written while polls are published.
    is_in_main: AtomicBool,
    /// Where the task was spawned that is, or was last, polled or dropped. Written while polls are
    /// [published](publish_polls), and around a drop by the loop.
    spawned_at: AtomicPtr<Location<'static>>,
    /// The task that is being dropped. Written while polls are published, and
    /// around a drop by the loop.
    pub(crate) dropped_task: CurrentTask,
    pub(crate) spawned: Counter,
    pub(crate) ended: Counter,
    /// Wakes from other threads that the loop has taken from its inbox.
    pub(crate) remote_wakes: Counter,
}

/// A counter with one writer.
#[repr(transparent)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    #[inline]
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Must be called on the executor's thread only.
    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Must be called on the executor's thread only.
    #[inline]
    pub(crate) fn add(&self, number: usize) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(number), Relaxed);
    }
}

/// A key that the executor's thread alone writes.
#[repr(transparent)]
pub(crate) struct CurrentTask(AtomicUsize);

impl CurrentTask {
    #[inline]
    pub(crate) fn get(&self) -> Key {
        Key::from_number(self.0.load(Relaxed))
    }

    #[inline]
    pub(crate) fn set(&self, key: Key) {
        self.0.store(key.number(), Relaxed);
    }

    #[inline]
    pub(crate) fn replace(&self, key: Key) -> Key {
        let old = self.get();
        self.set(key);
        old
    }
}

impl PulseCell {
    pub(crate) fn new() -> Self {
        PulseCell {
            polls: Counter(AtomicUsize::new(0)),
            current_task: CurrentTask(AtomicUsize::new(Key::NO_TASK.number())),
            is_running: AtomicBool::new(false),
            is_in_main: AtomicBool::new(false),
            spawned_at: AtomicPtr::new(ptr::null_mut()),
            dropped_task: CurrentTask(AtomicUsize::new(Key::NO_TASK.number())),
            spawned: Counter(AtomicUsize::new(0)),
            ended: Counter(AtomicUsize::new(0)),
            remote_wakes: Counter(AtomicUsize::new(0)),
        }
    }

    /// Marks a turn of the loop with published polls, until the guard is dropped.
    pub(crate) fn start_turn(&self) -> PublishedTurn<'_> {
        self.is_running.store(true, Relaxed);
        PublishedTurn(self)
    }

    /// Marks a poll of the main future. The end of the turn ends it, too.
    #[inline]
    pub(crate) fn set_in_main(&self, is_in_main: bool) {
        self.is_in_main.store(is_in_main, Relaxed);
    }

    #[inline]
    pub(crate) fn set_spawned_at(&self, spawned_at: &'static Location<'static>) {
        let spawned_at = ptr::from_ref(spawned_at).cast_mut();
        self.spawned_at.store(spawned_at, Relaxed);
    }

    /// Marks the drop of a task's future or output until the guard is dropped.
    pub(crate) fn start_drop(
        &self,
        task: Key,
        spawned_at: &'static Location<'static>,
    ) -> Dropping<'_> {
        let outer = self.spawned_at.load(Relaxed);
        self.set_spawned_at(spawned_at);
        Dropping {
            pulse: self,
            outer,
            outer_task: self.dropped_task.replace(task),
        }
    }

    fn read(&self) -> PulseReading {
        let (key, dropped) = (self.current_task.get(), self.dropped_task.get());
        // SAFETY: the pointer is null, or was made from a `&'static Location` by `set_spawned_at`.
        let spawned_at = unsafe { self.spawned_at.load(Relaxed).as_ref() };
        PulseReading {
            polls: self.polls.get(),
            is_running: self.is_running.load(Relaxed),
            is_in_main: self.is_in_main.load(Relaxed),
            is_polling: key != Key::NO_TASK,
            is_dropping: dropped != Key::NO_TASK,
            dropped: TaskId::of_key(dropped),
            task: TaskId::of_key(key),
            spawned_at,
            spawned: self.spawned.get(),
            ended: self.ended.get(),
            remote_wakes: self.remote_wakes.get(),
        }
    }
}

/// The guard of [`PulseCell::start_turn`].
pub(crate) struct PublishedTurn<'a>(&'a PulseCell);

impl Drop for PublishedTurn<'_> {
    fn drop(&mut self) {
        self.0.is_running.store(false, Relaxed);
        self.0.is_in_main.store(false, Relaxed);
    }
}

/// The guard of [`PulseCell::start_drop`].
pub(crate) struct Dropping<'a> {
    pulse: &'a PulseCell,
    outer: *mut Location<'static>,
    outer_task: Key,
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        self.pulse.dropped_task.set(self.outer_task);
        self.pulse.spawned_at.store(self.outer, Relaxed);
    }
}

/// Leads from an executor's id to its values. The slots are part of the inboxes, so they are never
/// freed.
#[derive(Default)]
pub(crate) struct PulseSlot {
    state: Mutex<SlotState>,
    /// A call has waited for the names in vain, so the next one does not wait.
    is_stuck: AtomicBool,
}

#[derive(Default)]
struct SlotState {
    /// Distinguishes executors that have the same id one after the other.
    epoch: u64,
    pulse: Option<Published>,
    /// The names of tasks, also of finished ones as long as there is a handle.
    names: Names,
}

/// A pointer to the values of an executor that exists.
struct Published(NonNull<PulseCell>);

// SAFETY: the values are atomics, which any thread may use. `PulseSlot::close` removes the pointer
// before they are freed.
unsafe impl Send for Published {}

impl PulseSlot {
    /// Makes the values of a new executor visible.
    ///
    /// # Safety
    ///
    /// `close` must be called before `pulse` is freed or moved.
    pub(crate) unsafe fn open(&'static self, pulse: &PulseCell) -> Pulse {
        let mut state = self.lock();
        state.epoch += 1;
        state.pulse = Some(Published(NonNull::from(pulse)));
        Pulse {
            slot: self,
            epoch: state.epoch,
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.pulse = None;
        state.names.clear();
    }

    pub(crate) fn set_name(&self, key: Key, name: Arc<str>) {
        self.with_names(|names| names.set(key, name));
    }

    pub(crate) fn name(&self, key: Key) -> Option<Arc<str>> {
        self.with_names(|names| names.get(key))?
    }

    pub(crate) fn forget_name(&self, key: Key) {
        self.with_names(|names| names.remove(key));
    }

    /// Other threads hold the lock for some instructions. If the lock stays held, this is a forked
    /// child in which that thread does not exist, and the names are out of reach.
    fn with_names<T>(&self, f: impl FnOnce(&mut Names) -> T) -> Option<T> {
        /// A thread that holds the lock may get no time of the CPU for a while.
        const PATIENCE: Duration = Duration::from_secs(2);
        let mut start = None;
        while self.is_locked() {
            let waited = start.get_or_insert_with(Instant::now).elapsed();
            if self.is_stuck.fetch_or(waited >= PATIENCE, Relaxed) {
                return None;
            }
            thread::yield_now();
        }
        self.is_stuck.store(false, Relaxed);
        Some(f(&mut self.lock().names))
    }

    /// The address of the list of names. The slot never moves.
    pub(crate) fn names_address(&self) -> usize {
        ptr::from_ref(self.lock().names.entries()).expose_provenance()
    }

    /// In a forked child, a thread of the parent may hold the lock forever.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        // No user code runs under the lock, so the state is consistent even if it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle with which any thread reads the [`PulseReading`] of an executor.
///
/// It may outlive the executor.
///
/// # Examples
///
/// ```
/// use windlass_executor::{Executor, block_on};
///
/// let executor = Executor::new();
/// let pulse = executor.pulse();
/// block_on(executor.run(async {}));
/// let thread = std::thread::spawn(move || pulse.read().map(|reading| reading.polls));
/// assert_eq!(thread.join().unwrap(), Some(1));
/// drop(executor);
/// assert!(pulse.read().is_none());
/// ```
#[derive(Clone, Copy)]
pub struct Pulse {
    slot: &'static PulseSlot,
    epoch: u64,
}

impl Pulse {
    /// Returns the current values, or `None` if the executor is dropped.
    ///
    /// Takes a lock that the executor's thread takes only to create and drop the executor and to
    /// name tasks. The values are read one by one, so they may belong to two successive polls.
    pub fn read(&self) -> Option<PulseReading> {
        let state = self.slot.lock();
        let published = state.pulse.as_ref().filter(|_| state.epoch == self.epoch)?;
        // SAFETY: the executor exists, because `close` removes the pointer under this lock.
        Some(unsafe { published.0.as_ref() }.read())
    }

    /// Returns the name of a task of the executor, if the task has one.
    pub fn name(&self, task: TaskId) -> Option<Arc<str>> {
        let state = self.slot.lock();
        let names = (state.epoch == self.epoch).then_some(&state.names)?;
        names.get(task.0)
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").finish_non_exhaustive()
    }
}

/// The values of an executor at one moment.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PulseReading {
    /// How many polls the loop has started. Wraps around. An unchanged number while a task is
    /// polled means that the poll has not returned.
    pub polls: usize,
    /// The loop is on its thread's stack. Known while [`publish_polls`] is on.
    pub is_running: bool,
    /// The main future is being polled. Known while [`publish_polls`] is on.
    pub is_in_main: bool,
    /// A task is being polled.
    pub is_polling: bool,
    /// The future of a task that was cancelled is being dropped. Known for drops that begin while
    /// [`publish_polls`] is on, and for those by the loop.
    pub is_dropping: bool,
    /// The task that is being dropped.
    pub dropped: Option<TaskId>,
    /// The task that is being polled. `None` between polls, in the main future, and once the task
    /// has woken itself.
    pub task: Option<TaskId>,
    /// Where the task was spawned that is, or was last, polled or dropped. Known while
    /// [`publish_polls`] is on.
    pub spawned_at: Option<&'static Location<'static>>,
    /// How many tasks were spawned. Wraps around.
    pub spawned: usize,
    /// How many of them have ended. Wraps around.
    pub ended: usize,
    /// How many wakes from other threads the loop has received. Wakes of one task between two
    /// checks of the loop count once. Wraps around.
    pub remote_wakes: usize,
}

/// How the loops report their polls. While it is zero, they report nothing. The bits above the
/// flags count the readers of published polls. It is one word, so that a turn loads it at once, and
/// has no lock that a forked child could find locked.
static REPORTS: AtomicUsize = AtomicUsize::new(0);

pub(crate) const SAMPLE: usize = 1;
/// An executor has had an observer.
pub(crate) const OBSERVE: usize = 2;
const READER: usize = 4;

/// Makes all executors of the process publish where the task was spawned that they poll, until as
/// many calls with `false` as with `true` were made.
///
/// It takes effect at the next turn of each loop. While it is on, each poll costs a load and a
/// store. While it is off, a turn costs a load and a branch.
pub fn publish_polls(publishes: bool) {
    if publishes {
        REPORTS.fetch_add(READER, Relaxed);
    } else {
        let left = |reports: usize| reports.checked_sub(READER);
        let _ = REPORTS.fetch_update(Relaxed, Relaxed, left); // without a reader, it stays off
    }
}

pub(crate) fn set_report(report: usize, is_on: bool) {
    if is_on {
        REPORTS.fetch_or(report, Relaxed);
    } else {
        REPORTS.fetch_and(!report, Relaxed);
    }
}

#[inline]
pub(crate) fn reports_polls() -> bool {
    REPORTS.load(Relaxed) != 0
}

pub(crate) fn samples_polls() -> bool {
    REPORTS.load(Relaxed) & SAMPLE != 0
}
