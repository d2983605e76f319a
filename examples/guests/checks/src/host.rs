//! A loop that embeds a runtime.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::Guest;

/// A loop that embeds a runtime as its guest.
pub trait Host {
    /// The guest.
    fn guest(&self) -> &Guest;

    /// Runs the loop until one of its events, or the guest in one of its turns, has set `done`. It
    /// can be run again. Nested runs may return an error.
    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()>;

    /// Calls the closure from the loop, as an event of the host. Must be called on the host's
    /// thread.
    fn defer(&self, event: Box<dyn FnOnce()>);

    /// The interval of a loop that doesn't wait for events.
    fn frame(&self) -> Option<Duration> {
        None
    }

    /// Returns true if the guest's sockets can wake the host.
    fn serves_sockets(&self) -> bool {
        true
    }
}
