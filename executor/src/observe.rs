//! Observers of polls. The loop chooses how it reports its polls once per turn, so that an
//! unobserved poll costs nothing.

use std::rc::Rc;

use crate::cell::{DONE, EMPTY, Ref};
use crate::inner::ExecutorInner;
use crate::panic::discard_panic;
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

/// How the loop reports its polls.
pub(crate) trait Report {
    fn polling(&self, inner: &ExecutorInner, cell: &Ref);
    fn polled(&self, task: Option<TaskId>);
}

/// Reports nothing.
pub(crate) struct Unobserved;

impl Report for Unobserved {
    #[inline(always)]
    fn polling(&self, _: &ExecutorInner, _: &Ref) {}

    #[inline(always)]
    fn polled(&self, _: Option<TaskId>) {}
}

/// Publishes where the task was spawned.
pub(crate) struct Published;

impl Report for Published {
    #[inline(always)]
    fn polling(&self, inner: &ExecutorInner, cell: &Ref) {
        inner.pulse.set_spawned_at(cell.spawned_at);
    }

    #[inline(always)]
    fn polled(&self, _: Option<TaskId>) {}
}

impl Report for Rc<dyn Observer> {
    fn polling(&self, inner: &ExecutorInner, cell: &Ref) {
        Published.polling(inner, cell);
        if cell.has(DONE | EMPTY) {
            return; // it has ended while it was queued, so no poll follows
        }
        if let Some(task) = TaskId::of_key(cell.key.get()) {
            discard_panic(|| Observer::polling(&**self, task));
        }
    }

    fn polled(&self, task: Option<TaskId>) {
        if let Some(task) = task {
            discard_panic(|| Observer::polled(&**self, task));
        }
    }
}
