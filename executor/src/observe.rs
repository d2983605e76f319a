//! Observers of polls.

use crate::task_id::TaskId;

/// Is called around each poll of a task of an [`Executor`](crate::Executor), to measure or to trace
/// tasks.
///
/// The calls may use the executor, for example to spawn a task or to list the tasks. A panic is
/// discarded.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use windlass_executor::{Executor, Observer, TaskId, block_on, spawn};
///
/// #[derive(Default)]
/// struct Polls(Cell<usize>);
///
/// impl Observer for Polls {
///     fn polling(&self, _: TaskId) {
///         self.0.set(self.0.get() + 1);
///     }
/// }
///
/// let (executor, polls) = (Executor::new(), Rc::new(Polls::default()));
/// executor.observe(Some(polls.clone()));
/// block_on(executor.run(async { spawn(async {}).await }));
/// assert_eq!(polls.0.get(), 3); // the main future is polled twice
/// ```
pub trait Observer {
    /// Called before a poll.
    fn polling(&self, task: TaskId) {
        let _ = task;
    }

    /// Called after the poll has returned. If the task has ended, its output was stored, and its
    /// joiner was woken. Not called if the main future panics.
    fn polled(&self, task: TaskId) {
        let _ = task;
    }
}
