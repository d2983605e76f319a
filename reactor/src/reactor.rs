//! The reactor of a thread, and its turn.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::clock::{MonotonicNanos, nanos, now};
use crate::completion_source::CompletionSources;
use crate::current::nobody_turns;
pub(crate) use crate::current::{hub, made_hub, stop_timer};
use crate::fork::Origin;
use crate::park::Park;
use crate::poller::Poller;
#[cfg(target_os = "linux")]
use crate::poller::{Interest, Key, MAX_SOURCES};
use crate::registry::Registry;
use crate::timers::{TimerKey, Timers};
use crate::wake::{discard_panic, drop_all, wake_all};

/// The most timers that one turn fires. The others fire in the next turn, after the tasks that
/// these have woken, so that many timers at once do not delay the sockets.
const TIMERS_PER_TURN: usize = 1024;

/// The timer slack of a new `Reactor` (ns). Each wake-up takes up to 20 µs of processor time, so
/// many timers are cheap only if they share wake-ups. The kernel's own slack is 50 µs.
const DEFAULT_SLACK: u64 = 100_000;

/// A handle that turns this thread's reactor.
///
/// A thread has one reactor, which is created when it is first needed. It belongs to the thread,
/// and needs no helper thread. [`block_on`](crate::block_on) turns it. A program with another
/// executor, or with an event loop of its own, holds a `Reactor` and calls
/// [`turn`](Reactor::turn).
///
/// While no `Reactor` exists on a thread, nothing turns its reactor, and the futures of this crate
/// return an error instead of waiting forever.
///
/// # Memory
///
/// Lists of wakers shrink with the load, and a source frees the memory of the many wakers that
/// waited for it. Two tables keep their peak size until the thread ends. They take 68 bytes per
/// source (socket, pipe, watched descriptor) and 40 bytes per timer.
///
/// # Examples
///
/// Another executor, driven by hand:
///
/// ```
/// use futures::{executor::LocalPool, task::LocalSpawnExt};
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use windlass_reactor::{time::sleep, Reactor};
///
/// let reactor = Reactor::current()?;
/// let mut pool = LocalPool::new();
/// let done = Rc::new(Cell::new(false));
/// let flag = done.clone();
/// pool.spawner().spawn_local(async move {
///     sleep(Duration::from_millis(1)).await;
///     flag.set(true);
/// })?;
/// while !done.get() {
///     pool.run_until_stalled();
///     reactor.turn(None)?;
///     pool.run_until_stalled();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reactor {
    /// The state of the thread's reactor.
    hub: Rc<ReactorInner>,
    /// How late timers may fire while this exists (ns).
    slack: u64,
}

impl Reactor {
    /// Returns a handle to this thread's reactor. Creates the reactor if the thread has none.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has too few file descriptors left (a reactor takes three on
    /// Linux), or while the thread ends.
    pub fn current() -> io::Result<Reactor> {
        Ok(Reactor::new(hub()?, DEFAULT_SLACK))
    }

    fn new(hub: Rc<ReactorInner>, slack: u64) -> Reactor {
        hub.drivers.set(hub.drivers.get() + 1);
        hub.add_slack(slack);
        Reactor { hub, slack }
    }

