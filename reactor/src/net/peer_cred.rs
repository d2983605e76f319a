//! The process at the other end of a Unix connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::simulated::or_simulated;

/// The process at the other end of a Unix connection, see
/// [`UnixStream::peer_cred`](super::unix::UnixStream::peer_cred).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct PeerCred {
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// The process ID. `None` if the process is outside of this PID namespace, and on systems other
    /// than Linux.
    pub pid: Option<i32>,
}

pub(super) fn peer_cred(socket: &impl AsFd) -> io::Result<PeerCred> {
    let no_process = "the peer of a simulated socket is not a process";
    or_simulated(
        socket,
        || system_cred(socket),
        |_, _| Err(io::Error::new(io::ErrorKind::Unsupported, no_process)),
    )
}

/// rustix has this call, too. Its type has no value for a process of another PID namespace, for
/// which the system returns zero.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn system_cred(socket: &impl AsFd) -> io::Result<PeerCred> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointers are to a `ucred`, which any bytes are valid for, and to its length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerCred {
        uid: cred.uid,
        gid: cred.gid,
        pid: Some(cred.pid).filter(|pid| *pid != 0),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn system_cred(socket: &impl AsFd) -> io::Result<PeerCred> {
    let (fd, mut uid, mut gid) = (socket.as_fd().as_raw_fd(), 0, 0);
    // SAFETY: the pointers are to two IDs.
    let result = unsafe { libc::getpeereid(fd, &raw mut uid, &raw mut gid) };
    match result {
        0 => Ok(PeerCred {
            uid,
            gid,
            pid: None,
        }),
        _ => Err(io::Error::last_os_error()),
    }
}
