//! The executor and its loop.

use std::fmt;
use std::future::{Future, pending};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::budget;
use crate::cell::{OutputRef, PollOutcome};
use crate::current::{self, Entered};
use crate::handle::Handle;
use crate::inner::ExecutorInner;
use crate::key::Key;
use crate::layout::Addresses;
use crate::nested_drop;
use crate::observe::Observer;
use crate::pulse::{OBSERVE, Pulse, reports_polls, set_report};
use crate::report::{Published, Report, Unobserved};
use crate::sample::{Sampled, sampler};
use crate::task::Task;
use crate::task_entry::TaskEntry;
use crate::task_id::TaskId;
use crate::waker::waker;

/// How many polls the loop makes before it returns to the driver.
///
/// A turn of the reactor costs a system call, some 200 ns even when nothing is ready. Spread over
/// 256 polls that is below one nanosecond each, and sockets and timers wait for at most 256 polls.
const BUDGET: usize = 256;

/// How many polls the loop makes between two checks for wakes from other threads. A check is one
/// atomic load. Checking only once per budget would delay those wakes by microseconds.
const INBOX_CHECK_INTERVAL: usize = 16;

/// Tasks on one thread.
///
/// An executor is passive. [`run`](Executor::run) makes a future of it, which any `block_on` can
/// drive. When that future returns `Pending`, the driver parks. When its waker is woken, the driver
/// polls it again. A host with an event loop of its own calls [`tick`](Executor::tick) instead.
///
/// Tasks are polled first in, first out. One that wakes itself is polled again after all others
/// that are ready. Waking a task takes no lock and no atomic on this thread. From other threads it
/// is safe at any time, even after the executor is dropped.
///
/// When the executor is dropped, it drops all unfinished tasks in the order of their slots. That is
/// the order of spawning, as long as no slot was reused. Their destructors may wake and cancel
/// tasks. They may also spawn tasks, which are dropped at once.
///
/// # Examples
///
/// ```
/// use windlass_executor::{block_on, spawn, Executor};
///
/// let executor = Executor::new();
/// let answer = block_on(executor.run(async {
///     let task = spawn(async { 6 * 7 });
///     task.await
/// }));
/// assert_eq!(answer, 42);
/// ```
#[derive(Debug)]
pub struct Executor {
    inner: Rc<ExecutorInner>,
    pulse: Pulse,
}

impl Executor {
    /// Creates an executor that belongs to this thread.
    ///
    /// # Panics
    ///
    /// Panics if there are more than 16,384 executors in the process at once (256 on 32 bits).
    pub fn new() -> Self {
        let inner = Rc::new(ExecutorInner::new());
        budget::forget_poll();
        current::add(inner.clone());
        // SAFETY: the drop of this executor closes the slot. It owns a reference of `inner`, which
        // never moves.
        let pulse = unsafe { inner.inbox.pulse.open(&inner.pulse) };
        Executor { inner, pulse }
    }

