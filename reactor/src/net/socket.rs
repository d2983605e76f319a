//! Making, connecting and accepting sockets that are non-blocking and close-on-exec from the
//! start, in one system call where the system can.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
#[cfg(unix)]
use rustix::net::socket_with;
use rustix::net::{AddressFamily, SocketAddrAny, SocketType};
use rustix::net::{acceptfrom, acceptfrom_with, connect, sockopt};

use crate::async_io::Async;

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

#[cfg(windows)]
mod flags {
    use super::*;
    use rustix::net::SocketFlags;

    pub(super) const FLAGS: SocketFlags = SocketFlags::empty();

    pub(super) fn complete(socket: &OwnedFd) -> io::Result<()> {
        let socket = socket2::SockRef::from(socket);
        socket.set_nonblocking(true)?;
        socket.set_no_inherit(true) // by children, which would keep it open
    }
}

#[cfg(not(any(target_vendor = "apple", target_os = "aix", windows)))]
mod flags {
    use super::*;
    use rustix::net::SocketFlags;

    pub(super) const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

    pub(super) fn complete(_: &OwnedFd) -> io::Result<()> {
        Ok(())
    }

    /// Whether an error may mean that the system or a sandbox refuses the flags. It has other
    /// meanings as well; then a call without flags has the same error.
    #[inline]
    pub(super) fn may_be_refused(error: Errno) -> bool {
        matches!(
            error,
            Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::ACCESS
        )
    }

    pub(super) fn set(socket: &OwnedFd) -> io::Result<()> {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
        crate::async_io::set_nonblocking(socket.as_fd(), true)
    }
}

/// Where there are no flags that could be refused.
#[cfg(any(target_vendor = "apple", target_os = "aix", windows))]
mod flags_by_calls {
    use super::*;

    pub(super) fn may_be_refused(_: Errno) -> bool {
        false
    }

    pub(super) use super::flags::complete as set;
}

#[cfg(not(any(target_vendor = "apple", target_os = "aix", windows)))]
use flags::{may_be_refused, set};
#[cfg(any(target_vendor = "apple", target_os = "aix", windows))]
use flags_by_calls::{may_be_refused, set};

#[cfg(unix)]
pub(crate) fn new_socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    match socket_with(family, kind, flags::FLAGS, None) {
        Ok(socket) => {
            flags::complete(&socket)?;
            Ok(socket)
        }
        Err(error) if may_be_refused(error) => new_socket_without_flags(family, kind),
        Err(error) => Err(error.into()),
    }
}

#[cfg(unix)]
#[cold]
fn new_socket_without_flags(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, kind, None)?;
    set(&socket)?;
    Ok(socket)
}

#[cfg(windows)]
pub(crate) fn new_socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let family = i32::from(family.as_raw()).into();
    // This sees to it that the system's sockets are started, and children don't inherit it.
    let socket = socket2::Socket::new(family, (kind.as_raw() as i32).into(), None)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A new socket for the family of `addr`.
pub(crate) fn socket_for(addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    match addr {
        SocketAddr::V4(_) => new_socket(AddressFamily::INET, kind),
        SocketAddr::V6(_) => new_socket(AddressFamily::INET6, kind),
    }
}

pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    if IS_ACCEPT4_REFUSED.load(Relaxed) {
        return accept_without_flags(listener.as_fd());
    }
    let accepted = acceptfrom_with(listener, flags::FLAGS).map_err(or_without_flags);
    let (socket, peer) = accepted?;
    flags::complete(&socket)?;
    Ok((socket, peer))
}

/// A flag, so that what is accepted need not be copied from one result to another.
static IS_ACCEPT4_REFUSED: AtomicBool = AtomicBool::new(false);

/// A refusal becomes `Interrupted`, with which any operation is tried again at once.
fn or_without_flags(error: Errno) -> io::Error {
    if !may_be_refused(error) {
        return error.into();
    }
    IS_ACCEPT4_REFUSED.store(true, Relaxed);
    io::ErrorKind::Interrupted.into()
}

#[cold]
fn accept_without_flags(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let accepted = acceptfrom(listener);
    if accepted.as_ref().is_err_and(|error| may_be_refused(*error)) {
        IS_ACCEPT4_REFUSED.store(false, Relaxed); // it wasn't the flags
    }
    let (socket, peer) = accepted?;
    set(&socket)?;
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
        Err(Errno::WOULDBLOCK) if cfg!(windows) => true,
        Err(error) => return Err(error.into()),
    };
    let connected = Async::new_own(T::from(socket))?;
    if in_progress {
        connected.writable().await?;
        sockopt::socket_error(&connected)??;
    }
    Ok(connected)
}

/// Errors of a connection that died in the queue, as accept(2) lists them: the next one may be
/// fine. (Not its `EOPNOTSUPP`, by which a socket that can't listen would be tried for ever.)
pub(crate) fn is_lost_connection(error: &io::Error) -> bool {
    let lost = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        #[cfg(unix)]
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::TIMEDOUT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| lost.iter().any(|lost| lost.raw_os_error() == code))
}

/// The methods and traits of any connected or connectable socket: a struct around an
/// `Rc<Async<$std>>`.
macro_rules! socket {
    ($socket:ident, $addr:ty, $std:ty) => {
        impl $socket {
            fn new(io: crate::async_io::Async<$std>) -> $socket {
                $socket {
                    io: std::rc::Rc::new(io),
                }
            }

            /// Waits until there's something to read: data, an end, or an error.
            ///
            /// # Errors
            ///
            /// If no reactor turns on this thread.
            pub fn readable(&self) -> crate::readiness::Readable<'_> {
                self.io.readable()
            }

            /// Waits until there is room to write, or an error.
            ///
            /// # Errors
            ///
            /// If no reactor turns on this thread.
            pub fn writable(&self) -> crate::readiness::Writable<'_> {
                self.io.writable()
            }

            /// The address of the other side.
            ///
            /// # Errors
            ///
            /// If there is none (any more).
            pub fn peer_addr(&self) -> std::io::Result<$addr> {
                self.io.get_ref().peer_addr()
            }

            /// The address of this side.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                self.io.get_ref().local_addr()
            }

            /// Takes the error that the system has noted for this socket, if any (`SO_ERROR`).
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.io.get_ref().take_error()
            }

            /// Takes the socket out, still non-blocking, for another thread say.
            ///
            /// # Errors
            ///
            /// If there are other clones of it.
            pub fn into_std(self) -> std::io::Result<$std> {
                match std::rc::Rc::try_unwrap(self.io) {
                    Ok(io) => io.into_inner(),
                    Err(_) => Err(std::io::Error::other(
                        "there are other clones of this socket",
                    )),
                }
            }
        }

        impl TryFrom<$std> for $socket {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$socket> {
                socket.set_nonblocking(true)?;
                let io = crate::async_io::Async::new_nonblocking(socket)?;
                io.expose(); // its maker may have kept a duplicate
                Ok($socket::new(io))
            }
        }

        impl std::fmt::Debug for $socket {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.io.get_ref().fmt(f)
            }
        }

        crate::async_io::gives_descriptor!([] $socket, io.expose());
    };
}
pub(crate) use socket;
