//! The executor: spawns tasks and polls those that are ready.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::budget;
use crate::cell::{NewCell, OutputRef, Polled};
use crate::current::{self, Entered};
use crate::inbox;
use crate::inner::ExecutorInner;
use crate::key::Key;
use crate::nested_drop;
use crate::panic::discard_panic;
use crate::queue::Queue;
use crate::table::Table;
use crate::task::Task;
use crate::waker::waker;

/// How many polls until the loop hands over to whatever drives it.
///
/// A turn of the reactor costs a system call, some 200 ns even when nothing is ready: spread over
/// 256 polls it's below one nanosecond each, and sockets and timers still wait for at most 256
/// polls.
const BUDGET: usize = 256;

/// How many polls until the loop looks whether other threads have woken somebody. The look is a
/// load of a flag; to wait for the end of the budget would keep those threads for microseconds.
const LOOK: usize = 16;

/// That of no executor, and of no key.
const NO_ID: u16 = u16::MAX;

/// Tasks on one thread.
///
/// An executor is passive. [`run`](Executor::run) makes a future of it, which any `block_on` can
/// drive: `Pending` means "park me", its waker means "unpark me". That is all it knows of its
/// surroundings. A host with a loop of its own calls [`tick`](Executor::tick) instead.
///
/// Tasks are polled first in, first out, so that each gets its turn: one that wakes itself is
/// polled again after all others that are ready. Waking a task costs no lock and no atomic on this
/// thread; from other threads it is safe at any time, even after the executor is gone.
///
/// When the executor is dropped, it drops all its unfinished tasks, in the order of their slots
/// (that of spawning, as long as none was reused). Their destructors may spawn (what they spawn is
/// dropped at once), wake and cancel.
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
    core: Rc<ExecutorInner>,
}

impl Executor {
    /// Makes an executor that lives on this thread.
    ///
    /// # Panics
    ///
    /// If there are more than 16,384 executors in the process at once (256 on 32 bits).
    pub fn new() -> Self {
        let (id, first_generation) = inbox::claim();
        budget::forget_poll();
        let core = Rc::new(ExecutorInner {
            id: Cell::new(id),
            inbox: inbox::of(id),
            table: RefCell::new(Table::new(id, first_generation)),
            queue: Queue::new(),
            outer: Cell::new(None),
            resting: Cell::new(true),
            running: Cell::new(false),
            has_run: Cell::new(false),
            polled: Cell::new(Key::NOBODY),
            polls: Cell::new(0),
            refills: Cell::new(0),
            closed: Cell::new(false),
        });
        current::add(core.clone());
        Executor { core }
    }

