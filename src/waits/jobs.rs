//! The tasks that receive the jobs of other threads.

use std::mem::offset_of;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use windlass_executor::TaskId;
use windlass_reactor::fork::Origin;

use super::{ListWaits, Listed, ObjectKind};

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

/// Keeps a task that receives jobs in the list of objects, until it is dropped.
pub(crate) struct JobReceiver {
    _listed: Option<Pin<Box<Listed<Receiver>>>>,
}

/// The task, and the count of its `Remote`s.
pub(crate) struct Receiver {
    /// In memory it is the key, for readers outside of the process.
    task: TaskId,
    remotes: Arc<RemoteCount>,
}

impl JobReceiver {
    pub(crate) fn new(remotes: Arc<RemoteCount>) -> Self {
        let listed =
            TaskId::current().map(|task| Box::pin(Listed::new(Receiver { task, remotes })));
        listed.iter().for_each(|listed| listed.as_ref().join());
        JobReceiver { _listed: listed }
    }
}

impl Receiver {
    pub(crate) const OFFSETS: [usize; 3] = [
        offset_of!(Receiver, task),
        offset_of!(Receiver, remotes),
        offset_of!(RemoteCount, remotes),
    ];
}

impl ListWaits for Receiver {
    fn kind(&self) -> ObjectKind {
        ObjectKind::JobReceiver
    }

    fn list_job_receiver(&self, receivers: &mut Vec<(TaskId, usize)>) {
        receivers.push((self.task, self.remotes.list()));
    }
}
