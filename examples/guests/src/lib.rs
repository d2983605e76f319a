//! windlass as a guest in other loops, and as a host of others.
//!
//! Each file is a recipe of some fifty lines: how a loop of that kind takes in a
//! [`Runtime`]. All of them are held by one suite, `tests/conformance.rs`, which prints what each
//! can do. [`curl`] is the reverse: there windlass has the loop, and a C library is the guest.
//!
//! ```sh
//! xvfb-run -a -s '-noreset' cargo test -p windlass-guests
//! ```

// Closures and foreign loops can't be printed.
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

/// A loop that has a runtime as its guest.
pub trait Host {
    /// The guest.
    fn guest(&self) -> &Guest;

    /// Runs the loop until one of its events, or the guest in one of its turns, has set `done`. It
    /// may be run again. From inside of itself it may be refused, with an error.
    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()>;

    /// Calls the closure from the loop, as an event of the host's own. For the host's thread.
    fn defer(&self, event: Box<dyn FnOnce()>);

    /// If the loop doesn't wait for events: how often it goes round.
    fn frame(&self) -> Option<Duration> {
        None
    }

    /// Whether anything waits for the sockets of the guest while its host sleeps.
    fn serves_sockets(&self) -> bool {
        true
    }
}

/// How a host is made.
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

/// The runtime as the recipes use it, with counts for the suite.
#[derive(Debug)]
pub struct Guest {
    runtime: Runtime,
    turns: Cell<usize>,
    passes: Cell<usize>,
}

impl Guest {
    /// The runtime becomes a guest.
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

    /// What a host does when the descriptor is readable, or the deadline has come: one turn, which
    /// never waits.
    pub fn turn(&self) -> io::Result<Turn> {
        self.turns.set(self.turns.get() + 1);
        self.runtime.turn(Some(Duration::ZERO))
    }

    /// The same for a host that spends a part of each frame on it.
    pub fn turn_for(&self, budget: Duration) -> io::Result<Turn> {
        self.turns.set(self.turns.get() + 1);
        self.runtime.turn_for(budget)
    }

    /// The host's loop goes round.
    pub fn pass(&self) {
        self.passes.set(self.passes.get() + 1);
    }

    /// How many turns there were.
    pub fn turns(&self) -> usize {
        self.turns.get()
    }

    /// How often the host's loop went round.
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