    /// Spawns a task. It's polled later, never at once.
    ///
    /// # Panics
    ///
    /// If there are more than 16,777,216 tasks at once (16,384 on 32 bits).
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor};
    /// let executor = Executor::new();
    /// let task = executor.spawn(async { "hauled" });
    /// assert_eq!(block_on(executor.run(task)), "hauled");
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        Task::spawn(&self.core, NewCell::new(future, Location::caller()))
    }

    /// Spawns a task on behalf of other code. The task reports `spawned_at` as the place where it
    /// was spawned. See [`spawn_at`](crate::spawn_at).
    ///
    /// # Panics
    ///
    /// As [`spawn`](Executor::spawn).
    #[inline]
    pub fn spawn_at<F>(&self, spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        Task::spawn(&self.core, NewCell::new(future, spawned_at))
    }

    /// A future that runs the executor until `main` is done. Tasks that are left stay in the
    /// executor, and go on in the next `run`.
    ///
    /// It polls at most 256 times, then wakes its own waker and returns `Pending`: so whatever
    /// drives it, say a reactor, gets its turn as well.
    ///
    /// # Panics
    ///
    /// Polling it panics inside of a task of the same executor, or while another `run` of it is
    /// unfinished. A panic of `main` goes through.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `main`. The tasks stay.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor};
    /// assert_eq!(block_on(Executor::new().run(async { 1 + 1 })), 2);
    /// ```
    #[track_caller]
    pub fn run<F: Future>(&self, main: F) -> Run<'_, F> {
        Run {
            executor: self,
            place: Location::caller(),
            cell: None,
            main,
        }
    }

    /// Polls ready tasks, at most `budget` polls: the step for a host that has a loop of its own.
    /// `waker` is woken as soon as a task is ready after this has found none.
    ///
    /// # Panics
    ///
    /// Inside of a task of the same executor, or while a [`run`](Executor::run) of it is
    /// unfinished: only that can poll its main future.
    ///
    /// ```
    /// # use windlass_executor::{yield_now, Executor, Tick};
    /// # use std::task::Waker;
    /// let executor = Executor::new();
    /// executor.spawn(async { yield_now().await }).detach();
    /// assert_eq!(executor.tick(Waker::noop(), 1), Tick { polled: 1, ready: true });
    /// assert_eq!(executor.tick(Waker::noop(), 9), Tick { polled: 1, ready: false });
    /// ```
    pub fn tick(&self, waker: &Waker, budget: usize) -> Tick {
        let core = &self.core;
        core.assert_not_running();
        core.assert_no_run();
        let running = core.start(waker);
        let mut polled = 0;
        while polled < budget {
            match core.poll_next() {
                Next::Task => polled += 1,
                Next::Main | Next::Ended => {}
                Next::Nothing => break,
            }
        }
        drop(running);
        Tick {
            polled,
            ready: core.has_ready(),
        }
    }

    /// While the guard lives, [`spawn`](crate::spawn) on this thread means this executor. Tasks
    /// need no such thing: it is for code around them. Don't hold it over an `.await`: guards must
    /// go in the reverse order of their coming.
    ///
    /// ```
    /// # use windlass_executor::{spawn, Executor};
    /// let executor = Executor::new();
    /// let _entered = executor.enter();
    /// spawn(async {}).detach();
    /// assert_eq!(executor.tasks(), 1);
    /// ```
    pub fn enter(&self) -> Entered {
        current::enter(self.core.clone())
    }

    /// How many tasks have not finished.
    pub fn tasks(&self) -> usize {
        self.core.table().taken() - usize::from(self.core.has_run.get())
    }

    /// True while the executor is being run, that is, inside of its tasks.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// True if a task is ready to be polled.
    pub fn has_ready(&self) -> bool {
        self.core.has_ready()
    }

    /// True if another executor of this thread has a task that is ready, and isn't being run. For
    /// executors that are woken by one and the same thing: what has told of that task, whoever
    /// drives this executor may have taken in.
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
        current::others_ready(self.core.id())
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let core = &self.core;
        core.closed.set(true);
        let entered = self.enter();
        let mut from = 0;
        loop {
            let drained = core.table().drain(&mut from, &core.queue);
            let Some((cell, joiner)) = drained else { break };
            discard_panic(|| cell.drop_future());
            discard_panic(|| joiner.into_iter().for_each(Waker::wake));
        }
        drop(entered);
        current::remove(core.id());
        let id = core.id.replace(NO_ID);
        let unused = core.table().unused_generation();
        discard_panic(|| inbox::release(id, unused));
        discard_panic(|| drop(core.outer.take()));
    }
}

/// What [`Executor::tick`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// How many times a task was polled.
    pub polled: usize,
    /// True if tasks are left that could be polled at once.
    pub ready: bool,
}

/// The future of [`Executor::run`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Run<'a, F> {
    executor: &'a Executor,
    /// Where it was made.
    place: &'static Location<'static>,
    /// What stands for the main future in the table, from the first poll on.
    cell: Option<OutputRef<()>>,
    main: F,
}