    /// Sets the timer slack. From the next turn on, a timer may fire up to `slack` late to share a
    /// wake-up with others. A timer that has no other within its slack is punctual. With zero, each
    /// timer is punctual, and costs a wake-up of its own. A new `Reactor` has 100 µs.
    ///
    /// The slack applies while this `Reactor`, or a later clone of it, exists. Of several
    /// `Reactor`s on the thread the smallest slack applies, so each gets at least its own
    /// precision.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use windlass_reactor::Reactor;
    /// let mut precise = Reactor::current()?;
    /// precise.set_timer_slack(Duration::ZERO);
    /// assert_eq!(precise.timer_slack(), Duration::ZERO);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_timer_slack(&mut self, slack: Duration) {
        let old = std::mem::replace(&mut self.slack, nanos(slack));
        self.hub.add_slack(self.slack);
        self.hub.remove_slack(old);
    }

    /// Returns the slack that applies, which is the smallest of all `Reactor`s of this thread.
    pub fn timer_slack(&self) -> Duration {
        Duration::from_nanos(self.hub.slacks.borrow()[0])
    }

    /// Makes one turn. It waits for events, at most for `limit`, and wakes the futures that waited
    /// for them. With `None` the wait has no limit. With zero the turn does not block.
    ///
    /// A turn may return early without having woken a future. It does not block if
    /// [`waker`](Reactor::waker) was woken since the last turn. On Linux a turn is one system call,
    /// and a second one if it has to set the timer to an earlier deadline.
    ///
    /// The caller polls its futures after each turn, so the turn clears every wake of
    /// [`waker`](Reactor::waker) that came before its end. That includes the wakes of an outer
    /// loop, if a future calls this inside of one. A [`block_on`](crate::block_on) has a flag of
    /// its own and loses no wake, whether it is the outer loop or the inner one.
    ///
    /// # Errors
    ///
    /// Returns an error if the poller fails, which is a defect of the program or of the system, if
    /// a completion source fails, or in a forked child whose parent made the reactor.
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<Turned> {
        // If there is a guard, its holder decides when the loop stops being awake.
        let _awake = (self.hub.park.depth() == 0).then(|| self.awake());
        self.hub.turn(limit)
    }

    /// Returns a waker that ends a wait of [`turn`](Reactor::turn), from any thread. It may outlive
    /// the reactor.
    ///
    /// ```
    /// # use windlass_reactor::Reactor;
    /// let reactor = Reactor::current()?;
    /// let waker = reactor.waker();
    /// let thread = std::thread::spawn(move || waker.wake());
    /// reactor.turn(None)?; // returns once the thread has called
    /// thread.join().unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn waker(&self) -> Waker {
        self.hub.park.waker()
    }

    /// Returns the time of the next turn at the latest. It depends on timers, on completion
    /// sources, and on tasks that have used up their budget, which need a turn now. Until then a
    /// turn would find nothing, as long as the descriptor of [`as_fd`](AsFd::as_fd) is not
    /// readable.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.hub.park.has_deferred() {
            return Some(now());
        }
        self.hub.next_deadline().instant()
    }

    /// Marks the loop as awake until the guard is dropped. Meanwhile wakes make no system call,
    /// except for a wake while a turn blocks, because the loop checks for them before it blocks.
    ///
    /// A loop that polls futures between its turns holds the guard from before the first poll until
    /// after the last turn.
    pub fn awake(&self) -> Awake<'_> {
        self.hub.park.enter();
        Awake { hub: &self.hub }
    }

    pub(crate) fn hub(&self) -> &Rc<ReactorInner> {
        &self.hub
    }
}

impl Clone for Reactor {
    fn clone(&self) -> Self {
        Reactor::new(self.hub.clone(), self.slack)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.hub.drivers.set(self.hub.drivers.get() - 1);
        self.hub.remove_slack(self.slack);
        if !self.hub.is_driven() {
            self.hub.finish(); // no turn follows
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("id", &self.hub.id)
            .field("timers", &self.hub.timers.borrow().len())
            .finish_non_exhaustive()
    }
}

/// The descriptor is readable when a turn would find something, so another loop can watch it.
#[cfg(unix)]
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hub.poller.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for Reactor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The guard of [`Reactor::awake`].
#[must_use = "the loop counts as asleep when this is dropped"]
pub struct Awake<'a> {
    hub: &'a ReactorInner,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        if self.hub.park.leave() {
            self.hub.detach();
        }
    }
}

impl fmt::Debug for Awake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awake").finish_non_exhaustive()
    }
}

/// The result of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turned {
    /// How many wakers it called.
    pub woken: usize,
}

