//! Files and directories, off the loop.
//!
//! On Linux, cached data is read, cached paths are opened and metadata in memory is read at once,
//! in the first poll. Other reads and writes at offsets go through io_uring. One system call
//! submits all operations of a turn, and a completion is an event, as for a socket. On other
//! systems, and where io_uring is missing (before Linux 5.11) or forbidden (as in many containers),
//! a pool of up to 64 threads performs the operations. Its threads exit after ten idle seconds.
//! Each thread of the program chooses between io_uring and the pool at its first file, and both
//! behave the same. The pool also performs the operations that io_uring lacks or hands to threads
//! itself, which are other metadata, directories, names and [`copy`]. It performs operations that
//! move the position of a file, too, because other processes may share the position and io_uring
//! does not lock it.
//!
//! A turn copies up to 1 MiB of cached data for reads that complete at once, up to 1 MiB by
//! io_uring, and as much again at the position of files. This bounds the delay of timers and
//! sockets. Beyond that, reads of cached data wait for the next turn, first come, first served.
//!
//! [`Root`] opens paths from untrusted clients. [`io::send_file`](crate::io::send_file) sends a
//! file to a socket.
//!
//! A relative path is resolved against the current directory when the future is first polled.
//!
//! # Pipes and devices
//!
//! Use [`Async`](crate::Async) for pipes and terminals that are opened by name. Here they behave as
//! in std. An open waits for its peer, an operation at an offset of a pipe fails with `ESPIPE`, and
//! with `O_NONBLOCK` nothing waits. An operation that waits for a peer takes a thread of its own,
//! from an unlimited number, or one of 1,024 slots of the thread's ring. It delays other files only
//! once all slots are taken. Dropping its future releases a slot. A thread stays until the peer
//! comes, so a dropped open of a pipe may still become the peer of another process.
//!
//! Without a running reactor, threads perform all operations, under any executor.
//!
//! # Errors
//!
//! Functions that take a path name the path and the operation in their errors: "can't read `rope`:
//! No such file or directory (os error 2)". The error has the `kind` of the system's error, which
//! is its [`source`](std::error::Error::source).
//!
//! # The end of the program
//!
//! The end of the outermost `block_on` waits for writes, closes and dropped operations, as long as
//! one of them completes each second. The rest continue without the loop, and are lost when `main`
//! returns.
//!
//! With io_uring, a file system that hangs delays the end of the thread itself. The kernel waits
//! there for operations of its own workers, and no call cancels them. After `fsfreeze`, a thread
//! with a write in flight ended only when the file system was thawed. Where that matters,
//! [`use_io_uring(false)`](use_io_uring) leaves files to the pool. Then a thread can end while
//! threads of the pool still wait.
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
mod order;
mod cached;
mod open;
mod open_options;
mod root;
mod whole;
mod cached_read;
#[cfg(target_os = "linux")]
mod cached_queue;
mod exact;
#[cfg(target_os = "linux")]
pub(crate) mod send;
mod duplicate;
mod times;
mod names;
mod dir_builder;
mod read_dir;
mod error;
mod operation;
mod handle;
mod position;
mod absolute;
mod metadata;
mod system;
mod platform;
mod background;
mod ring_waits;
mod files;
pub(crate) mod layout;

// Whether the platform has io_uring. Cargo.toml has the same list.
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

// Operations of a simulated host.
#[cfg_attr(
    not(all(feature = "sim", target_os = "linux", not(windlass_portable))),
    path = "no_simulation.rs"
)]
pub(crate) mod simulation;

pub use dir_builder::DirBuilder;
pub use file::File;
pub use metadata::{FileType, Metadata};
pub use names::{
    canonicalize, create_dir, create_dir_all, hard_link, metadata, read_link, remove_dir,
    remove_dir_all, remove_file, rename, set_permissions, symlink_metadata, try_exists,
};
#[cfg(unix)]
pub use names::{chown, lchown, symlink};
pub use open_options::OpenOptions;
pub use read_dir::{DirEntry, ReadDir, read_dir};
pub use root::Root;
pub use std::fs::{FileTimes, Permissions};
pub use whole::{copy, read, read_to_string, write};

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::waits::FacadeWait;
use files::Files;

/// Lists the waits for the order of operations, of all threads, and for operations of a simulated
/// host. The ring and the pool list the others.
pub(crate) fn list_waits(waits: &mut Vec<FacadeWait>) {
    order::list_waits(waits);
    simulation::list_waits(waits);
}

// User code runs only outside of borrows and between complete changes, so all values are consistent
// after a panic was caught.
impl UnwindSafe for File {}
impl RefUnwindSafe for File {}
impl UnwindSafe for ReadDir {}
impl RefUnwindSafe for ReadDir {}

/// Chooses whether files of this thread use io_uring. Call it before the first use of a file.
///
/// Returns whether the choice took effect. By default, files use io_uring where it is available.
/// With `false`, the pool performs all operations that may wait. Then a file system that hangs
/// can't delay the [end of this thread](self#the-end-of-the-program). The price is a thread per
/// operation in flight, and two context switches per operation.
///
/// # Errors
///
/// Returns an error if this thread has no reactor and none can be created.
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
    if simulation::is_simulated() {
        return Ok(!wanted);
    }
    let files = Files::get_or_register(wanted)?;
    Ok(files.ring().is_some() == wanted)
}