impl<F: Future> Future for Run<'_, F> {
    type Output = F::Output;

    /// ② Polls what is ready, within the budget.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `main` is pinned with its `Run`: it is not moved out of it, and `Run` is `Unpin`
        // only if `main` is. The other fields are never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let mut main = unsafe { Pin::new_unchecked(&mut this.main) };
        let core = &this.executor.core;
        core.assert_not_running();
        let place = this.place;
        let cell = this.cell.get_or_insert_with(|| core.insert_main(place));
        let key = cell.key.get();
        let _running = core.start(cx.waker());
        let mut batches = BUDGET / LOOK;
        'budget: while batches > 0 {
            batches = batches.saturating_sub(1 + core.refills.take());
            core.look(cx.waker());
            for _ in 0..LOOK {
                match core.poll_next() {
                    Next::Task | Next::Ended => {}
                    Next::Main => {
                        let waker = waker(key);
                        let polled = main.as_mut().poll(&mut Context::from_waker(&waker));
                        if polled.is_ready() {
                            this.end();
                            return polled;
                        }
                    }
                    Next::Nothing => break 'budget,
                }
            }
        }
        if core.has_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<F> Run<'_, F> {
    fn end(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.executor.core.remove_main(&cell);
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
            .field("main", &format_args!("run at {}", self.place))
            .finish_non_exhaustive()
    }
}

/// What was first in the run queue.
enum Next {
    /// It was polled.
    Task,
    /// It's to be polled.
    Main,
    /// It had ended in the queue.
    Ended,
    Nothing,
}

impl ExecutorInner {
    /// The loop begins. `outer` is who to wake when something gets ready after it.
    fn start(self: &Rc<Self>, outer: &Waker) -> Running {
        self.resting.set(false);
        self.running.set(true);
        let running = Running {
            _entered: current::enter(self.clone()),
            _depth: nested_drop::restart_depth(),
            core: self.clone(),
        };
        // To clone and to drop a waker is user code: it finds the loop begun, so that it can't
        // begin another one in here, and if it panics, the guard ends the loop.
        let known = self.outer.take();
        if known.as_ref().is_some_and(|known| known.will_wake(outer)) {
            self.outer.set(known);
            self.look(outer);
        } else {
            self.collect(outer);
            self.outer.set(Some(outer.clone()));
            drop(known);
        }
        running
    }

    /// Looks whether other threads have woken somebody.
    #[inline]
    fn look(&self, outer: &Waker) {
        if self.inbox.has_mail() {
            self.collect(outer);
        }
    }

    /// Moves the wakes of other threads to the run queue.
    #[cold]
    fn collect(&self, outer: &Waker) {
        let old = self.inbox.collect(outer.clone(), |index, generation| {
            let table = self.table();
            match generation {
                Some(generation) => {
                    table.wake(Key::new(self.id(), generation, index), &self.queue);
                }
                None => table.wake_slot(index, &self.queue),
            }
        });
        drop(old);
    }

    /// Polls the first in the run queue, and ends it if that was its last poll.
    #[inline(always)]
    fn poll_next(&self) -> Next {
        let Some(cell) = self.queue.pop() else {
            return Next::Nothing;
        };
        self.polls.set(self.polls.get().wrapping_add(1));
        let waker = waker(cell.key.get());
        match cell.poll(&self.polled, &mut Context::from_waker(&waker)) {
            Polled::Main => return Next::Main,
            Polled::Ended => return Next::Ended,
            Polled::Pending => {}
            Polled::Queued(cell) => self.queue.push(cell),
            Polled::Done(key) => self.finish(key),
            Polled::Cancelled(key) => self.finish_cancelled(key),
        }
        Next::Task
    }
}

/// The loop is on the stack while this lives.
struct Running {
    core: Rc<ExecutorInner>,
    _entered: Entered,
    _depth: nested_drop::Level,
}

impl Drop for Running {
    fn drop(&mut self) {
        let slots = self.core.table().end_turn();
        if let Some(slots) = slots {
            self.core.inbox.give_back(slots);
        }
        self.core.running.set(false);
        // From here on nobody looks at the queue: the next wake has to say that there is something.
        self.core.resting.set(true);
    }
}
