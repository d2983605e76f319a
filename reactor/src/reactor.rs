//! The reactor of a thread, and its turn.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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
use crate::wake::{drop_all, wake_all};

/// How many timers a turn fires at most. The rest is due in the next one, after the tasks that
/// these have woken: so a crowd of timers doesn't hold up the sockets.
const TIMERS: usize = 1024;

/// The timer slack that a `Reactor` begins with (ns). To sleep and to be woken takes up to 20 µs
/// of processor time, so a crowd of timers is cheap only if they share it. The kernel's own slack
/// is 50 µs.
const SLACK: u64 = 100_000;

/// The right to turn this thread's reactor.
///
/// A thread has one reactor. It's made when it is first needed, belongs to the thread, and needs
/// no helper thread. [`block_on`](crate::block_on) turns it; a program with another executor or
/// with a loop of its own holds a `Reactor` and calls [`turn`](Reactor::turn).
///
/// While nothing on a thread holds a `Reactor`, nothing turns it, and the futures of this crate
/// give an error instead of waiting for ever.
///
/// # Memory
///
/// Lists of wakers shrink with the load, and a source gives back the memory of a crowd that waited
/// for it. Two tables stay at their peak until the thread ends: 60 bytes for each source (socket,
/// pipe, watched descriptor) and 40 bytes for each timer, of the most that there were at once.
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
    hub: Rc<ReactorInner>,
    /// How late timers may be for it (ns).
    slack: u64,
}

impl Reactor {
    /// This thread's reactor, which is made now if it is not there yet.
    ///
    /// # Errors
    ///
    /// If the process has too few file descriptors left (it takes three on Linux), or while the
    /// thread ends.
    pub fn current() -> io::Result<Reactor> {
        Ok(Reactor::new(hub()?, SLACK))
    }

    fn new(hub: Rc<ReactorInner>, slack: u64) -> Reactor {
        hub.drivers.set(hub.drivers.get() + 1);
        hub.add_slack(slack);
        Reactor { hub, slack }
    }

    /// Lets timers be late by up to `slack` for the sake of sharing a wake-up with others, from the
    /// next turn on. A timer that is alone in its slack is punctual all the same. Zero makes each
    /// punctual, for a wake-up each; 100 µs is what a `Reactor` begins with.
    ///
    /// It holds while this `Reactor` or a clone made of it from now on lives. If there are several
    /// on the thread the smallest slack holds, so none gets less precision than it has asked for.
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

    /// The slack that holds: the smallest of what all `Reactor`s of this thread ask for.
    pub fn timer_slack(&self) -> Duration {
        Duration::from_nanos(self.hub.slacks.borrow()[0])
    }

    /// One turn: waits until something happens, at most for `limit`, and wakes the futures that
    /// waited for it. `None` waits as long as it takes, zero only looks.
    ///
    /// It may return early, and without having woken any. A wake of [`waker`](Reactor::waker)
    /// since the last turn keeps it from waiting. On Linux a turn is one system call, and another
    /// one where an earlier deadline than before has come up.
    ///
    /// After a turn its caller looks at whatever it polls, so the wakes until then count as seen:
    /// also if it's called inside of a future, by a loop within the loop. A
    /// [`block_on`](crate::block_on) loses none by that, neither outside nor inside.
    ///
    /// # Errors
    ///
    /// If the poller fails, which is a defect of the program or of the system.
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<Turned> {
        // If there is a guard, its holder decides when the loop stops being awake.
        let _awake = (self.hub.park.depth() == 0).then(|| self.awake());
        self.hub.turn(limit)
    }

    /// A waker that ends a wait of [`turn`](Reactor::turn), from any thread. It outlives the
    /// reactor safely.
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

    /// When a turn is due at the latest, for the sake of timers, and of sockets that have had
    /// their share of the last turn. Until then, and while the descriptor of
    /// [`as_fd`](AsFd::as_fd) is not readable, a turn would find nothing.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.hub.park.has_deferred() {
            return Some(now());
        }
        self.hub.next_deadline().instant()
    }

    /// While the guard lives, wakes on this thread need not ring the bell: they are looked at
    /// before the loop sleeps. For loops that poll futures between their turns, from before the
    /// first poll to after the last turn.
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
            self.hub.finish(); // no turn comes
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

/// Readable when a turn would find something: for a foreign loop that watches descriptors.
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

/// What a turn did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turned {
    /// How many wakers it called.
    pub woken: usize,
}

/// What the futures of a thread share.
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
    /// The emptied list of the last turn, for its memory.
    scratch: Cell<Vec<Waker>>,
    /// How many `Reactor`s there are. While there is none, nothing turns.
    drivers: Cell<usize>,
    /// The timer slack (ns) of each of them, the smallest first.
    slacks: RefCell<Vec<u64>>,
}

/// Of the file descriptors of completion sources, whose events only end waits.
#[cfg(target_os = "linux")]
const COMPLETIONS: Key = Key {
    slot: MAX_SOURCES as u32,
    generation: 0,
};

