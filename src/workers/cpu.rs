//! Pinning a worker to a core.

use std::io;

/// Pins this thread to one of its permitted cores. Worker 0 gets the first one, and so on, modulo
/// their number.
#[cfg(target_os = "linux")]
pub(super) fn pin(worker: usize) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let count = allowed.count() as usize;
    let core = cores
        .nth(worker % count.max(1))
        .ok_or(io::ErrorKind::NotFound)?;
    let mut one = CpuSet::new();
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin(_: usize) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "workers can be pinned to cores on Linux only",
    ))
}
