//! The system calls of sockets.
//!
//! The rest of `net` makes system calls only through these functions and the methods of the socket
//! types that are named here. Sockets are non-blocking and close-on-exec from the start, in one
//! system call where the system can do that.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{Shutdown, SocketFlags, acceptfrom, acceptfrom_with, sockopt};

pub(super) use std::net::{TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
pub(super) use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

pub(super) use rustix::net::{AddressFamily, SocketAddrAny, SocketType};

/// How many connections may wait to be accepted. The system may allow fewer.
const BACKLOG: i32 = 4096;

/// How many buffers one call takes, which is `IOV_MAX` of the systems. `sendmsg` and `recvmsg` fail
/// with more, and std leaves out the rest.
pub(super) const MAX_BUFS: usize = 1024;

#[cfg(not(any(target_vendor = "apple", target_os = "aix", windows)))]
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
#[cfg(not(any(target_vendor = "apple", target_os = "aix", windows)))]
const REFUSALS: &[Errno] = &[Errno::NOSYS, Errno::INVAL, Errno::PERM, Errno::ACCESS];
/// These systems have no such flags.
#[cfg(any(target_vendor = "apple", target_os = "aix", windows))]
const FLAGS: SocketFlags = SocketFlags::empty();
#[cfg(any(target_vendor = "apple", target_os = "aix", windows))]
const REFUSALS: &[Errno] = &[];

/// Whether an error may mean that the system or a sandbox refuses the flags. If it has another
/// cause, a call without flags returns the same error.
#[inline]
fn may_refuse_flags(error: Errno) -> bool {
    REFUSALS.contains(&error)
}

#[cfg(unix)]
fn set_flags(socket: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    crate::async_io::set_nonblocking(socket.as_fd(), true)?;
    // A write to a disconnected peer must be an error and not a signal.
    #[cfg(target_vendor = "apple")]
    sockopt::set_socket_nosigpipe(&socket, true)?;
    Ok(socket)
}

#[cfg(windows)]
fn set_flags(socket: OwnedFd) -> io::Result<OwnedFd> {
    let options = socket2::SockRef::from(&socket);
    options.set_nonblocking(true)?;
    options.set_no_inherit(true)?; // a child process would keep it open
    Ok(socket)
}

#[cfg(unix)]
pub(super) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    match rustix::net::socket_with(family, kind, FLAGS, None) {
        Ok(socket) if FLAGS.is_empty() => set_flags(socket),
        Err(error) if may_refuse_flags(error) => {
            set_flags(rustix::net::socket(family, kind, None)?)
        }
        created => Ok(created?),
    }
}

#[cfg(windows)]
pub(super) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let family = i32::from(family.as_raw()).into();
    // `socket2` initializes the system's socket library, and children don't inherit the socket.
    let socket = socket2::Socket::new(family, (kind.as_raw() as i32).into(), None)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Creates a socket for the family of `addr`.
pub(super) fn socket_for(addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    match addr {
        SocketAddr::V4(_) => socket(AddressFamily::INET, kind),
        SocketAddr::V6(_) => socket(AddressFamily::INET6, kind),
    }
}

pub(super) fn bind(socket: &OwnedFd, addr: &impl SocketAddrArg) -> io::Result<()> {
    Ok(rustix::net::bind(socket, addr)?)
}

pub(super) fn listen(socket: &OwnedFd, addr: &impl SocketAddrArg) -> io::Result<()> {
    bind(socket, addr)?;
    Ok(rustix::net::listen(socket, BACKLOG)?)
}

/// Lets a listener bind to a port that connections in `TIME_WAIT` still have. On Windows the same
/// option would take the port of a running program.
pub(super) fn set_reuse_addr(socket: &OwnedFd) -> io::Result<()> {
    #[cfg(unix)]
    sockopt::set_socket_reuseaddr(socket, true)?;
    let _ = socket;
    Ok(())
}

