//! Where the wakers of this folder's objects are in memory, for readers outside of the process.

use super::mpsc::Ends as Channel;
use super::oneshot::Ends as Oneshot;
use super::wait_queue::{WaitList, WaitState, Waiter, Waiters};
use crate::waits::NODE_OFFSETS;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// In the node of an object: the object, its kind, a byte, and the next node, or null.
    pub(crate) node: [usize; 3],
    /// In a queue: the owner, a byte, and the `&'static Location`.
    pub(crate) queue: [usize; 2],
    /// In the waiters of a queue: the `Vec` of entries.
    pub(crate) entries: usize,
    pub(crate) entry_size: usize,
    /// In an entry: the state, a byte, and the waker, or `None`.
    pub(crate) entry: [usize; 2],
    /// The state of an entry with a future that waits.
    pub(crate) waiting: usize,
    /// In a channel: the waker of the receiver, or `None`, and the `&'static Location`.
    pub(crate) channel: [usize; 2],
    /// In a oneshot channel: the wakers of the sender and of the receiver, or `None`, and the
    /// `&'static Location`.
    pub(crate) oneshot: [usize; 3],
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    node: NODE_OFFSETS,
    queue: WaitList::OFFSETS,
    entries: Waiters::ENTRIES_OFFSET,
    entry_size: Waiters::ENTRY_SIZE,
    entry: Waiter::OFFSETS,
    waiting: WaitState::Waiting as usize,
    channel: Channel::OFFSETS,
    oneshot: Oneshot::OFFSETS,
};

/// Returns the offset of the waiters in a queue, which is not a constant.
pub(crate) fn waiters_offset() -> usize {
    WaitList::waiters_offset()
}
