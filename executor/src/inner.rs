//! The state of an executor, as tasks and wakers find it.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::fmt;
use std::future::pending;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::cell::{DETACHED, MAIN, NAMED, OutputRef, QUEUED, RUNNING, Ref};
use crate::inbox::{self, Inbox};
use crate::key::{Key, MAX_TASKS};
use crate::observe::Observer;
use crate::panic::discard_panic;
use crate::pulse::PulseCell;
use crate::queue::Queue;
use crate::table::Table;
use crate::task_entry::{TaskEntry, TaskState};
use crate::task_id::TaskId;

/// The state behind an `Executor`. It consists of plain values and one table. No user code runs
/// while the table is borrowed.
pub(crate) struct ExecutorInner {
    /// Unique in the process until this is dropped.
    pub(crate) id: u16,
    pub(crate) inbox: &'static Inbox,
    table: RefCell<Table>,
    pub(crate) queue: Queue,
    /// The waker of the driver, which polls `run` or calls `tick`. It is taken out while it is
    /// being called or replaced.
    pub(crate) driver_waker: Cell<Option<Waker>>,
    /// The loop is not polling, so the next enqueue must wake the driver.
    pub(crate) needs_wakeup: Cell<bool>,
    /// A `run` is unfinished, and its main future has a slot.
    has_run: Cell<bool>,
    /// The loop is on this thread's stack.
    pub(crate) is_running: Cell<bool>,
    /// The values that other threads may read.
    pub(crate) pulse: PulseCell,
    /// Taken out for short moments in which no user code runs.
    observer: Cell<Option<Rc<dyn Observer>>>,
    /// How many budgets of operations were exhausted since the last batch of polls. Each shortens
    /// the turn by a batch, since it takes about as long.
    pub(crate) refills: Cell<usize>,
    /// The executor is being dropped or has been dropped.
    is_closed: Cell<bool>,
    /// A value of the crate that builds on this one.
    pub(crate) extension: OnceCell<Rc<dyn Any>>,
}

// A panic leaves the state consistent, since it changes before user code runs.
impl UnwindSafe for ExecutorInner {}
impl RefUnwindSafe for ExecutorInner {}

/// The result of a spawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnOutcome {
    Queued,
    /// Queued, and the caller must wake the driver.
    NeedsWakeup,
    /// The executor is being dropped, and so is the task.
    Closed,
    /// The table is full.
    Full,
}

/// The result of a wake.
pub(crate) enum WakeOutcome {
    Done,
    /// The caller must wake the driver.
    NeedsWakeup,
    /// The task belongs to another executor.
    NotFound,
}

/// A poll, as the budget of operations sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CurrentPoll {
    pub(crate) task: Key,
    pub(crate) executor: u16,
    /// How many polls the executor has begun, and how many tasks it was given. Both wrap around.
    pub(crate) number: u32,
    pub(crate) spawned: u32,
}

impl ExecutorInner {
    pub(crate) fn new() -> Self {
        let (id, first_generation) = inbox::claim();
        ExecutorInner {
            id,
            inbox: inbox::of(id),
            table: RefCell::new(Table::new(id, first_generation)),
            queue: Queue::new(),
            driver_waker: Cell::new(None),
            needs_wakeup: Cell::new(true),
            has_run: Cell::new(false),
            is_running: Cell::new(false),
            pulse: PulseCell::new(),
            observer: Cell::new(None),
            refills: Cell::new(0),
            is_closed: Cell::new(false),
            extension: OnceCell::new(),
        }
    }

    #[inline]
    pub(crate) fn table(&self) -> RefMut<'_, Table> {
        self.table.borrow_mut()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Returns the number of unfinished tasks, without the main future.
    pub(crate) fn tasks(&self) -> usize {
        self.table().len() - usize::from(self.has_run.get())
    }

    pub(crate) fn has_ready(&self) -> bool {
        let woken = self.pulse.current_task.get() == Key::SELF_WOKEN;
        woken || self.inbox.has_remote_wakes() || !self.queue.is_empty()
    }

    /// Counts an exhausted budget of operations. Returns the current poll, or `None` between polls.
    pub(crate) fn count_refill(&self) -> Option<CurrentPoll> {
        if !self.is_running.get() {
            return None;
        }
        self.refills.set(self.refills.get() + 1);
        Some(CurrentPoll {
            task: self.pulse.current_task.get(),
            executor: self.id,
            number: self.pulse.polls.get() as u32,
            spawned: self.pulse.spawned.get() as u32,
        })
    }

