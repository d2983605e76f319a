//! Making, connecting and accepting sockets that are non-blocking and close-on-exec from the
//! start, in one system call where the system can.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrAny, SocketType};
use rustix::net::{acceptfrom_with, connect, socket_with, sockopt};

use crate::io::Async;

#[cfg(any(target_vendor = "apple", target_os = "aix"))]
mod flags {
    use super::*;
    use rustix::net::SocketFlags;

    pub(super) const FLAGS: SocketFlags = SocketFlags::empty();

    pub(super) fn complete(socket: &OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(socket, true)?;
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
        // Writing to a peer that is gone shall be an error, not a signal.
        #[cfg(target_vendor = "apple")]
        sockopt::set_socket_nosigpipe(socket, true)?;
        Ok(())
    }
}

#[cfg(not(any(target_vendor = "apple", target_os = "aix")))]
mod flags {
    use super::*;
    use rustix::net::SocketFlags;

    pub(super) const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

    pub(super) fn complete(_: &OwnedFd) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn new_socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = socket_with(family, kind, flags::FLAGS, None)?;
    flags::complete(&socket)?;
    Ok(socket)
}

pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = acceptfrom_with(listener, flags::FLAGS)?;
    flags::complete(&socket)?;
    Ok((socket, peer))
}

/// Connects and waits until that has succeeded or failed.
pub(crate) async fn connect_to<T>(
    socket: OwnedFd,
    addr: &impl SocketAddrArg,
) -> io::Result<Async<T>>
where
    T: AsFd + From<OwnedFd>,
{
    let in_progress = match connect(&socket, addr) {
        Ok(()) => false,
        // Interrupted, it goes on in the background like one that is in progress.
        Err(Errno::INPROGRESS | Errno::INTR) => true,
        Err(error) => return Err(error.into()),
    };
    let connected = Async::new_nonblocking(T::from(socket))?;
    if in_progress {
        connected.writable().await?;
        sockopt::socket_error(&connected)??;
    }
    Ok(connected)
}

/// Errors of a connection that died in the queue, as accept(2) lists them: the next one may be
/// fine.
pub(crate) fn is_lost_connection(error: &io::Error) -> bool {
    let lost = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::OPNOTSUPP,
        Errno::TIMEDOUT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| lost.iter().any(|lost| lost.raw_os_error() == code))
}
