//! The one place that knows how each platform waits.
//!
//! On Linux this file uses epoll by itself. `polling` would take five system calls for a wait, and
//! two more file descriptors for each reactor. Here a wait is one system call:
//!
//! * Sources are registered edge-triggered, and with `RDHUP`, which tells a peer's half close apart
//!   from its data (see [`Event::hung_up`]). Room to write is told of only from the first wait for
//!   it on, which takes a second call: on datagram and Unix sockets each message that leaves makes
//!   room, and would be an event that nobody waits for.
//! * The bell is an eventfd that is written and never read: being edge-triggered, each write is
//!   an event of its own.
//! * The alarm is a timer descriptor. It is set only when an earlier deadline comes up, so that
//!   waiting needs no timeout; and the poller's descriptor becomes readable for timers, too.
//!
//! Where a sandbox refuses an eventfd, the bell is a pipe. Where it refuses a timer descriptor,
//! waiting has a timeout, in whole milliseconds, and a host loop has to go by
//! [`Reactor::next_deadline`](crate::Reactor::next_deadline).
//!
//! Elsewhere `polling` does all of it. `--cfg windlass_portable` chooses that on Linux as well.
//!
use std::io;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(windlass_portable)))]
mod epoll;
#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
mod portable;

#[cfg(all(target_os = "linux", not(windlass_portable)))]
pub(crate) use epoll::{Bell, HAS_EXCLUSIVE, Poll};
#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
pub(crate) use portable::{Bell, HAS_EXCLUSIVE, Poll};

/// The name of a source in the poller: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// On 64 bits, half of the word each.
const SLOT_BITS: u32 = usize::BITS / 2;
const MASK: usize = (1 << SLOT_BITS) - 1;
/// The uppermost numbers are taken: `polling` has the last, the bell or the alarm the next two, and
/// the ring of files one.
pub(crate) const MAX_SOURCES: usize = MASK - 3;

impl Key {
    fn to_usize(self) -> usize {
        (self.generation as usize & MASK) << SLOT_BITS | self.slot as usize
    }

    fn from_usize(number: usize) -> Self {
        Key {
            slot: (number & MASK) as u32,
            generation: (number >> SLOT_BITS) as u32,
        }
    }

    /// Equality of what fits into the poller.
    pub(crate) fn names(self, slot: u32, generation: u32) -> bool {
        self.slot == slot && self.generation as usize & MASK == generation as usize & MASK
    }
}

/// What the poller tells of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: Key,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its half, the connection is gone, or there is urgent data, at which a
    /// read stops. An edge comes but once: after this one, a short read is no proof that nothing is
    /// left to read.
    pub(crate) hung_up: bool,
    /// There may be priority news (`POLLPRI`), or an error (`POLLERR`). Then `hung_up` is set, too.
    pub(crate) priority: bool,
    pub(crate) error: bool,
    /// The poller is silent from now on, in both directions, until the source is armed again.
    pub(crate) disarmed: bool,
}
