//! A task in a listing.

use std::panic::Location;
use std::sync::Arc;

use crate::cell::{FOREIGN_JOINER, MAIN, QUEUED, RUNNING, Ref};
use crate::inner::ExecutorInner;
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

impl ExecutorInner {
    pub(crate) fn list_tasks(&self, tasks: &mut Vec<TaskEntry>) {
        let table = self.table();
        // Between the polls of tasks, the loop polls the main future.
        let polls_main = self.is_running.get() && !table.cells().any(|cell| cell.has(RUNNING));
        let cells = table.cells().map(|cell| {
            let key = cell.key.get();
            let foreign = cell
                .has(FOREIGN_JOINER)
                .then(|| table.foreign_joiner(cell))
                .flatten();
            TaskEntry {
                id: TaskId::of_key(key).expect("a task in the table has a key"),
                name: self.name(cell),
                spawned_at: cell.spawned_at,
                is_main: cell.has(MAIN),
                state: state(cell, polls_main),
                joiner: cell
                    .joiner()
                    .and_then(|slot| table.key_in(slot))
                    .and_then(TaskId::of_key),
                foreign_joiner: foreign.and_then(TaskId::of_waker),
            }
        });
        tasks.reserve(table.len());
        tasks.extend(cells);
    }
}

fn state(cell: &Ref, polls_main: bool) -> TaskState {
    if cell.has(RUNNING) || (cell.has(MAIN) && polls_main) {
        TaskState::Running
    } else if cell.has(QUEUED) {
        TaskState::Ready
    } else {
        TaskState::Waiting
    }
}
