//! The tasks that receive the jobs of other threads.

use std::mem::offset_of;
use std::pin::Pin;
use std::sync::Weak;

use windlass_executor::TaskId;

use super::{ListWaits, Listed, ObjectKind};

/// Keeps a task that receives jobs in the list of objects, until it is dropped.
pub(crate) struct JobReceiver {
    _listed: Option<Pin<Box<Listed<Receiver>>>>,
}

/// The task, and the count of its `Remote`s.
pub(crate) struct Receiver {
    /// In memory it is the key, for readers outside of the process.
    task: TaskId,
    remotes: Weak<()>,
}

impl JobReceiver {
    pub(crate) fn new(remotes: Weak<()>) -> Self {
        let listed =
            TaskId::current().map(|task| Box::pin(Listed::new(Receiver { task, remotes })));
        listed.iter().for_each(|listed| listed.as_ref().join());
        JobReceiver { _listed: listed }
    }
}

impl Receiver {
    pub(crate) const OFFSETS: [usize; 2] =
        [offset_of!(Receiver, task), offset_of!(Receiver, remotes)];
}

impl ListWaits for Receiver {
    fn kind(&self) -> ObjectKind {
        ObjectKind::JobReceiver
    }

    fn list_job_receiver(&self, receivers: &mut Vec<(TaskId, usize)>) {
        let of_others = self.remotes.strong_count().saturating_sub(1);
        receivers.push((self.task, of_others));
    }
}
