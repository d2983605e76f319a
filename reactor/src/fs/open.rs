//! Opening: by the ring, or by a thread where that may wait for a peer.

use std::io;
use std::path::Path;

use super::OpenOptions;
use super::names::from_here;
use super::operation::{
    Handle, Opening, Operation, has_ring, on_pool_with_paths, platform, start,
};

/// Opens a file, relative to the directory that is the current one at the first poll.
pub(super) async fn open(options: &OpenOptions, path: &Path) -> io::Result<Handle> {
    let path = from_here(path);
    if has_ring() && is_plain(&path) {
        if let Some(path) = platform::system_path(&path) {
            let (result, operation) = start(Operation::Open(Box::new(Opening {
                path,
                options: options.clone(),
                opened: None,
            })))
            .await;
            result?;
            let file = operation.into_opened().expect("the open has succeeded");
            return Ok(options.handle(file));
        }
    }
    let options = options.std().clone();
    let owned = path.clone();
    let open = move || options.open(owned).map(Handle::new);
    on_pool_with_paths([&path], open).await
}

/// Whether the path leads to what opens without waiting for a peer, or to nothing. Where the system
/// would have to ask the disk, a thread finds out.
///
/// io_uring opens with `O_NONBLOCK` at first, which changes what a pipe or a device does; and its
/// threads are few.
#[cfg(target_os = "linux")]
fn is_plain(path: &Path) -> bool {
    use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
    use rustix::io::Errno;

    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => fstat(file).is_ok_and(|it| {
            matches!(
                FileType::from_raw_mode(it.st_mode),
                FileType::RegularFile | FileType::Directory
            )
        }),
        // Not in memory, or no such call.
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::MFILE) => false,
        Err(_) => true, // the ring finds the same, or makes the file
    }
}

#[cfg(not(target_os = "linux"))]
fn is_plain(_: &Path) -> bool {
    false
}
