//! Opens files. A cached path is opened at once. The ring opens other paths, and a thread opens
//! paths that may wait for a peer.
//!
//! io_uring opens with `O_NONBLOCK` at first, which changes the behavior of pipes and devices, and
//! it has few threads. So the ring opens only paths that are known to lead to a file or directory,
//! or to be missing.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::OpenOptions;
use super::absolute::from_here;
use super::cached::{self, Known};
use super::handle::Handle;
use super::operation::{OnPool, Opening, Operation, has_ring, on_pool_with_paths, start};
use super::platform;
use super::simulation;

/// The result of an attempt to open a cached path.
pub(super) enum Found {
    Opened(Handle),
    Uncached {
        /// The path, which is absolute.
        path: PathBuf,
        /// Whether the path leads to a file or directory, or is missing.
        is_regular: bool,
    },
}

/// Opens a cached path at once.
pub(super) async fn open_cached(options: &OpenOptions, path: &Path) -> io::Result<Found> {
    let (path, known) = match cached::admit_lookup(path).await {
        Some(path) => {
            let known = cached::open(options, &path);
            (path, known)
        }
        None => (Cow::Borrowed(path), Known::Unknown),
    };
    let is_regular = match known {
        Known::Opened(file) => return Ok(Found::Opened(options.handle(file))),
        Known::Failed(error) => return Err(error),
        Known::Regular => true,
        Known::Unknown => false,
    };
    Ok(Found::Uncached {
        path: from_here(&path),
        is_regular,
    })
}

/// Opens a file, relative to the directory that is the current one at the first poll.
pub(super) async fn open(options: &OpenOptions, path: &Path) -> io::Result<Handle> {
    if let Some(host) = simulation::current() {
        return OnPool::Simulated(host.open(options, path)).await;
    }
    let (path, is_regular) = match open_cached(options, path).await? {
        Found::Opened(handle) => return Ok(handle),
        Found::Uncached { path, is_regular } => (path, is_regular),
    };
    if is_regular && has_ring() {
        if let Some(path) = platform::system_path(&path) {
            let (result, operation) = start(Operation::Open(Box::new(Opening {
                path,
                options: options.clone(),
                opened: None,
            })))
            .await;
            result?;
            let file = operation.into_opened().expect("a file was opened");
            return Ok(options.handle(file));
        }
    }
    let (options, owned) = (options.std().clone(), path.clone());
    let open = move || options.open(owned).map(Handle::new);
    on_pool_with_paths([&path], open).await
}
