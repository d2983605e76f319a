//! Errors that name the file.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// An error of the system, with the operation and the path.
#[derive(Debug)]
struct PathError {
    what: String,
    error: io::Error,
}

/// Adds the operation and the path to an error.
pub(super) fn context(what: &str, path: &Path, error: io::Error) -> io::Error {
    with_text(format!("{what} `{}`", path.display()), error)
}

/// Adds the operation and two paths to an error.
pub(super) fn context_of_two(what: &str, from: &Path, to: &Path, error: io::Error) -> io::Error {
    with_text(
        format!("{what} `{}` to `{}`", from.display(), to.display()),
        error,
    )
}

fn with_text(what: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), PathError { what, error })
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}: {}", self.what, self.error)
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
