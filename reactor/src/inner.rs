//! The state of a thread's reactor, and its turn.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::MonotonicNanos;
use crate::completion_source::CompletionSources;
use crate::entry::{EntryRef, LocalEntry, Message, OwnedEntry, SourceRemote};
use crate::fork::Origin;
use crate::layout::{Addresses, address};
use crate::park::Park;
#[cfg(target_os = "linux")]
use crate::poller::{Interest, Key, MAX_SOURCES};
use crate::poller::{Notifier, Poller};
use crate::registry::Registry;
use crate::task_budget::TaskBudget;
use crate::timers::{TimerKey, Timers};
use crate::waiters::Waiters;
use crate::wake::{discard_panic, drop_all, wake_all};

/// The most timers that one turn fires. The others fire in the next turn, after the tasks that
/// these have woken, so that many timers at once do not delay the sockets.
const TIMERS_PER_TURN: usize = 1024;

/// The timer slack of a new `Reactor` (ns). Each wake-up takes up to 20 µs of processor time, so
/// many timers are cheap only if they share wake-ups. The kernel's own slack is 50 µs.
pub(crate) const DEFAULT_SLACK: u64 = 100_000;

/// Called before a wait that no timer limits. Returns a limit for this wait.
pub(crate) type IdleHook = fn() -> Option<Duration>;

/// The result of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TurnResult {
    /// How many wakers it called.
    pub woken: usize,
}

/// The state of a thread's reactor, which its futures share.
pub(crate) struct ReactorInner {
    origin: Origin,
    completions: CompletionSources,
    /// When the completion sources need a turn at the latest, as of the last submission.
    completion_deadline: Cell<MonotonicNanos>,
    budget: TaskBudget,
    /// Identifies the reactor in the process, for values that move between threads.
    id: NonZeroU64,
    poller: Poller,
    park: Park,
    /// What other threads use of the reactor.
    remote: Arc<SourceRemote>,
    registry: RefCell<Registry>,
    timers: RefCell<Timers<Waker>>,
    /// The idle hook, and the most sources with which it is called.
    idle_hook: Cell<Option<(IdleHook, usize)>>,
    /// The idle hook is present, and at most so many sources exist.
    calls_idle_hook: Cell<bool>,
    /// The number of this turn.
    turn: Cell<u64>,
    /// The empty list of wakers of the last turn, kept for its memory.
    scratch: Cell<Vec<Waker>>,
    /// The number of `Reactor`s. While it is zero, nothing turns the reactor.
    drivers: Cell<usize>,
    /// The timer slack (ns) of each of them, the smallest first.
    slacks: RefCell<Vec<u64>>,
}

/// The key of the file descriptors of completion sources. Their events only end waits.
#[cfg(target_os = "linux")]
const COMPLETIONS: Key = Key {
    slot: MAX_SOURCES as u32,
    generation: 0,
};

/// Creates a poller for the host that is entered, or for the system.
fn create_poller() -> io::Result<(Poller, Notifier)> {
    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    if let Some(system) = crate::entered::current_system() {
        return Poller::simulated(system);
    }
    Poller::new()
}

/// Names the inherited reactor in the errors that a forked child gets.
pub(crate) const REACTOR: &str = "this reactor, with its sockets, descriptors and open files,";

