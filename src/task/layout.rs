//! Where groups and scopes are in memory, for readers outside of the process.

use super::listed_group::{ListedGroup, RUNNING_LAYOUT};
use super::scope::{ChildSignal, ReadyQueue, Wakers};

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// In a group: the `&'static Location`, the address of the waker of its owner, or `None`, and
    /// the address of the `Vec` of running children.
    pub(crate) group: [usize; 3],
    /// The size of a running child. There: whether it is present, a byte, and the key of the task.
    pub(crate) child: [usize; 3],
    /// In a scope: the `Arc` of its ready queue, and the `Weak` of the signal of its newest child.
    pub(crate) scope: [usize; 2],
    /// In such a signal: the `Weak` of the one before.
    pub(crate) signal_previous: usize,
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    group: ListedGroup::OFFSETS,
    child: RUNNING_LAYOUT,
    scope: Wakers::OFFSETS,
    signal_previous: ChildSignal::PREVIOUS_OFFSET,
};

/// Returns the offset of the waker of a scope's task in the ready queue, which is not a constant.
pub(crate) fn scope_parent_offset() -> usize {
    ReadyQueue::parent_offset()
}
