//! The tasks that receive the jobs of other threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use windlass_executor::TaskId;
use windlass_reactor::fork::Origin;

/// The number of `Remote`s of a runtime.
#[derive(Debug)]
pub(crate) struct RemoteCount {
    remotes: AtomicUsize,
    /// The number was listed, so a loop may sleep because it was not zero.
    is_listed: AtomicBool,
    origin: Origin,
}

impl RemoteCount {
    pub(crate) fn new() -> Self {
        RemoteCount {
            remotes: AtomicUsize::new(0),
            is_listed: AtomicBool::new(false),
            origin: Origin::here(),
        }
    }

    pub(crate) fn add(&self) {
        self.remotes.fetch_add(1, SeqCst);
    }

    /// Returns whether this was the last `Remote`, and the loop has to be woken to find that out. A
    /// forked child has no such loop.
    pub(crate) fn remove(&self) -> bool {
        self.remotes.fetch_sub(1, SeqCst) == 1
            && self.is_listed.swap(false, SeqCst)
            && self.origin.is_here()
    }

    /// Either this returns a number without a `Remote` that is being dropped, or the drop of the
    /// last one wakes the loop.
    fn list(&self) -> usize {
        self.is_listed.store(true, SeqCst);
        self.remotes.load(SeqCst)
    }
}

thread_local! {
    /// The tasks of this thread that receive jobs, each with the count of its `Remote`s.
    static RECEIVERS: RefCell<Vec<(TaskId, Arc<RemoteCount>)>> = const { RefCell::new(Vec::new()) };
}

/// Lists the tasks of this thread that receive jobs, each with the number of `Remote`s.
pub(crate) fn list_job_receivers() -> Vec<(TaskId, usize)> {
    let list = |receivers: &RefCell<Vec<(TaskId, Arc<RemoteCount>)>>| {
        let receivers = receivers.borrow();
        let receivers = receivers.iter();
        receivers
            .map(|(task, count)| (*task, count.list()))
            .collect()
    };
    RECEIVERS.try_with(list).unwrap_or_default()
}

/// Keeps a task that receives jobs in the list, until it is dropped.
pub(crate) struct JobReceiver(Option<TaskId>);

impl JobReceiver {
    pub(crate) fn new(remotes: Arc<RemoteCount>) -> Self {
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