impl ReactorInner {
    pub(crate) fn new() -> io::Result<ReactorInner> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let (poller, notifier) = create_poller()?;
        let park = Park::new(notifier);
        let remote = Arc::new(SourceRemote::new(
            park.state().clone(),
            poller.remote().clone(),
        ));
        Ok(ReactorInner {
            origin: Origin::here(),
            completions: CompletionSources::new(),
            completion_deadline: Cell::new(MonotonicNanos::MAX),
            budget: TaskBudget::new(),
            id: NonZeroU64::MIN.saturating_add(IDS.fetch_add(1, Relaxed)),
            poller,
            park,
            remote,
            registry: RefCell::new(Registry::new()),
            timers: RefCell::new(Timers::new(DEFAULT_SLACK, MonotonicNanos::now().as_u64())),
            idle_hook: Cell::new(None),
            calls_idle_hook: Cell::new(false),
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

    pub(crate) fn budget(&self) -> &TaskBudget {
        &self.budget
    }

    pub(crate) fn remote(&self) -> &Arc<SourceRemote> {
        &self.remote
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

    /// The lower half of the number, which repeats after four billion turns.
    #[inline]
    pub(crate) fn turn_number(&self) -> u32 {
        self.turn.get() as u32
    }

    /// Publishes the exact number of turns.
    pub(crate) fn publish_turns(&self) {
        self.park.counters().set_turns(self.turn.get());
    }

    /// False in a forked child, where the drivers are the parent's.
    #[inline]
    pub(crate) fn is_driven(&self) -> bool {
        self.has_drivers() && self.origin.is_here()
    }

    /// Like `is_driven`, for a reactor that this process is known to have made.
    #[inline]
    pub(crate) fn has_drivers(&self) -> bool {
        self.drivers.get() > 0
    }

    /// Returns true in a forked child, where the poller and the timer are the parent's.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    /// Returns an error in a forked child. For calls that would change the parent's poller or ring.
    pub(crate) fn check_origin(&self) -> io::Result<()> {
        self.origin.check(REACTOR)
    }

    /// ⑤ The turn: wait, collect the wakers, release every borrow, wake.
    pub(crate) fn turn(&self, limit: Option<Duration>) -> io::Result<TurnResult> {
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
        let mut turned = TurnResult { woken: woken.len() };
        wake_all(woken.drain(..));
        shrink(&mut woken, turned.woken);
        self.scratch.set(woken);
        self.park.end_turn();
        // A message that comes later keeps the next turn from blocking.
        if self.remote.has_messages() {
            turned.woken += self.check_inbox();
        }
        panic.map_or(Ok(turned), |payload| resume_unwind(payload))
    }

    /// Returns where the state is that readers outside of the process find by its address.
    pub(crate) fn addresses(&self) -> Addresses {
        let (park_state, is_entered) = self.park.state_addresses();
        let counters = self.park.counters();
        Addresses {
            chunks: address(self.registry.borrow().chunks()),
            timers: self.timers.borrow().entries_address(),
            timers_pending: self.timers.borrow().len_address(),
            deferred: self.park.deferred().as_ptr().expose_provenance(),
            park_state,
            is_entered,
            turns: address(&counters.turns),
            timers_set: address(&counters.timers_set),
            sources: address(&counters.sources),
        }
    }

    /// Returns when timers or completion sources need a turn at the latest.
    pub(crate) fn next_deadline(&self) -> MonotonicNanos {
        let timers = self.timers.borrow_mut().next_deadline();
        let timers = timers.map_or(MonotonicNanos::MAX, MonotonicNanos::from_u64);
        timers.min(self.completion_deadline.get())
    }

    /// As `wait`, when the loop may block. Calls the idle hook if neither a timer nor a limit ends
    /// the wait, and limits the wait as it says.
    #[cold]
    fn wait_idle(&self, deadline: MonotonicNanos, limit: Option<Duration>) -> io::Result<()> {
        let waits = limit.is_none() && deadline.instant().is_none();
        let Some((hook, _)) = self.idle_hook.get().filter(|_| waits) else {
            return self.wait_for_events(true);
        };
        // The hook may wake tasks, start timers and panic, so the loop counts as awake meanwhile.
        let overwritten = self.park.cancel_park();
        loop {
            let limit = hook();
            // This may overwrite the notification of a message.
            let has_work = self.park.has_deferred() || self.remote.has_messages();
            let is_idle = self.submit()? & !has_work;
            let (deadline, set_timer) = (self.next_deadline(), |after| self.set_timer(after));
            let blocks = self.park.may_block(is_idle, deadline, limit, set_timer)?;
            let timer_has_fired = self.poller.wait(blocks);
            let fired = matches!(timer_has_fired, Ok(true));
            let was_notified = self.park.unpark(blocks, fired, self.turn.get());
            timer_has_fired?;
            // The end of the hook's limit is no event, so the wait continues.
            let is_over = blocks && fired && limit.is_some() && deadline.instant().is_none();
            if !is_over || overwritten || was_notified || self.has_events() {
                return Ok(());
            }
        }
    }

    /// Returns whether the last wait has found an event of a source.
    fn has_events(&self) -> bool {
        let mut has_events = false;
        self.poller.for_each_event(|_| has_events = true);
        has_events
    }

    /// Sets the idle hook, which is called with at most so many sources.
    pub(crate) fn set_idle_hook(&self, hook: Option<IdleHook>, sources: usize) {
        self.idle_hook.set(hook.map(|hook| (hook, sources)));
        self.count_sources(&self.registry.borrow());
    }

    pub(crate) fn insert_source(&self) -> io::Result<OwnedEntry> {
        let mut registry = self.registry.borrow_mut();
        let entry = registry.insert(ptr::from_ref(self).cast(), &self.remote)?;
        self.count_sources(&registry);
        Ok(entry)
    }

    pub(crate) fn has_sources(&self) -> bool {
        self.registry.borrow().len() > 0
    }

    /// The state of an entry, if it belongs to this reactor.
    fn local<'a>(&self, entry: EntryRef<'a>) -> Option<LocalEntry<'a>> {
        entry.local(ptr::from_ref(self).cast())
    }

    /// Handles the messages of other threads. Returns how many wakers it called. Also drops wakers
    /// and runs closures. User code runs last, because it may turn the reactor.
    #[cold]
    pub(crate) fn check_inbox(&self) -> usize {
        let (mut woken, mut later) = (Vec::new(), Vec::new());
        for message in self.remote.take() {
            match message {
                Message::Evicted(entry) => {
                    let entry = self.local(entry.as_ref());
                    entry.inspect(|entry| entry.evict(&mut woken));
                }
                Message::Released(entry) => {
                    let entry = self.local(entry.as_ref());
                    let waiters = entry.map(|entry| self.release_source(entry));
                    waiters.map(|waiters| waiters.append_to(&mut woken));
                }
                Message::Run(_) | Message::WaitEnded(..) => later.push(message),
            }
        }
        let count = woken.len();
        wake_all(woken);
        for message in later {
            if let Message::WaitEnded(entry, interest, registration) = message {
                let entry = self.local(entry.as_ref());
                entry.inspect(|entry| entry.end_wait(interest, &registration));
            } else if let Message::Run(job) = message {
                discard_panic(job);
            }
        }
        count
    }

    /// The caller discards the waiters after the call, because that is user code.
    pub(crate) fn release_source(&self, entry: LocalEntry<'_>) -> Waiters {
        let mut registry = self.registry.borrow_mut();
        let waiters = registry.release(entry);
        self.count_sources(&registry);
        waiters
    }

    fn count_sources(&self, registry: &Registry) {
        let sources = registry.len();
        self.park.counters().set_sources(sources);
        let calls = |(_, most)| sources <= most;
        self.calls_idle_hook
            .set(self.idle_hook.get().is_some_and(calls));
    }

    /// Passes the deadline (ns) and waker of each timer to `visit`, which must not run user code.
    pub(crate) fn for_each_timer(&self, mut visit: impl FnMut(u64, &Waker)) {
        let timers = self.timers.borrow();
        timers
            .iter()
            .for_each(|(deadline, waker)| visit(deadline, waker));
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
        if blocks && self.calls_idle_hook.get() {
            return self.wait_idle(deadline, limit);
        }
        self.wait_for_events(blocks)
    }

    #[inline(always)]
    fn wait_for_events(&self, blocks: bool) -> io::Result<()> {
        let waited = self.poller.wait(blocks);
        self.park
            .unpark(blocks, matches!(waited, Ok(true)), self.turn.get());
        waited.map(drop)
    }

    #[inline(never)] // a system call, which most turns don't make
    fn set_timer(&self, after: Duration) -> io::Result<()> {
        self.check_origin()?; // a forked child that leaves the parent's loop comes here
        self.park.counters().add_timer_setting();
        self.poller.set_timer(after)
    }

    /// Called when the last loop leaves the stack. From here on the poller's descriptor becomes
    /// readable when a turn is needed.
    pub(crate) fn detach(&self) {
        // A source that fails or panics here does so again in the next turn, which is requested.
        let mut may_block = false;
        discard_panic(|| may_block = self.submit().unwrap_or(false));
        // Events that the last wait has left in the kernel cause no other edge in a host's poller.
        let is_idle = may_block && !self.park.has_deferred() && !self.poller.is_full();
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
            let before = woken.len();
            let mut timers = self.timers.borrow_mut();
            timers.fire(now.as_u64(), TIMERS_PER_TURN, woken);
            let fired = woken.len() - before;
            self.park.counters().add_fired(fired, now.since(deadline));
        }
    }

