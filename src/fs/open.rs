//! Opens files. A cached path is opened at once. The ring opens other paths, and a thread opens
//! paths that may wait for a peer.
//!
//! io_uring opens with `O_NONBLOCK` at first, which changes the behavior of pipes and devices, and
//! it has few threads. So the ring opens only paths that are known to lead to a file or directory,
//! or to be missing.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::Poll;

use super::OpenOptions;
use super::cached::{self, Known};
use super::handle::Handle;
use super::names::from_here;
use super::operation::{OnPool, Opening, Operation, has_ring, on_pool_with_paths, start};
use super::platform;
use super::simulation;

/// Opens a file, relative to the directory that is the current one at the first poll.
pub(super) async fn open(options: &OpenOptions, path: &Path) -> io::Result<Handle> {
    if let Some(host) = simulation::current() {
        return OnPool::Simulated(host.open(options, path)).await;
    }
    let known = poll_fn(|cx| Poll::Ready(cached::open(cx, options, path))).await;
    if let Known::Opened(file) = known {
        return Ok(options.handle(file));
    }
    let path = from_here(path);
    if matches!(known, Known::Regular) && has_ring() {
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
