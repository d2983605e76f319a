//! A listening Unix socket with its file.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
use windlass_reactor::fork::Origin;

/// The file of a listening socket. Dropping it removes the file.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode number of the file. Another program may have replaced it since.
    file: Option<(u64, u64)>,
    origin: Origin,
}

impl SocketFile {
    /// Listens at the path. Replaces the file of a socket without a listener, which a killed
    /// program leaves behind. `mode` sets the permissions of the file before it exists.
    pub(crate) fn bind(path: &Path, mode: Option<u32>) -> io::Result<(SocketFile, UnixListener)> {
        let listener = match try_bind(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path).and_then(|()| try_bind(path, mode))
            }
            bound => bound,
        }
        .map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on {path:?}: {error}"))
        })?;
        let file = SocketFile {
            path: path.into(),
            file: identify(path),
            origin: Origin::here(),
        };
        Ok((file, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A forked child leaves the file to its parent.
        let is_known = self.file.is_some() && identify(&self.path) == self.file;
        if is_known && self.origin.is_here() {
            let _ = fs::remove_file(&self.path); // fails if it was removed meanwhile
        }
    }
}

fn try_bind(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let Some(mode) = mode else {
        return UnixListener::bind(path);
    };
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    // Linux creates the file with the mode of the socket. Other systems refuse the call.
    let _ = fchmod(&socket, Mode::from_raw_mode(mode as _));
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&socket, 128)?;
    Ok(socket.into())
}

fn identify(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns true for a socket without a listener. The type is checked first, because `connect`
/// returns `ECONNREFUSED` for files of other types too.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket && try_connect(path) == Err(Errno::CONNREFUSED)
}

/// Tries to connect without blocking. A blocking `connect` waits while the listener's queue is
/// full.
fn try_connect(path: &Path) -> rustix::io::Result<()> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}
