//! Pipes within this process and to child processes.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;

#[cfg(unix)]
pub(crate) use unix::ends;
#[cfg(unix)]
pub use unix::{PipeReader, PipeWriter, pipe};
#[cfg(windows)]
pub use windows::{PipeReader, PipeWriter};

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "this end of the pipe was closed")
}