/// The state of a thread's reactor, which its futures share.
pub(crate) struct ReactorInner {
    origin: Origin,
    completions: CompletionSources,
    /// When the completion sources need a turn at the latest, as of the last submission.
    completion_deadline: Cell<MonotonicNanos>,
    budget: Budget,
    /// Identifies the reactor in the process, for values that move between threads.
    id: NonZeroU64,
    poller: Poller,
    park: Park,
    registry: RefCell<Registry>,
    timers: RefCell<Timers<Waker>>,
    /// The number of this turn.
    turn: Cell<u32>,
    /// The empty list of wakers of the last turn, kept for its memory.
    scratch: Cell<Vec<Waker>>,
    /// The number of `Reactor`s. While it is zero, nothing turns the reactor.
    drivers: Cell<usize>,
    /// The timer slack (ns) of each of them, the smallest first.
    slacks: RefCell<Vec<u64>>,
}

/// The key of the file descriptors of completion sources, whose events only end waits.
#[cfg(target_os = "linux")]
const COMPLETIONS: Key = Key {
    slot: MAX_SOURCES as u32,
    generation: 0,
};

/// Names the inherited reactor in the errors that a forked child gets.
pub(crate) const REACTOR: &str = "this reactor, with its sockets, descriptors and open files,";

impl ReactorInner {
    pub(crate) fn new() -> io::Result<ReactorInner> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let (poller, notifier) = Poller::new()?;
        Ok(ReactorInner {
            origin: Origin::here(),
            completions: CompletionSources::new(),
            completion_deadline: Cell::new(MonotonicNanos::NEVER),
            budget: Budget::new(),
            id: NonZeroU64::MIN.saturating_add(IDS.fetch_add(1, Relaxed)),
            poller,
            park: Park::new(notifier),
            registry: RefCell::new(Registry::new()),
            timers: RefCell::new(Timers::new(DEFAULT_SLACK, MonotonicNanos::now().as_u64())),
            turn: Cell::new(0),
            scratch: Cell::new(Vec::new()),
            drivers: Cell::new(0),
            slacks: RefCell::new(Vec::new()),
        })
    }

    pub(crate) fn id(&self) -> NonZeroU64 {
        self.id
    }

    pub(crate) fn park(&self) -> &Park {
        &self.park
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn poller(&self) -> &Poller {
        &self.poller
    }

    pub(crate) fn registry(&self) -> &RefCell<Registry> {
        &self.registry
    }

    pub(crate) fn completions(&self) -> &CompletionSources {
        &self.completions
    }

    pub(crate) fn turn_number(&self) -> u32 {
        self.turn.get()
    }

    /// False in a forked child, where the drivers are the parent's.
    pub(crate) fn is_driven(&self) -> bool {
        self.has_drivers() && self.origin.is_here()
    }

    /// Like `is_driven`, for a reactor that this process is known to have made.
    pub(crate) fn has_drivers(&self) -> bool {
        self.drivers.get() > 0
    }

    /// Returns the error of an operation that would wait forever.
    #[cold]
    pub(crate) fn not_driven(&self) -> io::Error {
        let inherited = self.origin.check(REACTOR);
        inherited.err().unwrap_or_else(nobody_turns)
    }

    /// Returns true in a forked child, where the poller and the timer are the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    /// Returns an error in a forked child. For calls that would change the parent's poller or ring.
    pub(crate) fn check_origin(&self) -> io::Result<()> {
        self.origin.check(REACTOR)
    }

    /// Returns an error if nothing turns the reactor. For operations that are about to wait.
    #[inline]
    pub(crate) fn check_driven(&self) -> io::Result<()> {
        if self.is_driven() {
            Ok(())
        } else {
            Err(self.not_driven())
        }
    }

    /// Like `check_driven`, for a reactor that this process is known to have made.
    #[inline]
    pub(crate) fn check_has_drivers(&self) -> io::Result<()> {
        if self.has_drivers() {
            Ok(())
        } else {
            Err(self.not_driven())
        }
    }

    /// ⑤ The turn: wait, collect the wakers, release every borrow, wake.
    pub(crate) fn turn(&self, limit: Option<Duration>) -> io::Result<Turned> {
        self.check_origin()?;
        self.turn.set(self.turn.get().wrapping_add(1));
        let is_idle = self.submit()? & !self.park.has_deferred();
        // Until the wakers are called, nothing runs that could start or stop a timer.
        let deadline = self.next_deadline();
        self.wait(is_idle, deadline, limit)?;
        // From here on nothing may unwind: an edge that was taken is not reported again.
        let mut woken = self.scratch.take();
        self.collect_deferred(&mut woken);
        self.collect_ready(&mut woken);
        self.collect_due(deadline, &mut woken);
        let panic = self.collect_completions(&mut woken);
        let turned = Turned { woken: woken.len() };
        wake_all(woken.drain(..));
        shrink(&mut woken, turned.woken);
        self.scratch.set(woken);
        self.park.end_turn();
        panic.map_or(Ok(turned), |payload| resume_unwind(payload))
    }

    /// Returns when timers or completion sources need a turn at the latest.
    fn next_deadline(&self) -> MonotonicNanos {
        let timers = self.timers.borrow_mut().next_deadline();
        let timers = timers.map_or(MonotonicNanos::NEVER, MonotonicNanos::from_u64);
        timers.min(self.completion_deadline.get())
    }

    /// Waits for events. Blocks only if nothing is ready and no deadline is near.
    fn wait(
        &self,
        is_idle: bool,
        deadline: MonotonicNanos,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let set_timer = |after| self.set_timer(after);
        let blocks = self.park.may_block(is_idle, deadline, limit, set_timer)?;
        let waited = self.poller.wait(blocks);
        self.park.unpark(blocks, matches!(waited, Ok(true)));
        waited.map(drop)
    }

    #[inline(never)] // a system call, which most turns don't make
    fn set_timer(&self, after: Duration) -> io::Result<()> {
        self.check_origin()?; // a forked child that leaves the parent's loop comes here
        self.poller.set_timer(after)
    }

    /// Called when the last loop leaves the stack. From here on the poller's descriptor becomes
    /// readable when a turn is needed.
    fn detach(&self) {
        // A source that fails or panics here does so again in the next turn, which is requested.
        let mut may_block = false;
        discard_panic(|| may_block = self.submit().unwrap_or(false));
        let is_idle = may_block && !self.park.has_deferred();
        let set_timer = |after| self.set_timer(after);
        self.park.detach(is_idle, self.next_deadline(), set_timer);
    }

    fn collect_deferred(&self, woken: &mut Vec<Waker>) {
        let mut deferred = self.park.deferred().borrow_mut();
        if !deferred.is_empty() {
            let taken = deferred.len();
            woken.append(&mut deferred);
            shrink(&mut deferred, taken);
        }
    }

    fn collect_ready(&self, woken: &mut Vec<Waker>) {
        let registry = self.registry.borrow();
        self.poller
            .for_each_event(|event| registry.dispatch(event, woken));
    }

    fn collect_due(&self, deadline: MonotonicNanos, woken: &mut Vec<Waker>) {
        if !self.park.may_be_due(deadline) {
            return;
        }
        let now = MonotonicNanos::now();
        if deadline <= now {
            let mut timers = self.timers.borrow_mut();
            timers.fire(now.as_u64(), TIMERS_PER_TURN, woken);
        }
    }

    /// Registers a file descriptor of a completion source, whose events end waits.
    #[cfg(target_os = "linux")]
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.check_origin()?;
        self.poller.add(fd, COMPLETIONS, Interest::Read)
    }

    /// Lets the completion sources submit. Returns whether the reactor may block.
    #[inline]
    fn submit(&self) -> io::Result<bool> {
        if self.completions.is_empty() {
            return Ok(true);
        }
        self.submit_completions()
    }

    #[inline(never)]
    fn submit_completions(&self) -> io::Result<bool> {
        self.check_origin()?; // a forked child that leaves the parent's loop comes here
        let (may_block, until) = self.completions.submit()?;
        let until = until.map_or(MonotonicNanos::NEVER, MonotonicNanos::from);
        self.completion_deadline.set(until);
        Ok(may_block)
    }

    /// Returns the first panic of a source.
    #[inline]
    fn collect_completions(&self, woken: &mut Vec<Waker>) -> Option<Box<dyn Any + Send>> {
        if self.completions.is_empty() {
            return None;
        }
        self.completions.collect(woken)
    }

    /// Called at the end of a loop after which no turn may follow.
    #[inline]
    pub(crate) fn finish(&self) {
        // A forked child that leaves the parent's loop comes here, too.
        if !self.completions.is_empty() && !self.is_inherited() {
            self.completions.finish();
        }
    }

    /// Calls `finish` unless the loop is nested in another loop of this reactor.
    #[inline]
    pub(crate) fn finish_outermost(&self) {
        if self.park.depth() == 1 {
            self.finish();
        }
    }

    #[inline]
    pub(crate) fn start_timer(&self, deadline: MonotonicNanos, waker: Waker) -> TimerKey {
        self.timers.borrow_mut().insert(deadline.as_u64(), waker)
    }

    /// Moves a timer to another deadline. Returns `None` if it has fired.
    pub(crate) fn restart_timer(
        &self,
        timer: TimerKey,
        deadline: MonotonicNanos,
    ) -> Option<TimerKey> {
        let mut timers = self.timers.borrow_mut();
        let waker = timers.remove(timer)?;
        Some(timers.insert(deadline.as_u64(), waker))
    }

    /// Returns the waker, which the caller drops without a borrow.
    #[inline]
    pub(crate) fn stop_timer(&self, timer: TimerKey) -> Option<Waker> {
        self.timers.borrow_mut().remove(timer)
    }

    /// Returns whether the timer would wake the task of `waker`, or `None` if it has fired.
    pub(crate) fn timer_wakes(&self, timer: TimerKey, waker: &Waker) -> Option<bool> {
        self.timers
            .borrow_mut()
            .get_mut(timer)
            .map(|known| known.will_wake(waker))
    }

    /// Changes the waker of a timer that has not fired. Returns the previous waker, which the
    /// caller drops without a borrow.
    pub(crate) fn change_timer(&self, timer: TimerKey, waker: Waker) -> Option<Waker> {
        let mut timers = self.timers.borrow_mut();
        Some(std::mem::replace(timers.get_mut(timer)?, waker))
    }

    fn add_slack(&self, slack: u64) {
        let mut slacks = self.slacks.borrow_mut();
        let position = slacks.partition_point(|&other| other < slack);
        slacks.insert(position, slack);
        self.timers.borrow_mut().set_slack(slacks[0]);
    }

    fn remove_slack(&self, slack: u64) {
        let mut slacks = self.slacks.borrow_mut();
        let position = slacks.partition_point(|&other| other < slack);
        slacks.remove(position);
        let left = slacks.len();
        shrink(&mut slacks, left);
        if let Some(&smallest) = slacks.first() {
            self.timers.borrow_mut().set_slack(smallest);
        }
    }
}

/// A list with at most this capacity is never shrunk. That many wakers take 16 KiB.
const KEPT_CAPACITY: usize = 1024;

/// Shrinks a list if its capacity is more than four times the number of elements `used`.
#[inline]
fn shrink<T>(list: &mut Vec<T>, used: usize) {
    if list.capacity() > KEPT_CAPACITY && list.capacity() > 4 * used {
        list.shrink_to(KEPT_CAPACITY.max(2 * used));
    }
}

// The wakers that are left belong to timers that were leaked or moved to another thread.
impl Drop for ReactorInner {
    fn drop(&mut self) {
        let mut wakers = self.park.deferred().take();
        let timers = self.timers.get_mut();
        timers.fire(u64::MAX, usize::MAX, &mut wakers);
        drop_all(wakers);
    }
}

impl fmt::Debug for ReactorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorInner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
