//! windlass as a guest in other event loops, and as a host for other libraries.
//!
//! Each file is a recipe of some fifty lines that embeds a [`Runtime`] in one kind of loop. One
//! test suite, `tests/conformance.rs`, checks all of them, and prints the properties of each.
//! [`curl`] is the reverse case, where windlass runs the loop and a C library is the guest.
//!
//! ```sh
//! xvfb-run -a -s '-noreset' cargo test -p windlass-guests
//! ```

// Closures and foreign loops don't implement Debug.
#![allow(missing_debug_implementations)]

pub mod epoll;
pub mod calloop;
pub mod glib;
pub mod winit;
pub mod watcher;
pub mod tokio;
pub mod frames;
pub mod curl;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use windlass::{Runtime, Turn};

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

/// The constructor of a host.
pub type Make = fn() -> anyhow::Result<Rc<dyn Host>>;

/// The hosts by their names.
pub const HOSTS: &[(&str, Make)] = &[
    ("epoll", || Ok(Rc::new(epoll::Epoll::new()?))),
    ("calloop", || Ok(Rc::new(calloop::Calloop::new()?))),
    ("glib", || Ok(Rc::new(glib::Glib::new()?))),
    ("winit, hook", || Ok(Rc::new(winit::Winit::hooked()?))),
    ("winit, watcher", || Ok(Rc::new(winit::Winit::watched()?))),
    ("tokio", || Ok(Rc::new(tokio::Tokio::new()?))),
    ("frames", || Ok(Rc::new(frames::Frames::new()?))),
];

/// The runtime as the recipes use it, with counters for the test suite.
#[derive(Debug)]
pub struct Guest {
    runtime: Runtime,
    turns: Cell<usize>,
    passes: Cell<usize>,
}

impl Guest {
    /// Makes the runtime a guest.
    pub fn new(runtime: Runtime) -> Guest {
        Guest {
            runtime,
            turns: Cell::new(0),
            passes: Cell::new(0),
        }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Takes one turn, which never blocks. The host calls this when the descriptor is readable or
    /// the deadline has passed.
    pub fn turn(&self) -> io::Result<Turn> {
        self.turns.set(self.turns.get() + 1);
        self.runtime.turn(Some(Duration::ZERO))
    }

    /// The same for a host with a time slice per frame.
    pub fn turn_for(&self, budget: Duration) -> io::Result<Turn> {
        self.turns.set(self.turns.get() + 1);
        self.runtime.turn_for(budget)
    }

    /// Counts an iteration of the host's loop.
    pub fn pass(&self) {
        self.passes.set(self.passes.get() + 1);
    }

    /// The number of turns.
    pub fn turns(&self) -> usize {
        self.turns.get()
    }

    /// The number of iterations of the host's loop.
    pub fn passes(&self) -> usize {
        self.passes.get()
    }
}

/// Readable when the host should call [`Guest::turn`].
impl AsFd for Guest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.runtime.as_fd()
    }
}

impl AsRawFd for Guest {
    fn as_raw_fd(&self) -> RawFd {
        self.runtime.as_raw_fd()
    }
}
