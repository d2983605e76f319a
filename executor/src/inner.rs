//! What tasks and wakers find of an executor.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::pending;
use std::panic::Location;
use std::task::Waker;

use crate::cell::{DETACHED, MAIN, NAMED, NewCell, OutputRef, Ref};
use crate::inbox::Inbox;
use crate::key::{Key, MAX_TASKS};
use crate::panic::discard_panic;
use crate::queue::Queue;
use crate::table::Table;

/// What became of a new task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnOutcome {
    Queued,
    /// Queued, and the driver must be woken.
    NeedsWakeup,
    /// The executor is being dropped: so is the task.
    Closed,
    /// There is no room.
    Full,
}

/// What tasks and wakers find of an executor by its number. It has only plain values and one
/// table, which is borrowed for moments in which no user code runs.
pub(crate) struct ExecutorInner {
    /// NO_ID once the executor is gone: a guard may still have it entered.
    pub(crate) id: Cell<u16>,
    pub(crate) inbox: &'static Inbox,
    pub(crate) table: RefCell<Table>,
    pub(crate) queue: Queue,
    /// The waker of whoever drives the loop. It is out of its place only while it's being called.
    pub(crate) outer: Cell<Option<Waker>>,
    /// Nobody looks at the queue: the next wake must call `outer`.
    pub(crate) resting: Cell<bool>,
    /// The loop is on this thread's stack.
    pub(crate) running: Cell<bool>,
    /// A `run` is unfinished: its main future has a slot.
    pub(crate) has_run: Cell<bool>,
    /// Whose poll is on the stack; WOKEN once that task has woken itself.
    pub(crate) polled: Cell<Key>,
    /// How many polls there were: names the current one.
    pub(crate) polls: Cell<u32>,
    /// How many budgets of operations were used up lately. Each counts as a batch of polls: it
    /// takes as long.
    pub(crate) refills: Cell<usize>,
    /// The executor is being dropped, or was.
    pub(crate) closed: Cell<bool>,
}

impl ExecutorInner {
    pub(crate) fn id(&self) -> u16 {
        self.id.get()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.get()
    }

    /// Counts a used-up budget of operations, and returns the number of the current poll, among all
    /// executors of the process. `None` between polls.
    pub(crate) fn charge_turn(&self) -> Option<u64> {
        if !self.is_running() {
            return None;
        }
        self.refills.set(self.refills.get() + 1);
        Some(u64::from(self.id()) << 32 | u64::from(self.polls.get()))
    }

    #[inline]
    pub(crate) fn table(&self) -> RefMut<'_, Table> {
        self.table.borrow_mut()
    }

    /// Unless it is just queued, [`spawn`](crate::Task::spawn) is to follow.
    #[inline(always)]
    pub(crate) fn insert(&self, cell: Ref, queued: Ref) -> SpawnOutcome {
        if self.closed.get() {
            return SpawnOutcome::Closed;
        }
        if !self.table().insert(cell) {
            return SpawnOutcome::Full;
        }
        self.queue.push(queued);
        if self.resting.replace(false) {
            return SpawnOutcome::NeedsWakeup;
        }
        SpawnOutcome::Queued
    }

    /// Wakes a task: a flag and a link. True if the loop rests, and `outer` is to be called.
    /// `None` if it's of another executor.
    #[inline]
    pub(crate) fn wake(&self, key: Key) -> Option<bool> {
        if self.polled.get() == key {
            self.polled.set(Key::WOKEN); // it's at hand when its poll returns
            return Some(false);
        }
        let is_ours = self.id() == key.executor();
        is_ours.then(|| self.table().wake(key, &self.queue) && self.resting.replace(false))
    }

    #[cold]
    pub(crate) fn wake_driver(&self) {
        let Some(outer) = self.outer.take() else {
            return;
        };
        outer.wake_by_ref();
        // The call may have led to a new `outer`; that one stays.
        let newer = self.outer.replace(Some(outer));
        if newer.is_some() {
            drop(self.outer.replace(newer));
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.inbox.has_mail() || self.polled.get() == Key::WOKEN || !self.queue.is_empty()
    }

    #[inline]
    pub(crate) fn finish(&self, key: Key) {
        let (cell, other) = self.table().finish(key, &self.queue);
        if other.is_some() || cell.has(DETACHED) {
            self.tell(&cell, other);
        }
    }

    #[cold]
    pub(crate) fn finish_cancelled(&self, key: Key) {
        let (cell, other) = self.table().finish(key, &self.queue);
        discard_panic(|| cell.drop_future());
        self.tell(&cell, other);
    }

    /// Drops what nobody wants and wakes who waits: user code. It's kept out of the loop's way,
    /// since a task that is awaited by another one of its executor needs neither.
    #[cold]
    fn tell(&self, cell: &Ref, joiner: Option<Waker>) {
        if cell.has(DETACHED) {
            discard_panic(|| cell.drop_output());
            if cell.has(NAMED) {
                self.table().take_name(cell);
            }
        }
        discard_panic(|| joiner.into_iter().for_each(Waker::wake));
    }

    pub(crate) fn insert_main(&self, place: &'static Location<'static>) -> OutputRef<()> {
        self.assert_no_run();
        let main = NewCell::new(pending::<()>(), place);
        main.handle.set(MAIN);
        let has_room = self.table().insert(main.in_table);
        assert!(has_room, "{}", too_many_tasks());
        self.queue.push(main.in_queue);
        self.has_run.set(true); // not before: a panic must leave no run behind
        main.handle
    }

    pub(crate) fn remove_main(&self, main: &Ref) {
        self.has_run.set(false);
        self.table().remove(main.key.get());
        main.drop_future();
    }

    pub(crate) fn assert_not_running(&self) {
        assert!(
            !self.running.get(),
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
}

#[cold]
pub(crate) fn too_many_tasks() -> String {
    format!("more than {MAX_TASKS} tasks at once on one executor")
}

impl fmt::Debug for ExecutorInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (main, tasks) = self.table().describe();
        f.debug_struct("Executor")
            .field("id", &self.id())
            .field("main", &main)
            .field("tasks", &tasks)
            .finish()
    }
}