    /// Registers a file descriptor of a completion source. Its events end waits.
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
        let until = until.map_or(MonotonicNanos::MAX, MonotonicNanos::from);
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
        self.park.counters().add_timer();
        self.set_host_timer(deadline);
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
        self.set_host_timer(deadline);
        Some(timers.insert(deadline.as_u64(), waker))
    }

    /// Called when a timer starts. If no loop is on the stack, a host may sleep until an event of
    /// the descriptor, so the timer descriptor is set now.
    #[inline]
    fn set_host_timer(&self, deadline: MonotonicNanos) {
        if self.park.depth() == 0 {
            self.set_timer_or_request_turn(deadline);
        }
    }

    #[cold]
    fn set_timer_or_request_turn(&self, deadline: MonotonicNanos) {
        let set_timer = |after| self.set_timer(after);
        let is_set = match self.poller.has_timer_fd() {
            true => matches!(self.park.ensure_timer(deadline, None, set_timer), Ok(true)),
            false => !self.park.may_be_due(deadline),
        };
        if !is_set {
            self.park.request_turn();
        }
    }

    /// Returns whether the poller's descriptor becomes readable at deadlines.
    pub(crate) fn has_timer_fd(&self) -> bool {
        self.poller.has_timer_fd()
    }

    /// Returns how many timers are running.
    pub(crate) fn timers(&self) -> usize {
        self.timers.borrow().len()
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

    /// Called when the budget of the task is used up. Unless it is refilled, the task waits for the
    /// next turn.
    #[cold]
    pub(crate) fn poll_refill(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.refill(cx.waker()) || !self.is_driven() {
            return Poll::Ready(()); // or no turn would come
        }
        self.park().defer(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn refill(&self, waker: &Waker) -> bool {
        self.budget.refill(waker, self.turn_number())
    }

    /// Takes back the last charge: the operation waits.
    #[inline]
    pub(crate) fn refund(&self) {
        self.budget().refund();
    }

    /// Counts a `Reactor`, which has this slack.
    pub(crate) fn add_driver(&self, slack: u64) {
        self.drivers.set(self.drivers.get() + 1);
        self.add_slack(slack);
    }

    pub(crate) fn remove_driver(&self, slack: u64) {
        self.drivers.set(self.drivers.get() - 1);
        self.publish_turns();
        self.remove_slack(slack);
    }

    /// Returns the smallest slack (ns) of all `Reactor`s, of which there is one at least.
    pub(crate) fn slack(&self) -> u64 {
        self.slacks.borrow()[0]
    }

    pub(crate) fn add_slack(&self, slack: u64) {
        let mut slacks = self.slacks.borrow_mut();
        let position = slacks.partition_point(|&other| other < slack);
        slacks.insert(position, slack);
        self.timers.borrow_mut().set_slack(slacks[0]);
    }

    pub(crate) fn remove_slack(&self, slack: u64) {
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

// The wakers that are left belong to timers and sources that were leaked or are on another thread.
// Tasks that wait for a source register it with another reactor.
impl Drop for ReactorInner {
    fn drop(&mut self) {
        for message in self.remote.close() {
            discard_panic(|| drop(message));
        }
        let mut woken = Vec::new();
        for waiters in self.registry.get_mut().retire() {
            waiters.append_to(&mut woken);
        }
        wake_all(woken);
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
