//! What ran out when a worker could not be started.

use std::io::{self, ErrorKind};

/// Names the limit. std reports it as `WouldBlock`, or without a kind.
pub(super) fn explain(error: io::Error) -> io::Error {
    let (kind, what) = match error.kind() {
        ErrorKind::WouldBlock => (
            ErrorKind::QuotaExceeded,
            "no process or thread is left (`ulimit -u`, TasksMax, pids.max)",
        ),
        ErrorKind::OutOfMemory => (ErrorKind::OutOfMemory, "no memory is left"),
        _ if lacks_descriptors(&error) => (
            ErrorKind::QuotaExceeded,
            "no file descriptor is left (`ulimit -n`, LimitNOFILE)",
        ),
        _ => return error,
    };
    io::Error::new(kind, format!("{what}: {error}"))
}

/// Whether an error of [`explain`] is about something that may be there again later.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory
    )
}

#[cfg(unix)]
fn lacks_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS))
}

#[cfg(not(unix))]
fn lacks_descriptors(_: &io::Error) -> bool {
    false
}
