//! Errors that name the exhausted resource when a worker can't be started.

use std::error::Error;
use std::io::{self, ErrorKind};

/// Adds the exhausted resource and its limits to an error. std reports them as `WouldBlock`, or
/// without a kind.
pub(super) fn explain(error: io::Error) -> io::Error {
    let cause = cause(&error);
    let (kind, what) = match cause.kind() {
        ErrorKind::WouldBlock => (
            ErrorKind::QuotaExceeded,
            "no process or thread is left (`ulimit -u`, TasksMax, pids.max)",
        ),
        ErrorKind::OutOfMemory => (ErrorKind::OutOfMemory, "no memory is left"),
        _ if lacks_descriptors(cause) => (
            ErrorKind::QuotaExceeded,
            "no file descriptor is left (`ulimit -n`, LimitNOFILE)",
        ),
        _ => return error,
    };
    io::Error::new(kind, format!("{what}: {error}"))
}

/// Returns the system's error, which may be wrapped in errors that add context.
fn cause(error: &io::Error) -> &io::Error {
    let mut cause = error;
    let mut source = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    while let Some(inner) = source {
        cause = inner.downcast_ref().unwrap_or(cause);
        source = inner.source();
    }
    cause
}

/// Returns true for an error of [`explain`] that a later attempt may not meet.
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

#[cfg(all(test, unix))]
mod tests {
    use std::fmt;

    use super::*;
    use rustix::io::Errno;

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
    fn a_wrapped_error_names_the_exhausted_resource() {
        for (errno, text) in [
            (Errno::AGAIN, "no process or thread is left"),
            (Errno::MFILE, "no file descriptor is left"),
            (Errno::NOMEM, "no memory is left"),
        ] {
            for error in [errno.into(), io::Error::other(Wrapper(errno.into()))] {
                let explained = explain(error);
                assert!(is_shortage(&explained), "{explained:?}");
                assert!(explained.to_string().starts_with(text), "{explained}");
            }
        }
        let other = explain(Errno::ACCESS.into());
        assert_eq!(other.kind(), ErrorKind::PermissionDenied);
        assert!(!is_shortage(&other));
    }
}