    /// Spawns a task. The loop polls it later, never at once.
    ///
    /// # Panics
    ///
    /// Panics if there are more than 16,777,216 tasks at once (16,384 on 32 bits).
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor};
    /// let executor = Executor::new();
    /// let task = executor.spawn(async { "hauled" });
    /// assert_eq!(block_on(executor.run(task)), "hauled");
    /// ```
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        Task::spawn(&self.inner, OutputRef::new(future, Location::caller()))
    }

    /// Spawns a task on behalf of other code. `Debug` and panic messages report `spawned_at` as
    /// the place where it was spawned. See [`spawn_at`](crate::spawn_at).
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`](Executor::spawn) does.
    pub fn spawn_at<F>(&self, spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        Task::spawn(&self.inner, OutputRef::new(future, spawned_at))
    }

    /// Returns a future that runs the executor until `main` is done. Unfinished tasks stay in the
    /// executor, and continue in the next `run`.
    ///
    /// Each poll of this future polls at most 256 tasks. If more are ready, it wakes its own waker
    /// and returns `Pending`, so that its driver, for example a reactor, makes progress.
    ///
    /// # Panics
    ///
    /// The future panics if it is polled inside a task of the same executor, or while another `run`
    /// of the executor is unfinished. If `main` panics, the panic propagates.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `main`. The tasks stay in the executor.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor};
    /// assert_eq!(block_on(Executor::new().run(async { 1 + 1 })), 2);
    /// ```
    #[track_caller]
    pub fn run<F: Future>(&self, main: F) -> Run<'_, F> {
        Run {
            executor: self,
            run_at: Location::caller(),
            cell: None,
            main,
        }
    }

    /// Polls ready tasks, at most `budget` times, for a host with an event loop of its own. `waker`
    /// is woken when a task becomes ready after this call.
    ///
    /// # Panics
    ///
    /// Panics inside a task of the same executor, and while a [`run`](Executor::run) of it is
    /// unfinished, since only that `run` can poll its main future.
    ///
    /// ```
    /// # use windlass_executor::{yield_now, Executor, TickResult};
    /// # use std::task::Waker;
    /// let executor = Executor::new();
    /// executor.spawn(async { yield_now().await }).detach();
    /// assert_eq!(executor.tick(Waker::noop(), 1), TickResult { polled: 1, ready: true });
    /// assert_eq!(executor.tick(Waker::noop(), 9), TickResult { polled: 1, ready: false });
    /// ```
    pub fn tick(&self, waker: &Waker, budget: usize) -> TickResult {
        self.inner.assert_not_running();
        self.inner.assert_no_run();
        let (polled, _) = self.inner.turn(waker, budget, pin!(pending::<()>()));
        let ready = self.inner.has_ready();
        TickResult { polled, ready }
    }

    /// Lets `choose` pick the ready task that is polled next. It gets the number of ready tasks and
    /// returns a position among them, of which zero is the one that has waited the longest. It is
    /// called only if there are several. For simulations, in which the order of tasks varies.
    ///
    /// Tasks that other threads have woken since the last poll come later. The cost is
    /// proportional to the number of ready tasks.
    ///
    /// ```
    /// # use windlass_executor::Executor;
    /// # use std::{cell::RefCell, rc::Rc, task::Waker};
    /// let (executor, order) = (Executor::new(), Rc::new(RefCell::new(Vec::new())));
    /// for number in 1..4 {
    ///     let order = order.clone();
    ///     executor.spawn(async move { order.borrow_mut().push(number) }).detach();
    /// }
    /// executor.choose_next(|tasks| tasks - 1);
    /// executor.tick(Waker::noop(), 9);
    /// assert_eq!(*order.borrow(), [3, 1, 2]);
    /// ```
    pub fn choose_next(&self, choose: impl FnOnce(usize) -> usize) {
        self.inner.queue.bring_forward(choose);
    }

    /// Makes [`spawn`](crate::spawn) on this thread use this executor until the guard is dropped.
    /// This is for code outside of tasks. Inside a task, `spawn` uses the executor of the task. Do
    /// not hold a guard across an `.await`, since guards must be dropped in reverse order.
    ///
    /// ```
    /// # use windlass_executor::{spawn, Executor};
    /// let executor = Executor::new();
    /// let _entered = executor.enter();
    /// spawn(async {}).detach();
    /// assert_eq!(executor.tasks(), 1);
    /// ```
    pub fn enter(&self) -> Entered {
        current::enter(self.inner.clone())
    }

    /// Returns a handle with which code on this thread spawns tasks.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor};
    /// let executor = Executor::new();
    /// let handle = executor.handle();
    /// assert_eq!(block_on(executor.run(handle.spawn(async { 7 }))), 7);
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(&self.inner)
    }

    /// Returns the number of unfinished tasks.
    pub fn tasks(&self) -> usize {
        self.inner.tasks()
    }

    /// Returns true while the loop of this executor is on the stack, for example inside its tasks.
    pub fn is_running(&self) -> bool {
        self.inner.is_running.get()
    }

    /// Returns true if a task is ready to be polled.
    pub fn has_ready(&self) -> bool {
        self.inner.has_ready()
    }

    /// Returns a handle with which other threads read the state of this executor.
    pub fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// Returns where the state of this executor is in memory.
    #[doc(hidden)]
    pub fn addresses(&self) -> Addresses {
        Addresses::of(&self.inner)
    }

    /// Lists the unfinished tasks, and the main future of an unfinished [`run`](Executor::run), in
    /// the order of their slots.
    ///
    /// ```
    /// # use windlass_executor::{Executor, TaskState};
    /// let executor = Executor::new();
    /// let task = executor.spawn(async {}).named("hauler");
    /// let listed = &executor.list_tasks()[0];
    /// assert_eq!(listed.name.as_deref(), Some("hauler"));
    /// assert_eq!((Some(listed.id), listed.state), (task.id(), TaskState::Ready));
    /// ```
    pub fn list_tasks(&self) -> Vec<TaskEntry> {
        let mut tasks = Vec::new();
        self.inner.list_tasks(&mut tasks);
        tasks
    }

    /// Returns whether another thread reads the executor or wakes one of its tasks at this moment.
    ///
    /// In a forked child, that thread does not exist, and its lock stays held. A drop of the
    /// executor would wait for it forever, so the child has to forget the executor.
    ///
    /// ```
    /// # use windlass_executor::Executor;
    /// assert!(!Executor::new().is_locked());
    /// ```
    pub fn is_locked(&self) -> bool {
        self.inner.inbox.is_locked()
    }

    /// Sets an observer, which is called around each poll from the next turn on, or removes it.
    pub fn observe(&self, observer: Option<Rc<dyn Observer>>) {
        if observer.is_some() {
            set_report(OBSERVE, true);
        }
        drop(self.inner.set_observer(observer)); // user code
    }

    /// Returns true if another executor of this thread, which isn't running, has a ready task. This
    /// is for executors that share a driver, because one of them may have consumed the wake that
    /// was meant for another.
    ///
    /// ```
    /// # use std::task::Waker;
    /// # use windlass_executor::Executor;
    /// let (one, other) = (Executor::new(), Executor::new());
    /// other.spawn(async {}).detach();
    /// assert!(one.others_ready() && !other.others_ready());
    /// other.tick(Waker::noop(), 1);
    /// assert!(!one.others_ready());
    /// ```
    #[inline]
    pub fn others_ready(&self) -> bool {
        current::others_ready(self.inner.id)
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let entered = self.enter();
        self.inner.drop_tasks();
        drop(entered);
        current::remove(self.inner.id);
        self.inner.inbox.pulse.close();
        self.inner.disconnect_wakers();
    }
}

