//! The faults of the network and of its system calls.

use super::rate::Rate;

/// How often each family of faults happens. The faults of a single link are in
/// [`Link`](super::Link).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Faults {
    /// A read or write of a stream transfers a part of the bytes that it could. An event for the
    /// rest follows, as if the rest had come a moment later. Programs may rely on that event.
    pub(crate) short_transfer: Rate,
    /// After a system call has found a socket not ready, an event reports it ready.
    pub(crate) spurious_event: Rate,
    /// The events of one wait are in another order than the order in which they happened.
    pub(crate) event_order: Rate,
    /// A system call fails with `EINTR`.
    pub(crate) interrupt: Rate,
    /// A packet takes longer than the least latency of its link.
    pub(crate) jitter: Rate,
    /// A datagram between two hosts is lost.
    pub(crate) datagram_loss: Rate,
    /// A datagram between two hosts arrives twice.
    pub(crate) datagram_duplicate: Rate,
    /// A datagram between two hosts arrives after later ones.
    pub(crate) datagram_reorder: Rate,
    /// A stream has small buffers.
    pub(crate) small_buffers: Rate,
}

impl Faults {
    /// A network without faults.
    pub(crate) const fn none() -> Faults {
        let never = Rate::never();
        Faults {
            short_transfer: never,
            spurious_event: never,
            event_order: never,
            interrupt: never,
            jitter: never,
            datagram_loss: never,
            datagram_duplicate: never,
            datagram_reorder: never,
            small_buffers: never,
        }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            short_transfer: Rate::one_in(16),
            spurious_event: Rate::one_in(64),
            event_order: Rate::one_in(8),
            interrupt: Rate::one_in(256),
            jitter: Rate::one_in(8),
            datagram_loss: Rate::one_in(64),
            datagram_duplicate: Rate::one_in(128),
            datagram_reorder: Rate::one_in(32),
            small_buffers: Rate::one_in(16),
        }
    }
}