/// What an error names that is about a reactor or its sources in a forked child.
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
            timers: RefCell::new(Timers::new(SLACK, MonotonicNanos::now().as_u64())),
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

    pub(crate) fn poll(&self) -> &Poller {
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

    /// As `is_driven`, of a hub that is known to be this process's.
    pub(crate) fn has_drivers(&self) -> bool {
        self.drivers.get() > 0
    }

    /// The error of an operation on this hub that would wait for ever.
    #[cold]
    pub(crate) fn not_driven(&self) -> io::Error {
        let inherited = self.origin.check(REACTOR);
        inherited.err().unwrap_or_else(nobody_turns)
    }

    /// True in a forked child: the poller, the timer and the ring are the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    /// For calls that would change the poller or the ring of a parent.
    pub(crate) fn check_origin(&self) -> io::Result<()> {
        self.origin.check(REACTOR)
    }

    /// For operations that are about to wait.
    #[inline]
    pub(crate) fn check_driven(&self) -> io::Result<()> {
        if self.is_driven() {
            Ok(())
        } else {
            Err(self.not_driven())
        }
    }

    /// As `check_driven`, of a hub that is known to be this process's.
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

    /// When timers or completion sources need a turn at the latest.
    fn next_deadline(&self) -> MonotonicNanos {
        let timers = self.timers.borrow_mut().next_deadline();
        let timers = timers.map_or(MonotonicNanos::NEVER, MonotonicNanos::from_u64);
        timers.min(self.completion_deadline.get())
    }

    /// Waits for events, and blocks if it may.
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

    /// The last loop leaves the stack. From here on the poller's descriptor becomes readable when
    /// a turn is needed.
    fn detach(&self) {
        // A source that fails or panics here does so again in the next turn, which is requested.
        let submitted = catch_unwind(AssertUnwindSafe(|| self.submit()));
        let may_block = submitted.is_ok_and(|submitted| submitted.unwrap_or(false));
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
            timers.fire(now.as_u64(), TIMERS, woken);
        }
    }

    /// Lets a file descriptor of a completion source end waits.
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

    /// Returns the panic of a source.
    #[inline]
    fn collect_completions(&self, woken: &mut Vec<Waker>) -> Option<Box<dyn Any + Send>> {
        if self.completions.is_empty() {
            return None;
        }
        self.completions.collect(woken)
    }

    /// For the end of a loop after which no turn may come.
    #[inline]
    pub(crate) fn finish(&self) {
        // A forked child that leaves the parent's loop comes here, too.
        if !self.completions.is_empty() && !self.is_inherited() {
            self.completions.finish();
        }
    }

    /// The same if the loop is not inside of another one of this reactor.
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

    /// Moves a timer to another deadline. `None` if it has fired.
    pub(crate) fn restart_timer(
        &self,
        timer: TimerKey,
        deadline: MonotonicNanos,
    ) -> Option<TimerKey> {
        let mut timers = self.timers.borrow_mut();
        let waker = timers.remove(timer)?;
        Some(timers.insert(deadline.as_u64(), waker))
    }

    /// The caller drops what comes back.
    #[inline]
    pub(crate) fn stop_timer(&self, timer: TimerKey) -> Option<Waker> {
        self.timers.borrow_mut().remove(timer)
    }

    /// `None` if the timer has fired, and otherwise whether `waker` is the one it has.
    pub(crate) fn timer_wakes(&self, timer: TimerKey, waker: &Waker) -> Option<bool> {
        self.timers
            .borrow_mut()
            .get_mut(timer)
            .map(|known| known.will_wake(waker))
    }

    /// Changes the waker of a timer that has not fired. The caller drops what comes back.
    pub(crate) fn change_timer(&self, timer: TimerKey, waker: Waker) -> Option<Waker> {
        let mut timers = self.timers.borrow_mut();
        Some(std::mem::replace(timers.get_mut(timer)?, waker))
    }

    fn add_slack(&self, slack: u64) {
        let mut slacks = self.slacks.borrow_mut();
        let place = slacks.partition_point(|&other| other < slack);
        slacks.insert(place, slack);
        self.timers.borrow_mut().set_slack(slacks[0]);
    }

    fn remove_slack(&self, slack: u64) {
        let mut slacks = self.slacks.borrow_mut();
        let place = slacks.partition_point(|&other| other < slack);
        slacks.remove(place);
        let left = slacks.len();
        shrink(&mut slacks, left);
        if let Some(&smallest) = slacks.first() {
            self.timers.borrow_mut().set_slack(smallest);
        }
    }
}

/// A list of so many wakers keeps its memory (16 KiB).
const KEPT: usize = 1024;

/// Gives memory back that is more than four times what was `used`.
#[inline]
fn shrink<T>(list: &mut Vec<T>, used: usize) {
    if list.capacity() > KEPT && list.capacity() > 4 * used {
        list.shrink_to(KEPT.max(2 * used));
    }
}

/// The wakers that are left belong to timers that were leaked, or moved to another thread.
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