/// Starts to connect. Returns true if the connection is in progress.
pub(super) fn connect(socket: impl AsFd, addr: &impl SocketAddrArg) -> io::Result<bool> {
    match rustix::net::connect(socket, addr) {
        Ok(()) => Ok(false),
        // After a signal, the attempt continues in the background.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(true),
        Err(Errno::WOULDBLOCK) if cfg!(windows) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Returns the outcome of a connection that was in progress.
pub(super) fn finish_connect(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// Set when a sandbox refuses accept4(2).
static ACCEPT4_REFUSED: AtomicBool = AtomicBool::new(false);

/// Accepts a connection, and converts its peer's address of 128 bytes before it is copied.
#[inline(always)]
pub(super) fn accept<A>(
    listener: BorrowedFd<'_>,
    to_addr: impl FnOnce(Option<SocketAddrAny>) -> A,
) -> io::Result<(OwnedFd, A)> {
    if FLAGS.is_empty() || ACCEPT4_REFUSED.load(Relaxed) {
        let (socket, peer) = accept_without_flags(listener)?;
        return Ok((socket, to_addr(peer)));
    }
    match acceptfrom_with(listener, FLAGS) {
        Ok((socket, peer)) => Ok((socket, to_addr(peer))),
        Err(error) => Err(retry_without_flags(error)),
    }
}

/// Turns a refusal into `Interrupted`, after which any operation is tried again at once.
#[cold]
fn retry_without_flags(error: Errno) -> io::Error {
    if !may_refuse_flags(error) {
        return error.into();
    }
    ACCEPT4_REFUSED.store(true, Relaxed);
    io::ErrorKind::Interrupted.into()
}

#[cold]
fn accept_without_flags(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let accepted = acceptfrom(listener);
    if accepted
        .as_ref()
        .is_err_and(|error| may_refuse_flags(*error))
    {
        ACCEPT4_REFUSED.store(false, Relaxed); // the flags were not the reason
    }
    let (socket, peer) = accepted?;
    Ok((set_flags(socket)?, peer))
}

/// Whether `accept` failed because one connection was lost before it was accepted, as accept(2)
/// lists these errors. The next connection may be fine. `EOPNOTSUPP` is left out, because a socket
/// that cannot listen would be retried forever.
pub(super) fn is_lost_connection(error: &io::Error) -> bool {
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
    Errno::from_io_error(error).is_some_and(|error| lost.contains(&error))
}

/// Wakes all pollers that watch a TCP listener, and changes nothing else (Linux, `inet_shutdown`).
pub(super) fn wake_pollers(listener: BorrowedFd<'_>) {
    // If it fails, the connection waits for the next one to arrive, or for the next `accept`.
    let _ = rustix::net::shutdown(listener, Shutdown::Write);
}

/// A write to a disconnected peer must be an error and not a signal. Rust programs ignore that
/// signal, but the host of an embedded one may not. Apple's systems have a socket option for this.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::empty();

#[cfg(unix)]
#[inline]
pub(super) fn send(socket: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(match bufs {
        [buf] => rustix::net::send(socket, buf, SEND_FLAGS)?,
        bufs => {
            let bufs = &bufs[..bufs.len().min(MAX_BUFS)];
            rustix::net::sendmsg(socket, bufs, &mut Default::default(), SEND_FLAGS)?
        }
    })
}

/// Windows has no such signal.
#[cfg(windows)]
pub(super) fn send(mut socket: &TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut socket, bufs)
}

#[cfg(unix)]
pub(super) fn send_to(
    socket: &UnixDatagram,
    buf: &[u8],
    addr: &rustix::net::SocketAddrUnix,
) -> io::Result<usize> {
    let flags = rustix::net::SendFlags::empty();
    Ok(rustix::net::sendto(socket, buf, flags, addr)?)
}

/// A stream socket.
pub(super) trait Receive: AsFd {
    fn receive(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Received>;
}

pub(super) struct Received {
    pub(super) bytes: usize,
    /// The read stopped before the buffers were full, although more bytes may be there.
    pub(super) stopped: bool,
}

impl Receive for TcpStream {
    #[inline]
    fn receive(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Received> {
        let bytes = match bufs {
            #[cfg(unix)] // on Windows only std returns 0 after reading was shut down
            [buf] => rustix::net::recv(self, &mut **buf, rustix::net::RecvFlags::empty())?.0,
            bufs => io::Read::read_vectored(&mut &*self, bufs)?,
        };
        Ok(Received {
            bytes,
            stopped: false, // only at urgent data, which the event reports
        })
    }
}

#[cfg(unix)]
impl Receive for UnixStream {
    #[inline]
    fn receive(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Received> {
        use rustix::net::{RecvFlags, ReturnFlags, recvmsg};
        let message = recvmsg(self, bufs, &mut Default::default(), RecvFlags::empty())?;
        Ok(Received {
            bytes: message.bytes,
            // A read stops behind bytes that were sent with descriptors or other control messages.
            // There was no buffer for these, which the system reports.
            stopped: message.flags.contains(ReturnFlags::CTRUNC),
        })
    }
}

pub(super) fn set_linger(socket: impl AsFd, linger: Option<Duration>) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, linger)?)
}

pub(super) fn set_keepalive(socket: impl AsFd, keepalive: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_keepalive(socket, keepalive)?)
}

/// Resolves a host name. Blocks.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
