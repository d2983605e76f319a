//! Errors that name the resource that ran out.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

/// The limit of threads and processes.
macro_rules! start_limit {
    ($what:literal) => {
        concat!(
            $what,
            "no process or thread is left (`ulimit -u`, TasksMax, pids.max)"
        )
    };
}

/// The error of a thread that the system refuses to start.
#[cold]
pub fn cannot_start_thread(error: io::Error) -> io::Error {
    cannot_start(start_limit!("cannot start a thread: "), error)
}

/// The error of a process that the system refuses to start.
#[cold]
pub fn cannot_start_process(error: io::Error) -> io::Error {
    cannot_start(start_limit!("cannot start a process: "), error)
}

/// At the limit of threads and processes the system's error is `EAGAIN`, which std maps to
/// `WouldBlock`. An awaited operation must not return that kind, because its caller would take it
/// for readiness and try again at once. All other errors stay as they are.
fn cannot_start(what: &'static str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::QuotaExceeded, Shortage { what, error }),
        _ => error,
    }
}

/// Adds the exhausted resource and its limits to the error of a thread, a process or a file
/// descriptor that can't be created. Other errors stay as they are.
///
/// The kind is `QuotaExceeded`, or `OutOfMemory`. The sources of the error end with the system's.
pub fn explain(error: io::Error) -> io::Error {
    if sources(&error).any(|source| source.is::<Shortage>()) {
        return error;
    }
    let system = sources(&error).filter_map(|source| source.downcast_ref());
    let system: &io::Error = system.last().unwrap_or(&error);
    let (kind, what) = match system.kind() {
        ErrorKind::WouldBlock => (ErrorKind::QuotaExceeded, start_limit!("")),
        ErrorKind::OutOfMemory => (ErrorKind::OutOfMemory, "no memory is left"),
        _ if lacks_descriptors(system) => (
            ErrorKind::QuotaExceeded,
            "no file descriptor is left (`ulimit -n`, LimitNOFILE)",
        ),
        _ => return error,
    };
    io::Error::new(kind, Shortage { what, error })
}

/// Returns true for an error of [`explain`] that a later attempt may not meet.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory
    )
}

/// The errors inside an error, which add context to the last one.
fn sources(error: &io::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    std::iter::successors(first, |&source| source.source())
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

#[derive(Debug)]
struct Shortage {
    what: &'static str,
    error: io::Error,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl Error for Shortage {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[derive(Debug)]
    struct Wrapper(io::Error);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "wrapped: {}", self.0)
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_shortage_names_the_exhausted_resource_once() {
        for (errno, text) in [
            (Errno::AGAIN, "no process or thread is left"),
            (Errno::MFILE, "no file descriptor is left"),
            (Errno::NOMEM, "no memory is left"),
        ] {
            for error in [errno.into(), io::Error::other(Wrapper(errno.into()))] {
                let explained = explain(explain(error));
                assert!(is_shortage(&explained), "{explained:?}");
                let message = explained.to_string();
                assert!(message.starts_with(text), "{message}");
                assert_eq!(message.matches(text).count(), 1, "{message}");
            }
        }
        let other = explain(Errno::ACCESS.into());
        assert_eq!(other.kind(), ErrorKind::PermissionDenied);
        assert!(!is_shortage(&other));
    }

    #[test]
    fn running_out_of_threads_is_not_would_block() {
        let error = cannot_start_thread(Errno::AGAIN.into());
        let message = error.to_string();
        assert!(
            message.starts_with("cannot start a thread: no process or thread"),
            "{message}"
        );
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        let system = sources(&error).last().unwrap();
        let system = system.downcast_ref::<io::Error>().unwrap();
        assert_eq!(system.kind(), ErrorKind::WouldBlock);
        // Another error stays as it is.
        let error = cannot_start_thread(Errno::MFILE.into());
        assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    }
}
