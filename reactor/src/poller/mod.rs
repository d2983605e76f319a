//! The poller. Registers descriptors with the operating system and waits for their events.
//!
//! | | Linux ([`epoll`]) | elsewhere ([`portable`]) |
//! |---|---|---|
//! | implementation | epoll, called directly | the crate `polling` |
//! | one wait | 1 system call | 2 to 5 system calls |
//! | descriptors per reactor | 3 | as many as `polling` has |
//! | events | edge-triggered | edge-triggered, or one-shot where there are no edges |
//!
//! Both have the same interface. `--cfg windlass_portable` selects the portable poller on Linux, so
//! that it is tested there.

use std::io;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(windlass_portable)))]
mod epoll;
#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
mod portable;

#[cfg(all(target_os = "linux", not(windlass_portable)))]
pub(crate) use epoll::{HAS_EXCLUSIVE, Notifier, Poller, RemotePoller};
#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
pub(crate) use portable::{HAS_EXCLUSIVE, Notifier, Poller, RemotePoller};

/// A readiness that a task can wait for. `repr(u8)` for readers outside of the process.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    Write,
    /// The condition `POLLPRI`.
    #[cfg_attr(windows, allow(dead_code))]
    Priority,
    /// The condition `POLLERR`.
    #[cfg_attr(windows, allow(dead_code))]
    Error,
}

/// Identifies a source in the poller by its slot in the registry and the slot's generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The poller stores a key in one word, half for the slot and half for the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const MASK: usize = (1 << SLOT_BITS) - 1;
/// The slots above are reserved. `polling` and io_uring use one each, the notifier and the timer
/// two.
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

    /// The key of the same source for events after which it is silent until it is armed again, or
    /// back. It has another generation, which is half of all generations away.
    pub(crate) fn once(self) -> Self {
        Key {
            generation: self.generation ^ (1 << (SLOT_BITS - 1)),
            ..self
        }
    }

    /// Compares the part of a generation that the poller can store.
    pub(crate) fn matches(self, slot: u32, generation: u32) -> bool {
        self.slot == slot && self.generation as usize & MASK == generation as usize & MASK
    }
}

/// An event of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: Key,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has shut down its writing half, the connection is gone, or there is urgent data, at
    /// which a read stops. Data that came together with these causes no other edge, so a short read
    /// after this event does not prove that the socket is empty.
    pub(crate) hung_up: bool,
    /// Possible `POLLPRI` and `POLLERR` conditions. Each implies `hung_up`.
    pub(crate) priority: bool,
    pub(crate) error: bool,
    /// The registration is one-shot and silent in both directions until it is re-armed.
    pub(crate) disarmed: bool,
}