/// The result of [`Executor::tick`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TickResult {
    /// The number of polls.
    pub polled: usize,
    /// True if more tasks are ready.
    pub ready: bool,
}

/// The future of [`Executor::run`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Run<'a, F> {
    executor: &'a Executor,
    run_at: &'static Location<'static>,
    /// Represents the main future in the table, from the first poll on.
    cell: Option<OutputRef<()>>,
    main: F,
}

impl<F: Future> Future for Run<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `main` is pinned with its `Run`: it is not moved out of it, and `Run` is `Unpin`
        // only if `main` is. The other fields are never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let main = unsafe { Pin::new_unchecked(&mut this.main) };
        let inner = &this.executor.inner;
        inner.assert_not_running();
        if this.cell.is_none() {
            this.cell = Some(inner.insert_main(this.run_at));
        }
        let (_, result) = inner.turn(cx.waker(), BUDGET, main);
        if result.is_ready() {
            this.end();
        } else if inner.has_ready() {
            cx.waker().wake_by_ref();
        }
        result
    }
}

impl ExecutorInner {
    /// Takes one turn: polls the tasks that are ready, and the main future once it was woken.
    /// Returns how many polls it made.
    #[inline(always)]
    fn turn<F: Future>(
        self: &Rc<Self>,
        driver_waker: &Waker,
        budget: usize,
        mut main: Pin<&mut F>,
    ) -> (usize, Poll<F::Output>) {
        let _running = Running::start(self, driver_waker);
        let poll_main = |cx: &mut Context<'_>| main.as_mut().poll(cx);
        if reports_polls() {
            return self.poll_observed(driver_waker, budget, poll_main);
        }
        self.poll_ready(driver_waker, budget, poll_main, &Unobserved)
    }

