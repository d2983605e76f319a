//! The runtime as the recipes use it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use windlass::{Runtime, Turn};

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
