//! What the tasks of a thread wait for in this crate.
//!
//! The reactor lists the waits for descriptors, deadlines and turns, and the executor lists the
//! tasks that are joined. Everything else is here.

pub(crate) use crate::waits::*;

use crate::{blocking, fs, waits};

/// Lists the waits of this thread's objects. Waits for pools, file handles and remote tasks are
/// those of all threads, because only their wakers name the thread.
pub(crate) fn list() -> Vec<FacadeWait> {
    let mut all = Vec::new();
    waits::list_objects(&mut all);
    waits::list_remote(&mut all);
    blocking::list_waits(&mut all);
    fs::list_waits(&mut all);
    #[cfg(windows)]
    crate::signal::list_waits(&mut all);
    all
}

/// Lists this thread's task groups.
pub(crate) fn list_groups() -> Vec<FacadeGroup> {
    let mut groups = Vec::new();
    waits::list_groups(&mut groups);
    groups
}

#[cfg(test)]
#[path = "wait_point_tests.rs"]
mod tests;
