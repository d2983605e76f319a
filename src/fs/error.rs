//! Errors that say which file.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// An error of the system, and what it is about.
#[derive(Debug)]
struct PathError {
    what: String,
    error: io::Error,
}

/// Says what couldn't be done, and with which file.
pub(super) fn context(what: &str, path: &Path, error: io::Error) -> io::Error {
    say(format!("{what} `{}`", path.display()), error)
}

/// Of two paths.
pub(super) fn context_of_two(what: &str, from: &Path, to: &Path, error: io::Error) -> io::Error {
    say(
        format!("{what} `{}` to `{}`", from.display(), to.display()),
        error,
    )
}

fn say(what: String, error: io::Error) -> io::Error {
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
