//! Where the objects of this folder are in memory, for readers outside of the process.

use super::jobs::Receiver;
use super::listed::NODE_OFFSETS;
use super::remote::Waiting;
#[cfg(unix)]
use super::sources::Source;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// In the node of an object: the distance from the node to the object, 32 bits that may be
    /// negative, its kind, a byte, and the next node, or null.
    pub(crate) node: [usize; 3],
    /// In a labelled descriptor: its number, 32 bits, the PID of the child, 32 bits, or zero, and
    /// the `Vec` of signals.
    pub(crate) source: [usize; 3],
    /// In a receiver of jobs: the key of the task, and the `Arc` of the count of `Remote`s. In that
    /// count: the number.
    pub(crate) job_receiver: [usize; 3],
    /// The size of a wait for a remote task. There: whether it is present, a byte, the two words of
    /// the waker, and the `&'static Location`.
    pub(crate) remote: [usize; 5],
}

/// The description for this build.
pub(crate) const LAYOUT: Layout = Layout {
    node: NODE_OFFSETS,
    #[cfg(unix)]
    source: Source::OFFSETS,
    #[cfg(not(unix))]
    source: [0; 3],
    job_receiver: Receiver::OFFSETS,
    remote: Waiting::LAYOUT,
};
