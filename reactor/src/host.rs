//! A host of a simulated world: a reactor on a [`System`].

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use crate::clock::MonotonicNanos;
use crate::current::{Kept, replace_reactor};
use crate::entered::{START, replace_system};
use crate::system::System;

pub use crate::entered::{is_simulated, placeholder};

/// Converts an instant that a host has read from its clock to the time of its [`System`] (ns).
pub fn nanos(at: Instant) -> u64 {
    MonotonicNanos::from(at).as_u64().saturating_sub(START)
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
        Host {
            system,
            reactor: Cell::new(None),
        }
    }

    /// Makes the reactor of the host that of the thread, until the guard is dropped.
    pub fn enter(&self) -> Entered<'_> {
        let system = replace_system(Some(self.system.clone()));
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
            replace_system(system);
        }
    }
}

impl fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}
