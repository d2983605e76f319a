//! Where the wakers of this folder's objects are in memory, for readers outside of the process.

use super::mpsc::Ends as Channel;
use super::oneshot::Ends as Oneshot;
use super::wait_queue::{WaitList, WaitState, Waiter, Waiters};

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// In a queue: the owner, a byte, the `&'static Location`, the permits that are left, and the
    /// waker of the holder of a lock, or `None`.
    pub(crate) queue: [usize; 4],
    /// In the waiters of a queue: the `Vec` of entries.
    pub(crate) entries: usize,
    pub(crate) entry_size: usize,
    /// In an entry: the state, a byte, the waker, or `None`, the wanted permits, and the
    /// `Location` of the `.await`, or null.
    pub(crate) entry: [usize; 4],
    /// The state of an entry with a future that waits.
    pub(crate) waiting: usize,
    /// In a channel: the waker of the receiver, or `None`, the `&'static Location`, the capacity,
    /// or zero, the number of senders, the `Location` of the `.await` of the receiver, or null, its
    /// last waker, or `None`, and the pointer to the object of its queue, or null.
    pub(crate) channel: [usize; 7],
    /// In such an object: the queue.
    pub(crate) queue_in_object: usize,
    /// In a oneshot channel: the wakers of the sender and of the receiver, or `None`, the
    /// `&'static Location`, and the `Location` of the `.await` of the receiver, or null.
    pub(crate) oneshot: [usize; 4],
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    queue: WaitList::OFFSETS,
    entries: Waiters::ENTRIES_OFFSET,
    entry_size: Waiters::ENTRY_SIZE,
    entry: Waiter::OFFSETS,
    waiting: WaitState::Waiting as usize,
    channel: Channel::OFFSETS,
    queue_in_object: WaitList::OBJECT_OFFSET,
    oneshot: Oneshot::OFFSETS,
};

/// Returns the offset of the waiters in a queue, which is not a constant.
pub(crate) fn waiters_offset() -> usize {
    WaitList::waiters_offset()
}
