//! Where the waits for files are in memory, for readers outside of the process.

use super::order::ListedQueue;
use super::ring_waits::RingWaits;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// The size of a wait for a ring. There: the waker, or `None`, the kind of operation, a byte,
    /// the descriptor, 32 bits, and whether it runs, a byte.
    pub(crate) ring: [usize; 5],
    /// The size of a queue of a file handle. There: the `Weak` of the queue, and the address of its
    /// state.
    pub(crate) queue: [usize; 3],
    /// In such a state: the numbers of operations that are left and that wait, the `Vec` of
    /// operations, and the waker of the future that waits for the end of all, or `None`.
    pub(crate) queue_state: [usize; 4],
    /// The size of an operation in a queue. There: its phase, a byte, and the waker of its future,
    /// or `None`. Then the phase of one that is over.
    pub(crate) queued: [usize; 4],
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    ring: RingWaits::LAYOUT,
    queue: ListedQueue::LAYOUT,
    queue_state: ListedQueue::STATE_OFFSETS,
    queued: ListedQueue::ENTRY_LAYOUT,
};
