//! Files that are always ready, and have events for conditions only.

use rustix::fd::BorrowedFd;
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::fs::{self, FileType, Stat};

use crate::entry::{LocalEntry, REPORTED};
use crate::poller::Interest;

/// Records that an always ready file was reported as readable, after the event of this tick. The
/// next report is for the next event.
pub(crate) fn set_reported(entry: LocalEntry<'_>, tick: u32) {
    entry.readiness(Interest::Read).clear_ready(tick);
    if tick == 0 {
        entry.set(REPORTED);
    }
}

/// Ignores the first event of an always ready file if it was reported before, because the event may
/// come from the registration. Returns true if it did.
pub(crate) fn skip_registration_event(entry: LocalEntry<'_>) -> bool {
    let read = entry.readiness(Interest::Read);
    let skips = entry.has(REPORTED) && read.tick() == 1;
    if skips {
        entry.clear(REPORTED);
        read.clear_ready(1);
    }
    skips
}

/// The poller accepts a regular file only if the file system generates its content, as `/proc` and
/// `/sys` do. If such a file cannot seek, it is a stream that may be empty, for example
/// `trace_pipe`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_system_file(fd: BorrowedFd<'_>) -> bool {
    let is_regular = |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_file();
    fs::fstat(fd).is_ok_and(is_regular) && fs::tell(fd).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_system_file(_: BorrowedFd<'_>) -> bool {
    false
}
