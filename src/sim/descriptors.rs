//! The placeholder descriptors of a world, and the sockets that they stand for.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use windlass_reactor::host::placeholder;

use super::net::SocketId;

/// Sockets by descriptor.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    sockets: RefCell<Vec<Option<SocketId>>>,
}

impl Descriptors {
    /// Creates the descriptor of a socket. Also returns the socket that had this number and whose
    /// descriptor was closed without notice.
    pub(super) fn insert(&self, socket: SocketId) -> io::Result<(OwnedFd, Option<SocketId>)> {
        let fd = placeholder()?;
        let index = fd.as_raw_fd() as usize;
        let sockets = &mut *self.sockets.borrow_mut();
        if sockets.len() <= index {
            sockets.resize(index + 1, None);
        }
        Ok((fd, sockets[index].replace(socket)))
    }

    /// Returns the socket of a descriptor, or an error for a descriptor of the real system.
    pub(super) fn get(&self, fd: RawFd) -> io::Result<SocketId> {
        let sockets = self.sockets.borrow();
        let socket = sockets.get(fd as usize).copied().flatten();
        socket.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "descriptor {fd} belongs to the real system, and a simulated world has only \
                     its own sockets and files"
                ),
            )
        })
    }

    /// Forgets a descriptor.
    pub(super) fn remove(&self, fd: RawFd) -> Option<SocketId> {
        self.sockets.borrow_mut().get_mut(fd as usize)?.take()
    }
}
