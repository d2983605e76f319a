//! Where the pools are in memory, for readers outside of the process.

use super::pool::ListedPool;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// The size of a pool. There: the address and the length of its name, and the addresses of the
    /// `Vec`s of closures that are queued and that run.
    pub(crate) pool: [usize; 5],
    /// The size of a closure. There: whether it is present, a byte, the address of the waker of its
    /// future, or `None`, the `&'static Location`, or null for an operation on a file, the kind of
    /// operation, a byte, and the descriptor, 32 bits.
    pub(crate) closure: [usize; 6],
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    pool: ListedPool::LAYOUT,
    closure: ListedPool::WORK_LAYOUT,
};
