//! The handle of a thread's reactor.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock::{nanos, now};
use crate::current::current_reactor;
use crate::inner::{DEFAULT_SLACK, ReactorInner, TurnResult};
use crate::layout::Addresses;
use crate::pulse::ReactorPulse;
use crate::waits::Wait;

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
/// waited for it. Two tables keep their peak size until the thread ends. They take 76 bytes per
/// source (socket, pipe, watched descriptor) that has waited, and 40 bytes per timer.
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
    inner: Rc<ReactorInner>,
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
        Ok(Reactor::new(current_reactor()?, DEFAULT_SLACK))
    }

    fn new(inner: Rc<ReactorInner>, slack: u64) -> Reactor {
        inner.add_driver(slack);
        Reactor { inner, slack }
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
        self.inner.add_slack(self.slack);
        self.inner.remove_slack(old);
    }

    /// Returns the slack that applies, which is the smallest of all `Reactor`s of this thread.
    pub fn timer_slack(&self) -> Duration {
        Duration::from_nanos(self.inner.slack())
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
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<TurnResult> {
        // If there is a guard, its holder decides when the loop stops being awake.
        let _awake = (self.inner.park().depth() == 0).then(|| self.awake());
        self.inner.turn(limit)
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
        self.inner.park().waker()
    }

    /// Returns the time of the next turn at the latest. It depends on timers, on completion
    /// sources, and on tasks that have used up their budget, which need a turn now. Until then a
    /// turn would find nothing, as long as the descriptor of [`as_fd`](AsFd::as_fd) is not
    /// readable.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.inner.park().has_deferred() {
            return Some(now());
        }
        self.inner.next_deadline().instant()
    }

    /// Returns whether the descriptor of [`as_fd`](AsFd::as_fd) becomes readable when a timer is
    /// due, so that a host needs no other timer. This is the case on Linux, unless a sandbox
    /// refuses timer descriptors. Elsewhere the host waits at most until
    /// [`next_deadline`](Reactor::next_deadline).
    ///
    /// ```
    /// # use windlass_reactor::Reactor;
    /// let reactor = Reactor::current()?;
    /// let host_needs_timer = !reactor.descriptor_has_timers();
    /// # let _ = host_needs_timer;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn descriptor_has_timers(&self) -> bool {
        self.inner.has_timer_fd()
    }

    /// Marks the loop as awake until the guard is dropped. Meanwhile wakes make no system call,
    /// except for a wake while a turn blocks, because the loop checks for them before it blocks.
    ///
    /// A loop that polls futures between its turns holds the guard from before the first poll until
    /// after the last turn.
    pub fn awake(&self) -> Awake<'_> {
        self.inner.park().enter();
        Awake { inner: &self.inner }
    }

    /// Returns a handle with which other threads read the state of this reactor. The call publishes
    /// the exact number of turns.
    pub fn pulse(&self) -> ReactorPulse {
        self.inner.publish_turns();
        ReactorPulse::new(self.inner.park().state().clone())
    }

    /// Lists what the futures of this thread wait for in this reactor, and the lookups of host
    /// names of all threads.
    ///
    /// It takes time in proportion to the number of sources and timers.
    ///
    /// ```
    /// use windlass_reactor::{Reactor, WaitEvent, time::sleep};
    /// # use std::{future::Future, pin::pin, task::{Context, Waker}, time::Duration};
    ///
    /// let reactor = Reactor::current()?;
    /// let mut sleep = pin!(sleep(Duration::from_secs(1)));
    /// assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    /// assert!(matches!(reactor.list_waits()[0].event, WaitEvent::Deadline(Some(_))));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn list_waits(&self) -> Vec<Wait> {
        self.inner.list_waits()
    }

    /// Returns where the state of this reactor is in memory. It is valid as long as this exists.
    #[doc(hidden)]
    pub fn addresses(&self) -> Addresses {
        self.inner.addresses()
    }

    /// Sets a hook that is called before the loop blocks without a limit and without a timer, while
    /// at most `sources` sources exist. With none, only another thread can end such a wait, so it
    /// may be a deadlock.
    ///
    /// The hook returns a limit for this wait, after which it is called again. It runs on the
    /// reactor's thread, outside of any borrow. It may wake tasks, which cancels the wait, and turn
    /// the reactor. A panic propagates from the turn. It replaces the hook that was set before.
    pub fn on_idle(&self, sources: usize, hook: Option<fn() -> Option<Duration>>) {
        self.inner.set_idle_hook(hook, sources);
    }

    pub(crate) fn inner(&self) -> &Rc<ReactorInner> {
        &self.inner
    }

    /// Shares the budget of an executor: how many operations on sockets, pipes and files one poll
    /// of a task may complete. Then its next operation returns `Pending`, and the task is woken in
    /// the next turn. So a task whose sources are always ready keeps neither timers nor other tasks
    /// waiting.
    ///
    /// `refill` is called for each 32 operations. It returns whether the current poll may complete
    /// 32 more, and `None` while no task is being polled. `windlass_executor` has such a function.
    /// Without one, a task is known by its waker, and has 32 to 64 operations per turn. It counts
    /// for all reactors of this thread.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use windlass_reactor::Reactor;
    ///
    /// thread_local! {
    ///     static MAY_REFILL: Cell<bool> = const { Cell::new(true) };
    /// }
    ///
    /// let reactor = Reactor::current()?;
    /// reactor.share_budget(|| Some(MAY_REFILL.replace(false)));
    /// // Before each poll of a task:
    /// MAY_REFILL.set(true);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn share_budget(&self, refill: fn() -> Option<bool>) {
        self.inner.budget().share(refill);
    }
}

impl Clone for Reactor {
    fn clone(&self) -> Self {
        Reactor::new(self.inner.clone(), self.slack)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.inner.remove_driver(self.slack);
        if !self.inner.is_driven() {
            self.inner.finish(); // no turn follows
        }
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("id", &self.inner.id())
            .field("timers", &self.inner.timers())
            .finish_non_exhaustive()
    }
}

/// The descriptor is readable when a turn would find something, so another loop can watch it.
#[cfg(unix)]
impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.poller().as_fd()
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
    inner: &'a ReactorInner,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        if self.inner.park().leave() {
            self.inner.detach();
        }
    }
}

impl fmt::Debug for Awake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awake").finish_non_exhaustive()
    }
}