    /// Puts a new task into the table and the run queue.
    #[inline(always)]
    pub(crate) fn insert(&self, cell: &Ref) -> SpawnOutcome {
        if self.is_closed.get() {
            return SpawnOutcome::Closed;
        }
        if !self.table().insert(cell.share()) {
            return SpawnOutcome::Full;
        }
        self.pulse.spawned.increment();
        self.queue.wake(cell);
        if self.needs_wakeup.replace(false) {
            return SpawnOutcome::NeedsWakeup;
        }
        SpawnOutcome::Queued
    }

    /// Wakes a task of this executor. Sets a flag and links the task into the run queue.
    #[inline]
    pub(crate) fn wake(&self, key: Key) -> WakeOutcome {
        if self.pulse.current_task.get() == key {
            self.pulse.current_task.set(Key::SELF_WOKEN); // its poll requeues it
            return WakeOutcome::Done;
        }
        if self.id != key.executor() {
            return WakeOutcome::NotFound;
        }
        if self.table().wake(key, &self.queue) && self.needs_wakeup.replace(false) {
            return WakeOutcome::NeedsWakeup;
        }
        WakeOutcome::Done
    }

    #[cold]
    pub(crate) fn wake_driver(&self) {
        let Some(driver_waker) = self.driver_waker.take() else {
            return;
        };
        driver_waker.wake_by_ref();
        // If the call has led to a turn with a new waker, the new waker stays.
        let newer = self.driver_waker.replace(Some(driver_waker));
        if newer.is_some() {
            drop(self.driver_waker.replace(newer));
        }
    }

    /// Ends a task that has its output.
    #[inline]
    pub(crate) fn finish(&self, key: Key) {
        self.pulse.ended.increment();
        let (cell, foreign_joiner) = self.table().finish(key, &self.queue);
        if foreign_joiner.is_some() || cell.has(DETACHED) {
            self.finish_slow(&cell, foreign_joiner);
        }
    }

    /// Ends a task that was cancelled while it was running.
    #[cold]
    pub(crate) fn finish_cancelled(&self, key: Key) {
        self.pulse.ended.increment();
        let (cell, foreign_joiner) = self.table().finish(key, &self.queue);
        self.drop_future(&cell);
        self.finish_slow(&cell, foreign_joiner);
    }

    /// Drops the output of a detached task, and wakes a foreign joiner. Both are user code.
    /// Outlined, since a task that is awaited on its own executor needs neither.
    #[cold]
    fn finish_slow(&self, cell: &Ref, foreign_joiner: Option<Waker>) {
        if cell.has(DETACHED) {
            discard_panic(|| cell.drop_output());
            if cell.has(NAMED) {
                self.forget_name(cell);
            }
        }
        discard_panic(|| foreign_joiner.into_iter().for_each(Waker::wake));
    }

    /// Ends a task that is not being polled. Returns the joiner on this executor, which the caller
    /// wakes.
    #[cold]
    pub(crate) fn abort(&self, cell: &Ref) -> Option<Key> {
        let (removed, foreign_joiner) = self.remove(cell.key.get());
        let joiner = removed.joiner().and_then(|slot| self.table().key_in(slot));
        self.drop_future(&removed);
        self.finish_slow(&removed, foreign_joiner);
        joiner
    }

    /// Takes an unfinished task out of the table, with its foreign joiner.
    #[inline(always)]
    pub(crate) fn remove(&self, key: Key) -> (Ref, Option<Waker>) {
        self.pulse.ended.increment();
        self.table().remove(key)
    }

    /// Drops the future of a task that the loop ends.
    #[cold]
    fn drop_future(&self, cell: &Ref) {
        let _dropping = self.pulse.start_drop(cell.key.get(), cell.spawned_at);
        discard_panic(|| cell.drop_future());
    }

    pub(crate) fn set_name(&self, cell: &Ref, name: Arc<str>) {
        cell.set(NAMED);
        self.inbox.pulse.set_name(cell.key.get(), name);
    }

    pub(crate) fn name(&self, cell: &Ref) -> Option<Arc<str>> {
        cell.has(NAMED)
            .then(|| self.inbox.pulse.name(cell.key.get()))?
    }

    /// Forgets the name once neither the handle nor the loop needs it.
    #[cold]
    pub(crate) fn forget_name(&self, cell: &Ref) {
        cell.clear(NAMED);
        self.inbox.pulse.forget_name(cell.key.get());
    }