    /// As `poll_ready`, with reports.
    #[cold]
    #[inline(never)]
    fn poll_observed<T>(
        &self,
        driver_waker: &Waker,
        budget: usize,
        mut poll_main: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> (usize, Poll<T>) {
        let _turn = self.pulse.start_turn();
        let mut result = Poll::Pending;
        let mut poll_main = |cx: &mut Context<'_>| {
            self.pulse.set_in_main(true);
            result = poll_main(cx);
            self.pulse.set_in_main(false);
            match result {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        };
        // One instance of the loop for all types of main futures.
        let poll_main: &mut dyn FnMut(&mut Context<'_>) -> Poll<()> = &mut poll_main;
        let (polls, _) = match (self.observer(), sampler()) {
            (None, None) => self.poll_ready(driver_waker, budget, poll_main, &Published),
            (None, Some(sampler)) => {
                let report = Sampled::new(sampler, Published);
                self.poll_ready(driver_waker, budget, poll_main, &report)
            }
            (Some(observer), None) => self.poll_ready(driver_waker, budget, poll_main, &observer),
            (Some(observer), Some(sampler)) => {
                let report = Sampled::new(sampler, observer);
                self.poll_ready(driver_waker, budget, poll_main, &report)
            }
        };
        (polls, result)
    }

    /// ② Polls the tasks that are ready, first in, first out, until the budget is exhausted, the
    /// run queue is empty, or the main future is ready. Returns how many polls it made.
    #[inline(always)]
    fn poll_ready<T>(
        &self,
        driver_waker: &Waker,
        mut budget: usize,
        mut poll_main: impl FnMut(&mut Context<'_>) -> Poll<T>,
        report: &impl Report,
    ) -> (usize, Poll<T>) {
        let mut polls = 0;
        while polls < budget {
            self.check_inbox(driver_waker);
            let check_at = budget.min(polls + INBOX_CHECK_INTERVAL);
            while polls < check_at {
                let Some(cell) = self.queue.pop() else {
                    return (polls, Poll::Pending);
                };
                self.pulse.polls.increment();
                let key = cell.key.get();
                let waker = waker(key);
                let cx = &mut Context::from_waker(&waker);
                report.polling(self, &cell);
                match cell.poll(key, &self.pulse.current_task, cx) {
                    PollOutcome::Ended => continue,
                    PollOutcome::Pending => {}
                    PollOutcome::Requeue(cell) => self.queue.push(cell),
                    PollOutcome::Done(key) => self.finish(key),
                    PollOutcome::Cancelled(key) => self.finish_cancelled(key),
                    PollOutcome::Main => {
                        if let Poll::Ready(output) = poll_main(cx) {
                            report.polled(TaskId::of_key(key));
                            return (polls, Poll::Ready(output));
                        }
                    }
                }
                report.polled(TaskId::of_key(key));
                polls += 1;
            }
            budget = budget.saturating_sub(self.refills.take() * INBOX_CHECK_INTERVAL);
        }
        (polls, Poll::Pending)
    }

    /// Moves wakes from other threads to the run queue, if there are any.
    #[inline]
    fn check_inbox(&self, driver_waker: &Waker) {
        if self.inbox.has_remote_wakes() {
            self.drain_inbox(driver_waker);
        }
    }

    #[cold]
    fn drain_inbox(&self, driver_waker: &Waker) {
        let mut wakes = 0;
        let old = self.inbox.drain(driver_waker.clone(), |index, generation| {
            wakes += 1;
            let table = self.table();
            match generation {
                Some(generation) => {
                    table.wake(Key::new(self.id, generation, index), &self.queue);
                }
                None => table.wake_slot(index, &self.queue),
            }
        });
        self.pulse.remote_wakes.add(wakes);
        drop(old);
    }
}

/// A turn of the loop, which ends when this guard is dropped.
struct Running {
    inner: Rc<ExecutorInner>,
    _entered: Entered,
    _depth: nested_drop::Level,
}

impl Running {
    /// Begins a turn of the loop. `driver_waker` is woken when a task becomes ready after the turn.
    fn start(inner: &Rc<ExecutorInner>, driver_waker: &Waker) -> Running {
        inner.needs_wakeup.set(false);
        inner.is_running.set(true);
        let running = Running {
            _entered: current::enter(inner.clone()),
            _depth: nested_drop::restart_depth(),
            inner: inner.clone(),
        };
        // Cloning and dropping a waker is user code, so it runs after the turn has begun. It cannot
        // begin another turn, and if it panics, the guard ends this one.
        let known = inner.driver_waker.take();
        if known
            .as_ref()
            .is_some_and(|known| known.will_wake(driver_waker))
        {
            inner.driver_waker.set(known);
            inner.check_inbox(driver_waker);
        } else {
            inner.drain_inbox(driver_waker);
            inner.driver_waker.set(Some(driver_waker.clone()));
            drop(known);
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let slots = self.inner.table().end_turn();
        if let Some(slots) = slots {
            self.inner.inbox.shrink(slots);
        }
        self.inner.is_running.set(false);
        self.inner.needs_wakeup.set(true);
    }
}

impl<F> Run<'_, F> {
    fn end(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.executor.inner.remove_main(&cell);
        }
    }
}

impl<F> Drop for Run<'_, F> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<F> fmt::Debug for Run<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("executor", self.executor)
            .field("main", &format_args!("run at {}", self.run_at))
            .finish_non_exhaustive()
    }
}
