//! Errors that name the resource that ran out.

use std::fmt;
use std::io::{self, ErrorKind};

/// The error of a thread that the system refuses to start.
#[cold]
pub(crate) fn cannot_start_thread(error: io::Error) -> io::Error {
    cannot_start("a thread", error)
}

/// The error of a process that the system refuses to start.
#[cold]
pub(crate) fn cannot_start_process(error: io::Error) -> io::Error {
    cannot_start("a process", error)
}

/// At the limit of threads and processes the system's error is `EAGAIN`, which std maps to
/// `WouldBlock`. An awaited operation must not return that kind: its caller would take it for
/// readiness and try again at once. All other errors stay as they are.
fn cannot_start(what: &'static str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::other(CannotStart { what, error }),
        _ => error,
    }
}

#[derive(Debug)]
struct CannotStart {
    what: &'static str,
    error: io::Error,
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CannotStart { what, error } = self;
        write!(
            f,
            "cannot start {what}: {error}: the limit of threads and processes is reached, which \
             `ulimit -u` or the control group (`pids.max`) sets"
        )
    }
}

impl std::error::Error for CannotStart {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn running_out_of_threads_is_not_would_block() {
        let error = cannot_start_thread(ErrorKind::WouldBlock.into());
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().starts_with("cannot start a thread: "));
        let source = error.get_ref().and_then(Error::source).unwrap();
        let source = source.downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), ErrorKind::WouldBlock);
        // Another error keeps its kind.
        let error = cannot_start_process(ErrorKind::NotFound.into());
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