    pub(crate) fn describe_task(&self, cell: &Ref) -> String {
        cell.describe(self.name(cell).as_deref())
    }

    /// Lists the tasks in the table, with the main future's.
    pub(crate) fn list_tasks(&self, tasks: &mut Vec<TaskEntry>) {
        let table = self.table();
        // Between the polls of tasks, the loop polls the main future.
        let polls_main = self.is_running.get() && !table.cells().any(|cell| cell.has(RUNNING));
        let id_in = |slot| TaskId::of_key(table.key_in(slot)?);
        let cells = table.cells().map(|cell| TaskEntry {
            id: TaskId(cell.key.get()),
            name: self.name(cell),
            spawned_at: cell.spawned_at,
            is_main: cell.has(MAIN),
            state: if cell.has(RUNNING) || (cell.has(MAIN) && polls_main) {
                TaskState::Running
            } else if cell.has(QUEUED) {
                TaskState::Ready
            } else {
                TaskState::Waiting
            },
            joiner: cell.joiner().and_then(id_in),
            foreign_joiner: table.foreign_joiner(cell).and_then(TaskId::of_waker),
        });
        tasks.reserve(table.len());
        tasks.extend(cells);
    }

    /// Replaces the observer. Returns the previous one. Its drop is user code.
    pub(crate) fn set_observer(&self, new: Option<Rc<dyn Observer>>) -> Option<Rc<dyn Observer>> {
        self.observer.replace(new)
    }

    pub(crate) fn observer(&self) -> Option<Rc<dyn Observer>> {
        let observer = self.observer.take();
        self.observer.set(observer.clone());
        observer
    }

    /// Inserts a cell for the main future of a `run` into the table, so that wakes find it like a
    /// task.
    pub(crate) fn insert_main(&self, run_at: &'static Location<'static>) -> OutputRef<()> {
        self.assert_no_run();
        let main = OutputRef::new(pending::<()>(), run_at);
        main.set(MAIN);
        assert!(self.table().insert(main.share()), "{}", too_many_tasks());
        self.pulse.spawned.increment();
        self.queue.wake(&main);
        self.has_run.set(true); // last, so that a panic leaves no run behind
        main
    }

    pub(crate) fn remove_main(&self, main: &Ref) {
        self.has_run.set(false);
        self.remove(main.key.get());
        main.drop_future();
    }

    pub(crate) fn assert_not_running(&self) {
        assert!(
            !self.is_running.get(),
            "an executor can't be run from inside of one of its own tasks: `.await` the future \
             there, or `spawn` it"
        );
    }

    pub(crate) fn assert_no_run(&self) {
        assert!(
            !self.has_run.get(),
            "another `run` of this executor is unfinished: await it, or drop it"
        );
    }

    /// Drops all unfinished tasks. From here on, new tasks are dropped at once.
    pub(crate) fn drop_tasks(&self) {
        self.is_closed.set(true);
        let mut from = 0;
        loop {
            let drained = self.table().drain(&mut from, &self.queue);
            let Some((cell, foreign_joiner)) = drained else {
                return;
            };
            self.pulse.ended.increment();
            self.drop_future(&cell);
            discard_panic(|| foreign_joiner.into_iter().for_each(Waker::wake));
        }
    }

    /// Makes all wakers of this executor do nothing.
    pub(crate) fn disconnect_wakers(&self) {
        let next_generation = self.table().generation;
        let inbox_waker = self.inbox.close(next_generation);
        discard_panic(|| drop(inbox_waker));
        discard_panic(|| drop(self.driver_waker.take()));
        discard_panic(|| drop(self.set_observer(None)));
    }
}

impl Drop for ExecutorInner {
    fn drop(&mut self) {
        inbox::release(self.id);
    }
}

#[cold]
pub(crate) fn too_many_tasks() -> String {
    format!("more than {MAX_TASKS} tasks at once on one executor")
}

impl fmt::Debug for ExecutorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        let (main, tasks): (Vec<_>, Vec<_>) = table.cells().partition(|cell| cell.has(MAIN));
        let main = main.first();
        let main = main.map(|cell| format!("the main future, run at {}", cell.spawned_at));
        let tasks: Vec<_> = tasks.iter().map(|cell| self.describe_task(cell)).collect();
        f.debug_struct("ExecutorInner")
            .field("id", &self.id)
            .field("main", &main)
            .field("tasks", &tasks)
            .finish()
    }
}
