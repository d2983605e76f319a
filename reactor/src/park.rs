//! When may the loop block? The whole protocol between the loop, the threads that wake it, and a
//! host that watches the poller's file descriptor.
//!
//! [`ParkState`] is the part that other threads see:
//!
//! | state      | the loop                                        | `notify`                  |
//! |------------|-------------------------------------------------|---------------------------|
//! | `AWAKE`    | runs, and polls whatever was woken before it    | → `NOTIFIED`              |
//! |            | blocks                                          |                           |
//! | `NOTIFIED` | runs; something was woken since the last turn   | stays                     |
//! | `PARKED`   | blocks in the poller, or is not on the stack    | → `NOTIFIED`, and ends    |
//! |            |                                                 | the wait of the poller    |
//!
//! ```text
//!           try_park()               set_awake(): the wait ends
//!   AWAKE ────────────► PARKED ─────────────────────────────────► AWAKE
//!     │                   │                                         ▲
//!     │ notify()          │ notify(): notifies the poller           │ set_awake(): the turn ends
//!     └────► NOTIFIED ◄───┘─────────────────────────────────────────┘
//!
//!   AWAKE ── detach() ──► PARKED          the last loop leaves the stack
//!   NOTIFIED ── detach() ──► PARKED, and notifies the poller: its descriptor becomes readable
//! ```
//!
//! A wake stores what the loop will find, then calls `notify`. The loop calls `set_awake`, then
//! polls. Both exchange the state with `AcqRel`, so the loop either finds what was stored, or
//! fails in `try_park`.
//!
//! The other conditions belong to the loop's own thread. [`Park::may_block`] checks all of them:
//!
//! | the loop does not block | because | until |
//! |---|---|---|
//! | a completion source returned `No` | it has completions, or operations to submit | each turn |
//! | `deferred` has wakers | their futures used up a budget | the turn calls them |
//! | the limit of the turn is zero | the caller polls, or a `BlockOnWaker` was woken | each turn |
//! | a deadline is (nearly) reached | sleeping takes longer | its timer fires |
//! | the state is not `AWAKE` | something was woken since the last turn | `set_awake` |
//!
//! `depth` counts the loops on the thread's stack. While it is zero, the state stays `PARKED`, and
//! every wake notifies the poller for the host.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

#[cfg(all(windlass_loom, test))]
use loom::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::atomic::AtomicBool as StdAtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};
#[cfg(not(all(windlass_loom, test)))]
use std::sync::atomic::{AtomicBool, AtomicU8};

use crate::clock::MonotonicNanos;
use crate::counters::Counters;
use crate::fork::Origin;
use crate::poller::Notifier;

const AWAKE: u8 = 0;
const NOTIFIED: u8 = 1;
pub(crate) const PARKED: u8 = 2;

/// The loop does not sleep for a deadline that is this near (ns), because sleeping and waking take
/// longer. The timer fires early by the same time. Usually the thread then runs in time for the
/// deadline. If it runs before it, it polls without blocking until the deadline is reached.
const NEAR: u64 = 10_000;

/// Ends a wait of the poller from any thread.
pub(crate) trait Notify: Send + Sync + 'static {
    fn notify(&self);
}

impl Notify for Notifier {
    fn notify(&self) {
        Notifier::notify(self);
    }
}

/// The state that the loop shares with the threads that wake it. As a waker it is for loops that
/// poll all their futures after each turn.
#[derive(Debug)]
pub(crate) struct ParkState<N = Notifier> {
    state: AtomicU8,
    notifier: N,
    origin: Origin,
    counters: Counters,
    /// A loop is on the thread's stack.
    is_entered: StdAtomicBool,
}

/// Whether a loop sleeps, as other threads see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoopState {
    /// It runs.
    Awake,
    /// It waits for events.
    Asleep,
    /// No loop of the reactor is on its thread's stack. The descriptor of the reactor is readable
    /// when a host should take a turn.
    Detached,
}

impl<N: Notify> ParkState<N> {
    fn new(notifier: N) -> Self {
        ParkState {
            state: AtomicU8::new(PARKED),
            notifier,
            origin: Origin::here(),
            counters: Counters::new(),
            is_entered: StdAtomicBool::new(false),
        }
    }

