//! A host of a simulated world: a reactor on a [`System`].

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use crate::clock::{self, MonotonicNanos};
use crate::current::{Kept, replace_reactor};
use crate::system::System;

thread_local! {
    /// The system of the entered host.
    static SYSTEM: RefCell<Option<Rc<dyn System>>> = const { RefCell::new(None) };
}

/// Returns the system of the entered host.
pub(crate) fn current() -> Option<Rc<dyn System>> {
    let system = SYSTEM.try_with(|system| system.borrow().clone());
    system.ok().flatten()
}

/// Returns whether a host is entered on this thread.
pub fn is_simulated() -> bool {
    let is_present = SYSTEM.try_with(|system| system.borrow().is_some());
    is_present.unwrap_or(false)
}

/// Where the time of a world starts, on the clock of timers (ns). It is the same in each process,
/// because timers are sorted by parts of this number.
const START: u64 = 1 << 50;

/// The time on the entered host.
pub(crate) fn now() -> Option<MonotonicNanos> {
    let now = SYSTEM.try_with(|system| Some(system.borrow().as_ref()?.now()));
    let now = now.ok().flatten()?;
    Some(MonotonicNanos::from_u64(START.saturating_add(now)))
}

/// Converts a time of a world (ns) to the instant that its hosts read from the clock at that time.
/// Returns `None` beyond the range of `Instant`.
pub fn instant(now: u64) -> Option<Instant> {
    MonotonicNanos::from_u64(START.saturating_add(now)).instant()
}

/// Converts an instant to the time of a world (ns).
pub fn nanos(at: Instant) -> u64 {
    MonotonicNanos::from(at).as_u64().saturating_sub(START)
}

thread_local! {
    /// Placeholders are duplicates of this descriptor.
    static PLACEHOLDER: RefCell<Option<OwnedFd>> = const { RefCell::new(None) };
}

/// Creates the descriptor of a simulated socket. Reads, writes and socket calls fail on it with
/// `EBADF`.
///
/// # Errors
///
/// Fails if the process has too many descriptors.
pub fn placeholder() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    PLACEHOLDER.with(|first| {
        let mut first = first.borrow_mut();
        if let Some(first) = &*first {
            return first.try_clone();
        }
        let new = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        first.insert(new).try_clone()
    })
}

/// A reactor on a [`System`].
pub struct Host {
    system: Rc<dyn System>,
    /// The reactor, while the host is not entered.
    reactor: Cell<Option<Kept>>,
}

impl Host {
    /// Creates a host without a reactor. The first use of the reactor creates it.
    pub fn new(system: Rc<dyn System>) -> Host {
        clock::substitute();
        Host {
            system,
            reactor: Cell::new(None),
        }
    }

    /// Makes the reactor of the host that of the thread, until the guard is dropped.
    ///
    /// # Panics
    ///
    /// Panics if the thread is ending.
    pub fn enter(&self) -> Entered<'_> {
        let system = SYSTEM.with(|system| system.replace(Some(self.system.clone())));
        let reactor = replace_reactor(self.reactor.take());
        Entered {
            host: self,
            outer: Some((system, reactor)),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The reactor of the thread is that of a host until this is dropped.
#[must_use = "dropping the guard leaves the host"]
pub struct Entered<'a> {
    host: &'a Host,
    /// What the guard restores.
    outer: Option<Outer>,
}

/// The system and the reactor of the thread.
type Outer = (Option<Rc<dyn System>>, Option<Kept>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some((system, reactor)) = self.outer.take() {
            self.host.reactor.set(replace_reactor(reactor));
            let _ = SYSTEM.try_with(|current| current.replace(system));
        }
    }
}

impl fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}
