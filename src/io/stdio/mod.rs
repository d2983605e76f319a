//! The standard streams of the process.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
#[cfg(windows)]
pub use windows::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