    pub(crate) fn loop_state(&self) -> LoopState {
        match (self.is_entered.load(SeqCst), self.state.load(SeqCst)) {
            (false, _) => LoopState::Detached,
            (true, PARKED) => LoopState::Asleep,
            (true, _) => LoopState::Awake,
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Makes the loop run once more, from any thread. The caller has stored its wake before, where
    /// the loop will find it.
    pub(crate) fn notify(&self) {
        if self.state.swap(NOTIFIED, AcqRel) == PARKED {
            self.notify_poller();
        }
    }

    /// Does nothing in a forked child, where it would wake the parent.
    #[cold]
    fn notify_poller(&self) {
        if self.origin.is_here() {
            self.counters.add_notification();
            self.notifier.notify();
            self.counters.report_unpark();
        }
    }

    /// The last check before the loop blocks. Returns false if something was woken since the last
    /// turn.
    fn try_park(&self) -> bool {
        let parked = self.state.compare_exchange(AWAKE, PARKED, AcqRel, Acquire);
        parked.is_ok()
    }

    /// Marks the loop as awake. The caller then polls everything that was woken before. Returns
    /// whether that may be anything.
    fn set_awake(&self) -> bool {
        self.state.swap(AWAKE, SeqCst) == NOTIFIED
    }

    /// Called when the last loop leaves the stack. Passes a wake that it has not seen to the host.
    fn detach(&self) {
        if self.state.swap(PARKED, AcqRel) == NOTIFIED {
            self.notify_poller();
        }
    }
}

impl<N: Notify> Wake for ParkState<N> {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

/// The waker of one `block_on`. Each has a flag of its own, so that a nested `block_on` of the same
/// reactor does not swallow the wake of the outer one.
#[derive(Debug)]
pub(crate) struct BlockOnWaker<N = Notifier> {
    woken: AtomicBool,
    state: Arc<ParkState<N>>,
}

impl<N: Notify> BlockOnWaker<N> {
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Acquire)
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, AcqRel)
    }
}

impl<N: Notify> Wake for BlockOnWaker<N> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, AcqRel) {
            self.state.notify();
        }
    }
}

/// The thread's side of the protocol.
pub(crate) struct Park<N = Notifier> {
    state: Arc<ParkState<N>>,
    /// How many loops on this thread's stack use the reactor.
    depth: Cell<usize>,
    /// Wakers of futures that used up their budget, for the next turn.
    deferred: RefCell<Vec<Waker>>,
    /// The deadline that the timer descriptor is set for. While the loop blocks, it is never after
    /// the earliest deadline.
    timer_fd_deadline: Cell<MonotonicNanos>,
}

impl<N: Notify> Park<N> {
    pub(crate) fn new(notifier: N) -> Park<N> {
        Park {
            state: Arc::new(ParkState::new(notifier)),
            depth: Cell::new(0),
            deferred: RefCell::new(Vec::new()),
            timer_fd_deadline: Cell::new(MonotonicNanos::MAX),
        }
    }

