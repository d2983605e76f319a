//! A handle that cancels a task from elsewhere.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use crate::cell::{ABORTED, CANCELLED, DONE, EMPTY, RUNNING, Ref};
use crate::current;
use crate::task_id::TaskId;
use crate::waker::waker;

/// Cancels a task, without its [`Task`](crate::Task). Created by
/// [`Task::abort_handle`](crate::Task::abort_handle).
///
/// Clones abort the same task. A handle that is dropped has no effect. It keeps the memory of the
/// task, but not its future or output. Like `Task` it stays on the thread; another thread sends a
/// message, or aborts through [`Remote::run`].
///
/// | after an abort | result |
/// |---|---|
/// | `task.await` | panics with a message that names the task |
/// | `task.catch().await` | `Err`, and [`Panic::is_aborted`](crate::Panic::is_aborted) is true |
/// | `task.cancel().await` | `None` |
/// | a task that had finished | keeps its output |
/// | a detached task | ends, and nothing reports it |
///
/// [`Remote::run`]: https://docs.rs/windlass/latest/windlass/struct.Remote.html#method.run
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use windlass::{block_on, spawn};
///
/// block_on(async {
///     let task = spawn(pending::<()>());
///     let handle = task.abort_handle();
///     let timer = spawn(async move { handle.abort() }); // while `task` is awaited elsewhere
///     let ended = task.catch().await;
///     assert!(ended.unwrap_err().is_aborted());
///     timer.await;
/// });
/// ```
#[derive(Clone)]
pub struct AbortHandle {
    /// One counted reference for all clones, since a cell can count few. `None` if the output was
    /// taken before.
    cell: Option<Rc<Ref>>,
}

// A panic leaves the cell consistent.
impl UnwindSafe for AbortHandle {}
impl RefUnwindSafe for AbortHandle {}

impl AbortHandle {
    pub(crate) fn new(cell: Option<&Ref>) -> AbortHandle {
        let share = |cell: &Ref| match cell.try_share() {
            Some(cell) => Rc::new(cell),
            None => panic!("more than 32,000 abort handles of one task: clone one of them"),
        };
        AbortHandle {
            cell: cell.map(share),
        }
    }

    /// Cancels the task: drops its future now or, if the task is being polled, when that poll
    /// returns. The task's joiner is woken. Has no effect on a task that has finished.
    ///
    /// A panic of a destructor in the future is reported by the panic hook, and not propagated.
    pub fn abort(&self) {
        let Some(cell) = &self.cell else {
            return;
        };
        if cell.has(DONE | EMPTY) {
            return;
        }
        cell.set(ABORTED);
        if cell.has(RUNNING) {
            cell.set(CANCELLED);
            return;
        }
        let inner = current::find_local(cell.key.get().executor());
        let joiner = inner
            .expect("an unfinished task has its executor")
            .abort(cell);
        if let Some(joiner) = joiner {
            waker(joiner).wake_by_ref();
        }
    }

    /// Returns true if the task has finished, panicked or been cancelled, or if its executor was
    /// dropped.
    pub fn is_finished(&self) -> bool {
        self.cell.as_ref().is_none_or(|cell| cell.has(DONE | EMPTY))
    }

    /// Returns the id of the task. `None` if its output was taken before the handle was created.
    pub fn id(&self) -> Option<TaskId> {
        TaskId::of_key(self.cell.as_ref()?.key.get())
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("task", &self.id())
            .field("finished", &self.is_finished())
            .finish()
    }
}
