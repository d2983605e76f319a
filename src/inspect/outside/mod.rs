//! Runtimes, tasks and waits, read from the memory of a process or of a core file.
//!
//! No code runs in that process, so this works while it is stuck. The program `windlass-ps` prints
//! a [`Snapshot`].

mod view;

pub use view::{FdView, RuntimeView, StateView, TaskNumber, TaskView, TimerView, WaitView};
pub use windlass_reactor::LoopState;

use std::io;
use std::path::Path;

/// The runtimes of a process at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The runtimes, in the order of their creation.
    pub runtimes: Vec<RuntimeView>,
    /// The process continued during all attempts to read it, so parts may belong to successive
    /// moments.
    pub is_torn: bool,
}

impl Snapshot {
    /// Reads this process. Threads that run meanwhile are not disturbed.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to read the memory.
    pub fn of_self() -> io::Result<Snapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads another process.
    ///
    /// # Errors
    ///
    /// Fails if there is no such process, if the system refuses to read its memory, or if it has
    /// no runtime. The message names the remedy.
    pub fn of_process(_pid: i32) -> io::Result<Snapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads a core file. It usually lacks the constants of the program, which are then read from
    /// the program's file.
    ///
    /// # Errors
    ///
    /// Fails if it is not a core file of this machine's kind, or if it has no runtime.
    pub fn of_core(_path: &Path) -> io::Result<Snapshot> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
