//! Calls on the sockets of a simulated host, where their descriptors are placeholders.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;
#[cfg(target_os = "linux")]
use rustix::net::SocketAddrUnix;
use rustix::net::addr::SocketAddrArg;
#[cfg(unix)]
use rustix::net::{AddressFamily, SocketType};

use crate::system::{Address, System};
#[cfg(unix)]
use crate::system::{Family, Kind};

/// The system of the host that is entered.
fn system() -> Option<Rc<dyn System>> {
    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    return crate::entered::current_system();
    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    return None;
}

/// Whether a host is entered. Frequent calls check this first, which costs less than to keep their
/// arguments for another attempt.
#[inline(always)]
pub(super) fn is_current() -> bool {
    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    return crate::entered::is_simulated();
    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    return false;
}

/// Makes a call on the system, or on that of the entered host.
#[inline(always)]
pub(super) fn or_simulated<T, E: Into<io::Error>>(
    fd: &impl AsFd,
    real: impl FnOnce() -> Result<T, E>,
    simulated: impl FnOnce(&dyn System, RawFd) -> io::Result<T>,
) -> io::Result<T> {
    match is_current() {
        true => call(fd.as_fd(), simulated),
        false => real().map_err(Into::into),
    }
}

#[cold]
#[inline(never)]
fn call<T>(
    fd: BorrowedFd<'_>,
    call: impl FnOnce(&dyn System, RawFd) -> io::Result<T>,
) -> io::Result<T> {
    match system() {
        Some(system) => call(&*system, fd.as_raw_fd()),
        None => Err(Errno::BADF.into()),
    }
}

/// Creates a simulated socket if a host is entered.
#[cfg(unix)]
pub(super) fn socket(family: AddressFamily, kind: SocketType) -> Option<io::Result<OwnedFd>> {
    let family = match family {
        AddressFamily::INET => Family::V4,
        AddressFamily::INET6 => Family::V6,
        _ => Family::Unix,
    };
    Some(system()?.socket(family, kind_of(kind)))
}

/// Creates two connected Unix sockets if a host is entered.
#[cfg(unix)]
pub(super) fn pair(kind: SocketType) -> Option<io::Result<(OwnedFd, OwnedFd)>> {
    Some(system()?.pair(kind_of(kind)))
}

/// Resolves a host name if a host is entered.
pub(super) fn resolve(host: &str, port: u16) -> Option<io::Result<Vec<SocketAddr>>> {
    Some(system()?.resolve(host, port))
}

#[cfg(unix)]
fn kind_of(kind: SocketType) -> Kind {
    match kind {
        SocketType::STREAM => Kind::Stream,
        _ => Kind::Datagram,
    }
}

pub(super) fn address(addr: &impl SocketAddrArg) -> io::Result<Address> {
    let addr = addr.as_any();
    #[cfg(target_os = "linux")]
    if addr.address_family() == AddressFamily::UNIX {
        let addr = SocketAddrUnix::try_from(addr)?;
        let name = addr.abstract_name().map(|name| [&[0], name].concat());
        let path = addr.path_bytes().map(<[u8]>::to_vec);
        return Ok(Address::Unix(name.or(path).unwrap_or_default()));
    }
    Ok(Address::Ip(SocketAddr::try_from(addr)?))
}

fn any_address(addr: &Address) -> Option<SocketAddrAny> {
    match addr {
        Address::Ip(addr) => Some(addr.as_any()),
        #[cfg(target_os = "linux")]
        Address::Unix(path) => Some(unix_address(path).ok()?.as_any()),
        #[cfg(not(target_os = "linux"))]
        Address::Unix(_) => None,
    }
}

#[cfg(target_os = "linux")]
fn unix_address(path: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(match path {
        [] => SocketAddrUnix::new_unnamed(),
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    })
}

/// An address in the type of a kind of sockets.
pub(super) trait FromAddress: Sized {
    fn from_address(addr: Address) -> io::Result<Self>;
}

impl FromAddress for SocketAddr {
    fn from_address(addr: Address) -> io::Result<SocketAddr> {
        match addr {
            Address::Ip(addr) => Ok(addr),
            Address::Unix(_) => Err(Errno::AFNOSUPPORT.into()),
        }
    }
}

#[cfg(unix)]
impl FromAddress for std::os::unix::net::SocketAddr {
    fn from_address(addr: Address) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        match addr {
            Address::Unix(path) => match &*path {
                #[cfg(target_os = "linux")]
                [0, name @ ..] => {
                    <Self as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
                }
                path => Self::from_pathname(std::ffi::OsStr::from_bytes(path)),
            },
            Address::Ip(_) => Err(Errno::AFNOSUPPORT.into()),
        }
    }
}

#[cold]
#[inline(never)]
pub(super) fn receive_from<A: FromAddress>(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    peek: bool,
) -> io::Result<(usize, A)> {
    let bufs = &mut [IoSliceMut::new(buf)];
    let received = call(socket, |system, fd| system.receive(fd, bufs, peek))?;
    let from = received.from.unwrap_or(Address::Unix(Vec::new()));
    Ok((received.bytes, A::from_address(from)?))
}

/// Receives bytes, or a datagram of any sender.
#[cold]
#[inline(never)]
pub(super) fn receive(socket: BorrowedFd<'_>, buf: &mut [u8], peek: bool) -> io::Result<usize> {
    let bufs = &mut [IoSliceMut::new(buf)];
    call(socket, |system, fd| {
        Ok(system.receive(fd, bufs, peek)?.bytes)
    })
}

#[cold]
#[inline(never)]
pub(super) fn receive_vectored(
    socket: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    call(socket, |system, fd| {
        Ok(system.receive(fd, bufs, false)?.bytes)
    })
}

#[cold]
#[inline(never)]
pub(super) fn send(socket: BorrowedFd<'_>, buf: &[u8], to: Option<&Address>) -> io::Result<usize> {
    call(socket, |system, fd| {
        system.send(fd, &[IoSlice::new(buf)], to)
    })
}

#[cfg(unix)]
#[cold]
#[inline(never)]
pub(super) fn send_vectored(socket: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    call(socket, |system, fd| system.send(fd, bufs, None))
}

/// Closes a simulated socket before its descriptor.
pub(super) fn close(socket: BorrowedFd<'_>) {
    if let Some(system) = system() {
        system.close(socket.as_raw_fd());
    }
}

#[cold]
#[inline(never)]
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (socket, peer) = call(listener, |system, fd| system.accept(fd))?;
    Ok((socket, any_address(&peer)))
}
