//! Runtimes, tasks and waits, read from the memory of a process or of a core file.
//!
//! No code runs in that process, so this works while it is stuck. It requires neither symbols nor
//! debug info. The program `windlass-ps` prints a [`Snapshot`]. Both need the feature
//! `inspect-outside`, which is on by default.
//!
//! A process that runs meanwhile may change what was read. So each value is checked, and a snapshot
//! that the process has changed is read again, some times.

mod core_file;
mod memory;
mod objects;
mod process;
mod program;
mod runtime;
mod shared;
mod tasks;
mod view;
mod waits;
#[cfg(test)]
mod tests;

pub use view::{
    FdView, PlacesView, RuntimeView, StateView, TaskNumber, TaskView, TimerView, WaitView,
};
pub use windlass_reactor::LoopState;

use std::io;
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use core_file::CoreFile;
use memory::{Memory, Reader};
use process::Process;
use program::{Program, Roots, records};
use runtime::Surroundings;

use crate::inspect::root::ROOT;

/// How often a process is read that changes meanwhile, and for how long at most. The last attempt
/// may take longer.
const ATTEMPTS: usize = 8;
const PATIENCE: Duration = Duration::from_millis(500);

/// The runtimes of a process at one moment. A task that starts or ends at that moment may be listed
/// with a wrong place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The runtimes, in the order of their creation.
    pub runtimes: Vec<RuntimeView>,
    /// The process continued during each attempt to read it, so parts may belong to successive
    /// moments.
    pub is_torn: bool,
    /// The files that a core file lacks and names, but that are missing or have changed since.
    pub missing_files: Vec<String>,
}

impl Snapshot {
    /// Reads this process, from any thread. It works while all loops are stuck.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to read the memory.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use windlass::inspect::outside::{Snapshot, WaitView};
    ///
    /// windlass::block_on(async {
    ///     let day = std::time::Duration::from_secs(86_400);
    ///     let _sleeper = windlass::spawn(windlass::time::sleep(day)).named("sleeper");
    ///     windlass::yield_now().await;
    ///
    ///     let snapshot = Snapshot::of_self()?;
    ///     let mut tasks = snapshot.runtimes.iter().flat_map(|runtime| &runtime.tasks);
    ///     let task = tasks.find(|task| task.name.as_deref() == Some("sleeper")).unwrap();
    ///     assert!(matches!(task.waits[..], [WaitView::Timer(_)]));
    ///     Ok::<(), std::io::Error>(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn of_self() -> io::Result<Snapshot> {
        let process = Process::open(None)?;
        let root = ptr::from_ref(&ROOT).expose_provenance() as u64;
        Snapshot::read(&process, &process, &[root])
    }

    /// Reads another process.
    ///
    /// # Errors
    ///
    /// Fails if there is no such process, if the system refuses to read its memory, or if it is not
    /// a program with this version of windlass. The message names the remedy.
    pub fn of_process(pid: i32) -> io::Result<Snapshot> {
        let process = Process::open(Some(pid))?;
        let roots = Roots::find(&process, &process.writable_data()?);
        Snapshot::read(&process, &process, &roots.require()?)
    }

    /// Reads a core file. It usually lacks the constants of the program, which are then read from
    /// the program's file. A core file has its path, unless `program` replaces it.
    ///
    /// # Errors
    ///
    /// Fails if it is not a core file of this machine's kind, or not of a program with this version
    /// of windlass.
    pub fn of_core(path: &Path, program: Option<&Path>) -> io::Result<Snapshot> {
        let core = CoreFile::open(path, program)?;
        let roots = Roots::find(&core, &core.writable_data());
        let mut snapshot = Snapshot::read(&core, &core, &roots.require()?)?;
        snapshot.missing_files = core.missing_files;
        Ok(snapshot)
    }

    fn read(memory: &dyn Memory, around: &dyn Surroundings, roots: &[u64]) -> io::Result<Snapshot> {
        let (start, mut attempts) = (Instant::now(), 0);
        loop {
            let snapshot = Snapshot::try_read(memory, around, roots);
            attempts += 1;
            if !snapshot.is_torn || attempts == ATTEMPTS || start.elapsed() > PATIENCE {
                return Ok(snapshot);
            }
        }
    }

    fn try_read(memory: &dyn Memory, around: &dyn Surroundings, roots: &[u64]) -> Snapshot {
        let mut snapshot = Snapshot {
            runtimes: Vec::new(),
            is_torn: false,
            missing_files: Vec::new(),
        };
        for &root in roots {
            let reader = Reader::new(memory);
            let Some(program) = Program::at_root(&reader, root) else {
                continue; // the program has not created a runtime
            };
            let shared = shared::read(&program);
            for record in records(&reader, root).unwrap_or_default() {
                let Some(read) = runtime::read(&program, &record, &shared, around) else {
                    continue;
                };
                reader.forget_pages();
                let progress = runtime::read_progress(&program, &record);
                snapshot.is_torn |= progress != Some(read.progress);
                snapshot.runtimes.push(read.view);
            }
        }
        snapshot
    }
}
