//! A task in a listing.

use std::panic::Location;
use std::sync::Arc;

use crate::task_id::TaskId;

/// A task in the list of [`Executor::list_tasks`](crate::Executor::list_tasks).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TaskEntry {
    /// Identifies the task.
    pub id: TaskId,
    /// The name that [`Task::named`](crate::Task::named) gave it.
    pub name: Option<Arc<str>>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// Whether it is the main future of a run.
    pub is_main: bool,
    /// What it does.
    pub state: TaskState,
    /// The task of the same executor that awaits it.
    pub joiner: Option<TaskId>,
    /// The task of another executor that awaits it.
    pub foreign_joiner: Option<TaskId>,
}

/// What a task does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// It is being polled.
    Running,
    /// It is in the run queue.
    Ready,
    /// It waits until its waker is called.
    Waiting,
}
