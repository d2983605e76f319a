//! What the futures of a reactor wait for.

use std::task::RawWakerVTable;
use std::time::Instant;

use rustix::fd::RawFd;

use crate::clock::MonotonicNanos;
use crate::inner::ReactorInner;
use crate::net::for_each_lookup;
use crate::poller::Interest;
use crate::waiters::identity_parts;

/// A wait in the list of [`Reactor::list_waits`](crate::Reactor::list_waits).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wait {
    /// The data of the waker that the event calls, which identifies its task together with
    /// `vtable`.
    pub data: *const (),
    /// The functions of that waker.
    pub vtable: &'static RawWakerVTable,
    /// The event.
    pub event: WaitEvent,
}

/// An event that a future of a reactor waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WaitEvent {
    /// The descriptor is readable.
    Readable(RawFd),
    /// The descriptor is writable.
    Writable(RawFd),
    /// The descriptor has urgent data, or another priority condition.
    Priority(RawFd),
    /// The descriptor has an error.
    Error(RawFd),
    /// The time is reached. `None` never is.
    Deadline(Option<Instant>),
    /// The lookup of a host name.
    Lookup,
    /// The next turn, because the task has used up its budget.
    NextTurn,
}

impl ReactorInner {
    pub(crate) fn list_waits(&self) -> Vec<Wait> {
        let mut waits = Vec::new();
        self.registry()
            .borrow()
            .for_each_waiter(|fd, interest, waker| {
                let event = match interest {
                    Interest::Read => WaitEvent::Readable(fd),
                    Interest::Write => WaitEvent::Writable(fd),
                    Interest::Priority => WaitEvent::Priority(fd),
                    Interest::Error => WaitEvent::Error(fd),
                };
                waits.push((identity_parts(waker), event));
            });
        self.for_each_timer(|deadline, waker| {
            let deadline = MonotonicNanos::from_u64(deadline).instant();
            waits.push((identity_parts(waker), WaitEvent::Deadline(deadline)));
        });
        for waker in self.park().deferred().borrow().iter() {
            waits.push((identity_parts(waker), WaitEvent::NextTurn));
        }
        for_each_lookup(|waker| waits.push((identity_parts(waker), WaitEvent::Lookup)));
        let waits = waits.into_iter();
        waits
            .map(|((data, vtable), event)| Wait {
                data,
                vtable,
                event,
            })
            .collect()
    }
}