    /// Returns a waker that ends a wait of the reactor, from any thread.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(self.state.clone())
    }

    pub(crate) fn state(&self) -> &Arc<ParkState<N>> {
        &self.state
    }

    /// Returns the values that other threads read.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Creates the waker of a new `block_on`. It counts as woken, so that the first poll happens.
    pub(crate) fn block_on_waker(&self) -> Arc<BlockOnWaker<N>> {
        Arc::new(BlockOnWaker {
            woken: AtomicBool::new(true),
            state: self.state.clone(),
        })
    }

    /// Returns how many loops are on the stack.
    pub(crate) fn depth(&self) -> usize {
        self.depth.get()
    }

    /// Called when a loop enters the stack. From here on a wake on this thread makes no system
    /// call.
    pub(crate) fn enter(&self) {
        self.depth.set(self.depth.get() + 1);
        if self.depth.get() == 1 {
            self.state.is_entered.store(true, SeqCst);
            self.state.set_awake();
            self.state.counters.report_unpark();
        }
    }

    /// Called when a loop leaves the stack. Returns true for the last one, which then calls
    /// `detach`.
    pub(crate) fn leave(&self) -> bool {
        self.depth.set(self.depth.get() - 1);
        if self.depth.get() > 0 {
            // The inner loop may have consumed a wake that was meant for the outer one.
            self.state.notify();
        }
        self.depth.get() == 0
    }

    /// Makes sure that a turn follows. While a loop is on the stack, one follows anyway.
    pub(crate) fn request_turn(&self) {
        if self.depth.get() == 0 {
            self.state.notify(); // a host may watch the descriptor
        }
    }

    /// Adds a waker that the next turn calls.
    pub(crate) fn defer(&self, waker: Waker) {
        self.deferred.borrow_mut().push(waker);
        self.request_turn();
    }

    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.borrow().is_empty()
    }

    pub(crate) fn deferred(&self) -> &RefCell<Vec<Waker>> {
        &self.deferred
    }

    /// Decides whether the loop may block. If it returns true, the state is `PARKED`, and the timer
    /// ends the wait in time.
    #[inline]
    pub(crate) fn may_block(
        &self,
        is_idle: bool,
        deadline: MonotonicNanos,
        limit: Option<Duration>,
        set_timer: impl FnOnce(Duration) -> io::Result<()>,
    ) -> io::Result<bool> {
        Ok(is_idle
            && limit != Some(Duration::ZERO)
            && self.ensure_timer(deadline, limit, set_timer)?
            && self.state.try_park())
    }

    /// Makes sure that the timer ends a wait in time. Returns false if a deadline is reached, or
    /// nearly.
    #[inline]
    pub(crate) fn ensure_timer(
        &self,
        deadline: MonotonicNanos,
        limit: Option<Duration>,
        set_timer: impl FnOnce(Duration) -> io::Result<()>,
    ) -> io::Result<bool> {
        if limit.is_none() && deadline >= self.timer_fd_deadline.get() {
            return Ok(true); // the timer is set already, so skip the clock
        }
        let now = MonotonicNanos::now();
        let at = limit.map_or(deadline, |limit| deadline.min(now.after(limit)));
        let left = at.since(now);
        if left <= NEAR {
            return Ok(false);
        }
        if at < self.timer_fd_deadline.get() {
            set_timer(Duration::from_nanos(left - NEAR))?;
            self.timer_fd_deadline.set(at);
        }
        Ok(true)
    }

    /// Called when code runs between `may_block`, which has returned true, and the wait. The caller
    /// then calls `may_block` again. Returns whether something was woken meanwhile. This overwrites
    /// that notification, so the caller does not continue its wait after the next one has ended.
    pub(crate) fn cancel_park(&self) -> bool {
        self.state.set_awake()
    }

    /// Called when the wait of this turn has ended. Returns whether something was woken while it
    /// blocked.
    #[inline]
    pub(crate) fn unpark(&self, has_blocked: bool, timer_has_fired: bool, turn: u64) -> bool {
        let mut was_notified = false;
        if has_blocked {
            was_notified = self.state.set_awake();
            self.state.counters.end_wait(turn);
        }
        if timer_has_fired {
            self.timer_fd_deadline.set(MonotonicNanos::MAX);
        }
        was_notified
    }

    /// Returns whether the deadline may have been reached. It has not if the timer descriptor is
    /// set for it, or for an earlier time, and has not fired. Then the clock need not be read.
    #[inline]
    pub(crate) fn may_be_due(&self, deadline: MonotonicNanos) -> bool {
        deadline < self.timer_fd_deadline.get()
    }

    /// Called when the turn has ended. Its caller polls all its futures now, so the wakes from
    /// before are cleared.
    pub(crate) fn end_turn(&self) {
        self.state.set_awake();
    }

    /// Called when no loop is on the stack any more. From here on the poller's descriptor is
    /// readable whenever a turn would find something.
    pub(crate) fn detach(
        &self,
        is_idle: bool,
        deadline: MonotonicNanos,
        set_timer: impl FnOnce(Duration) -> io::Result<()>,
    ) {
        let in_time = self.ensure_timer(deadline, None, set_timer);
        if !is_idle || !in_time.unwrap_or(false) {
            self.state.notify();
        }
        self.state.is_entered.store(false, SeqCst);
        self.state.detach();
    }
}

impl Park {
    /// Where the two parts of [`ParkState::loop_state`] are, for readers outside of the process.
    pub(crate) fn state_addresses(&self) -> (usize, usize) {
        let state = ptr::from_ref(&self.state.state);
        let is_entered = ptr::from_ref(&self.state.is_entered);
        (state.expose_provenance(), is_entered.expose_provenance())
    }
}

#[cfg(all(windlass_loom, test))]
#[path = "park_models.rs"]
mod models;
