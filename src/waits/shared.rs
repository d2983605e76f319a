//! The lists of waits that all threads share, for readers outside of the process.

use std::sync::atomic::AtomicUsize;

/// The addresses of the lists, each of them zero until it has had an entry.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct SharedLists {
    /// The `Vec` of waits for tasks of other runtimes.
    pub(crate) remote: AtomicUsize,
    /// The `Vec` of pools.
    pub(crate) pools: AtomicUsize,
    /// The `Vec` of the queues of file handles.
    pub(crate) file_queues: AtomicUsize,
}

pub(crate) static SHARED_LISTS: SharedLists = SharedLists {
    remote: AtomicUsize::new(0),
    pools: AtomicUsize::new(0),
    file_queues: AtomicUsize::new(0),
};
