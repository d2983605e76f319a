//! The public number of a task.

use std::fmt;
use std::task::{RawWakerVTable, Waker};

use crate::current;
use crate::key::Key;
use crate::waker;

/// Identifies a task.
///
/// The ids of two tasks of a process differ, unless an executor has had 67 million tasks in
/// between. `Display` prints the number of the task in the order of spawning, and before it the
/// number of the executor, unless that is 0.
///
/// # Examples
///
/// ```
/// use windlass_executor::{Executor, TaskId, block_on, spawn};
///
/// block_on(Executor::new().run(async {
///     let task = spawn(async { TaskId::current().unwrap() });
///     let id = task.id().unwrap();
///     assert_eq!(task.await, id);
/// }));
/// assert_eq!(TaskId::current(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId(Key);

impl TaskId {
    /// Returns the id of the task that is being polled on this thread. `None` outside of tasks, in
    /// the main future, and once the task has woken itself in this poll.
    pub fn current() -> Option<TaskId> {
        TaskId::of_key(current::with_entered(|entered| {
            entered.as_ref().map(|inner| inner.pulse.current_task.get())
        })?)
    }

    /// Returns the id of the task that the waker wakes, or `None` if it is not a waker of an
    /// executor of this crate. The main future of a [`Run`](crate::Run) has an id, too.
    pub fn of_waker(waker: &Waker) -> Option<TaskId> {
        TaskId::of_raw_waker(waker.data(), waker.vtable())
    }

    /// As [`of_waker`](TaskId::of_waker), for the parts of a waker.
    pub fn of_raw_waker(data: *const (), vtable: &'static RawWakerVTable) -> Option<TaskId> {
        waker::key_of(data, vtable).and_then(TaskId::of_key)
    }

    pub(crate) fn of_key(key: Key) -> Option<TaskId> {
        key.names_task().then_some(TaskId(key))
    }

    pub(crate) fn key(self) -> Key {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.executor() != 0 {
            write!(f, "{}:", self.0.executor())?;
        }
        write!(f, "{}", self.0.generation())
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}
