//! The tasks that receive the jobs of other threads.

use std::cell::RefCell;
use std::sync::Weak;

use windlass_executor::TaskId;

thread_local! {
    /// The tasks of this thread that receive jobs, each with the count of its `Remote`s.
    static RECEIVERS: RefCell<Vec<(TaskId, Weak<()>)>> = const { RefCell::new(Vec::new()) };
}

/// Lists the tasks of this thread that receive jobs, each with the number of `Remote`s beside the
/// runtime's own.
pub(crate) fn list_job_receivers() -> Vec<(TaskId, usize)> {
    let of_others = |remotes: &Weak<()>| remotes.strong_count().saturating_sub(1);
    let list = |receivers: &RefCell<Vec<(TaskId, Weak<()>)>>| {
        let receivers = receivers.borrow();
        let receivers = receivers.iter();
        receivers
            .map(|(task, remotes)| (*task, of_others(remotes)))
            .collect()
    };
    RECEIVERS.try_with(list).unwrap_or_default()
}

/// Keeps a task that receives jobs in the list, until it is dropped.
pub(crate) struct JobReceiver(Option<TaskId>);

impl JobReceiver {
    pub(crate) fn new(remotes: Weak<()>) -> Self {
        let task = TaskId::current();
        // While the thread ends, the list may be gone.
        let _ = RECEIVERS.try_with(|receivers| {
            let new = task.map(|task| (task, remotes));
            receivers.borrow_mut().extend(new);
        });
        JobReceiver(task)
    }
}

impl Drop for JobReceiver {
    fn drop(&mut self) {
        // While the thread ends, the list may be gone.
        let _ = RECEIVERS.try_with(|receivers| {
            receivers
                .borrow_mut()
                .retain(|(task, _)| Some(*task) != self.0);
        });
    }
}
