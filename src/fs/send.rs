//! Data of a file that a socket can be sent from the cache.

use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use super::File;
use super::cached::{self, touch};
pub(crate) use super::cached_queue::Attempt;
use super::order::Access;
use windlass_reactor::{budget, is_driven};

/// Charges the task and the turn before an attempt to send up to this number of bytes. Beyond the
/// limits, it waits for the next turn. Returns false if no turn would come.
pub(crate) fn poll_admit(cx: &mut Context<'_>, attempt: &mut Attempt, bytes: usize) -> Poll<bool> {
    cached::poll_admit(cx, attempt, bytes)
}

/// Takes back the charge of an attempt, except for the bytes that it has sent.
pub(crate) fn settle(admitted: usize, sent: usize) {
    if sent == 0 {
        budget::refund();
    }
    cached::settle(admitted, sent);
}

impl File {
    /// Returns the descriptor if `sendfile` waits only for data that is not in memory.
    pub(crate) fn sendable(&self) -> Option<BorrowedFd<'_>> {
        let handle = self.handle.as_ref()?;
        let may_send = is_driven() && self.can_read_cached.get() && handle.reads_without_lock();
        may_send.then(|| handle.as_fd())
    }

    /// Reads the range and discards it. Returns how many bytes at its start are in memory, unless
    /// an earlier operation must complete before.
    ///
    /// The kernel evicts pages that were just read last. If it does so before the next system call,
    /// the memory is so short that the code of the loop is evicted, too.
    pub(crate) fn bytes_in_memory(&self, offset: u64, wanted: usize) -> usize {
        let range = offset..offset.saturating_add(wanted as u64);
        match &self.handle {
            Some(handle) if self.order.would_start(&Access::Read(range)) => {
                touch(handle, offset, wanted)
            }
            _ => 0,
        }
    }
}
