//! Files and folders, off the loop.
//!
//! On Linux, files are read and written at offsets by io_uring: what is asked for between two turns
//! is handed to the kernel in one system call, and its answers are messages like those of sockets.
//! Elsewhere, and where there is no io_uring (before Linux 5.11, or forbidden, as in many
//! containers), threads do it, 64 at most, which end when they have had nothing to do for ten
//! seconds. Which of the two it is, a thread finds out at its first file; they do the same. What
//! io_uring can't do, threads do in either case: metadata, folders, names, [`copy`], and what moves
//! the position of a file, which other processes may share.
//!
//! Data that the system has in memory is copied at once, in the loop's turn: up to 1 MiB in each by
//! io_uring, and as much at the position of files, so that timers and sockets are not late. What
//! isn't there is waited for by the kernel, which may have threads of its own for that.
//!
//! A relative path is resolved from the directory that is the current one when the future is first
//! polled.
//!
//! # Pipes and devices
//!
//! Pipes and terminals that are opened by name are for [`Async`](crate::Async). Here they behave as
//! with std: an open waits for its peer, an operation at an offset of a pipe is an error
//! (`ESPIPE`), and with `O_NONBLOCK` nothing waits. What waits for a peer has a thread of its own,
//! without a limit, or one of 1,024 places of the thread's ring, and holds up no other file until
//! those are taken. To drop it gives a place back. A thread stays until the peer comes: so a
//! dropped open of a pipe may still be the peer of another process.
//!
//! Outside of a runtime, where nothing turns, the threads do it, under any executor.
//!
//! # Errors
//!
//! Functions that are given a path say it in their error, and what they tried, which std doesn't:
//! "can't read `rope`: No such file or directory (os error 2)". The `kind` is that of the system's
//! error, which is the [`source`](std::error::Error::source).
//!
//! # The end of the program
//!
//! The end of the outermost `block_on` waits for writes, closes and dropped operations, as long as
//! one of them ends each second. What is left after that goes on without the loop, and is lost when
//! `main` returns.
//!
//! With io_uring, a file system that hangs holds up the end of the thread itself. The kernel waits
//! there for operations that its workers perform, and no call cancels those: after `fsfreeze`, a
//! thread with a write in flight ended at the thaw. Where that matters,
//! [`use_io_uring(false)`](use_io_uring) leaves files to threads that nothing waits for.
//!
//! # Examples
//!
//! ```
//! use windlass::{block_on, fs};
//!
//! let error = block_on(fs::read("no/such/rope")).unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
//! assert!(error.to_string().starts_with("can't read `no/such/rope`: "));
//!
//! let manifest = block_on(fs::read_to_string("Cargo.toml"))?;
//! assert!(manifest.contains("[package]"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod file;
mod at_cursor;
mod line;
mod cached;
mod open;
mod open_options;
mod whole;
mod names;
mod read_dir;
mod error;
mod operation;
mod platform;
mod background;
mod files;

// One of the two: whether there's an io_uring at all.
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        ),
        not(windlass_portable)
    )),
    path = "no_ring.rs"
)]
mod ring;

pub use file::File;
#[cfg(unix)]
pub use names::symlink;
pub use names::{
    canonicalize, create_dir, create_dir_all, hard_link, metadata, read_link, remove_dir,
    remove_dir_all, remove_file, rename, set_permissions, symlink_metadata, try_exists,
};
pub use open_options::OpenOptions;
pub use read_dir::{DirEntry, ReadDir, read_dir};
pub use whole::{copy, read, read_to_string, write};

use std::panic::{RefUnwindSafe, UnwindSafe};

use files::Files;

// No code of the user runs while a table is borrowed or a value is half changed, so a panic that
// was caught leaves them consistent.
impl UnwindSafe for File {}
impl RefUnwindSafe for File {}
impl UnwindSafe for ReadDir {}
impl RefUnwindSafe for ReadDir {}

/// Chooses whether files of this thread use io_uring, before the first of them. Returns whether the
/// choice holds.
///
/// Without a call, files use io_uring where there is one. With `false`, threads of a pool do all
/// work on files. Then an operation on a file system that hangs does not hold up the
/// [end of this thread](self#the-end-of-the-program). The price is a thread per operation in
/// flight, and two switches between threads per operation.
///
/// # Errors
///
/// If this thread has no reactor, and none can be made.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// let by_threads = std::thread::spawn(|| {
///     assert!(fs::use_io_uring(false)?);
///     block_on(fs::read_to_string("Cargo.toml"))
/// });
/// assert!(by_threads.join().unwrap()?.contains("[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn use_io_uring(wanted: bool) -> std::io::Result<bool> {
    let files = Files::here(wanted)?;
    Ok(files.ring().is_some() == wanted)
}
