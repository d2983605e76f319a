//! The public number of a task.

use std::fmt;

use crate::key::Key;

/// Identifies a task.
///
/// The ids of two tasks of a process differ, unless an executor has had 67 million tasks in
/// between. `Display` prints the number of the task in the order of spawning, and before it the
/// number of the executor, unless that is 0.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, inspect::TaskId, spawn};
///
/// block_on(async {
///     let task = spawn(async { TaskId::current().unwrap() });
///     let id = task.id().unwrap();
///     assert_eq!(task.await, id);
/// });
/// assert_eq!(TaskId::current(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId(pub(crate) Key);

impl TaskId {
    pub(crate) fn of_key(key: Key) -> Option<TaskId> {
        key.names_task().then_some(TaskId(key))
    }

    /// Returns the number of the task in the order of spawning on its executor. Ids of executors
    /// are used again, and the count continues.
    pub fn number(self) -> u32 {
        self.0.generation()
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
