//! The system calls of sockets.
//!
//! The rest of `net` makes system calls only through these functions. In a simulated host they are
//! calls of its system (see [`simulated`]). Sockets are non-blocking and close-on-exec from the
//! start, in one system call where the system can do that.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{Shutdown, SocketFlags, acceptfrom, acceptfrom_with, sockopt};

use super::simulated::{self, or_simulated};
use crate::system::SocketOption::{self, Broadcast, KeepAlive, Linger, NoDelay, Ttl};

pub(super) use std::net::{TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
pub(super) use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

pub(super) use rustix::net::{AddressFamily, SocketAddrAny, SocketType};

/// How many connections may wait to be accepted. Each system allows fewer. On Linux the limit is
/// `net.core.somaxconn`, by default 4,096. Old systems store it in 16 bits.
const BACKLOG: i32 = 65_535;

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
    if let Some(created) = simulated::socket(family, kind) {
        return created;
    }
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

/// Prepares a socket for its use. If that fails, it is closed, also in a simulated host.
pub(super) fn prepare<T>(
    socket: OwnedFd,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<T>,
) -> io::Result<(OwnedFd, T)> {
    match prepare(&socket) {
        Ok(prepared) => Ok((socket, prepared)),
        Err(error) => {
            simulated::close(socket.as_fd());
            Err(error)
        }
    }
}

/// Closes a simulated socket before its descriptor.
pub(super) fn close(socket: &OwnedFd) {
    simulated::close(socket.as_fd());
}

/// Creates a socket for the family of `addr`.
pub(super) fn socket_for(addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    match addr {
        SocketAddr::V4(_) => socket(AddressFamily::INET, kind),
        SocketAddr::V6(_) => socket(AddressFamily::INET6, kind),
    }
}

/// Creates a TCP socket that sends small writes at once. Connections inherit this from a listener.
pub(super) fn tcp_socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket_for(addr, SocketType::STREAM)?;
    let _ = set_nodelay(&socket, true); // a sandbox may refuse it
    Ok(socket)
}

pub(super) fn bind(socket: &OwnedFd, addr: &impl SocketAddrArg) -> io::Result<()> {
    let real = || rustix::net::bind(socket, addr);
    or_simulated(socket, real, |system, fd| {
        system.bind(fd, &simulated::address(addr)?)
    })
}

pub(super) fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    let real = || rustix::net::listen(socket, backlog);
    or_simulated(socket, real, |system, fd| {
        system.listen(fd, backlog as usize)
    })
}

/// Binds a socket to an address and listens on it.
pub(super) fn listen_on(socket: &OwnedFd, addr: &impl SocketAddrArg) -> io::Result<()> {
    bind(socket, addr)?;
    listen(socket, BACKLOG)
}

/// Lets a listener bind to a port that connections in `TIME_WAIT` still have. On Windows the same
/// option would take the port of a running program.
pub(super) fn set_reuse_addr(socket: &OwnedFd, reuse: bool) -> io::Result<()> {
    #[cfg(unix)]
    return set_option(socket, SocketOption::ReuseAddress, reuse.into(), || {
        sockopt::set_socket_reuseaddr(socket.as_fd(), reuse)
    });
    #[cfg(windows)]
    {
        let _ = (socket, reuse);
        Ok(())
    }
}

/// Starts to connect. Returns true if the connection is in progress.
pub(super) fn connect(socket: &impl AsFd, addr: &impl SocketAddrArg) -> io::Result<bool> {
    let real = || match rustix::net::connect(socket.as_fd(), addr) {
        Ok(()) => Ok(false),
        // After a signal, the attempt continues in the background.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(true),
        Err(Errno::WOULDBLOCK) if cfg!(windows) => Ok(true),
        Err(error) => Err(error),
    };
    or_simulated(socket, real, |system, fd| {
        system.connect(fd, &simulated::address(addr)?)
    })
}

/// Returns the outcome of a connection that was in progress.
pub(super) fn finish_connect(socket: &impl AsFd) -> io::Result<()> {
    take_error(socket)?.map_or(Ok(()), Err)
}

/// Returns the pending error of a socket, and clears it.
pub(super) fn take_error(socket: &impl AsFd) -> io::Result<Option<io::Error>> {
    let real = || {
        let error = sockopt::socket_error(socket.as_fd());
        error.map(|pending| pending.err().map(io::Error::from))
    };
    or_simulated(socket, real, |system, fd| system.take_error(fd))
}

/// Set when a sandbox refuses accept4(2).
static ACCEPT4_REFUSED: AtomicBool = AtomicBool::new(false);

/// Accepts a connection, and converts its peer's address of 128 bytes before it is copied.
#[inline(always)]
pub(super) fn accept<A>(
    listener: BorrowedFd<'_>,
    to_addr: impl FnOnce(Option<SocketAddrAny>) -> A,
) -> io::Result<(OwnedFd, A)> {
    if simulated::is_current() {
        let (socket, peer) = simulated::accept(listener)?;
        return Ok((socket, to_addr(peer)));
    }
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
    // A simulated listener has one poller.
    // If it fails, the connection waits for the next one to arrive, or for the next `accept`.
    let _ = rustix::net::shutdown(listener, Shutdown::Write);
}

/// A write to a disconnected peer must be an error and not a signal. Rust programs ignore that
/// signal, but the host of an embedded one may not. Apple's systems have a socket option for this.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const SEND_FLAGS: rustix::net::SendFlags = rustix::net::SendFlags::empty();

#[cfg(unix)]
#[inline]
pub(super) fn send(socket: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(match bufs {
        // By value, because a pointer to the list would keep it out of the registers.
        [buf] if simulated::is_current() => simulated::send(socket.as_fd(), buf, None)?,
        [buf] => rustix::net::send(socket, buf, SEND_FLAGS)?,
        bufs => {
            let bufs = &bufs[..bufs.len().min(MAX_BUFS)];
            if simulated::is_current() {
                return simulated::send_vectored(socket.as_fd(), bufs);
            }
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
pub(super) fn send_to_path(
    socket: &UnixDatagram,
    buf: &[u8],
    addr: &rustix::net::SocketAddrUnix,
) -> io::Result<usize> {
    if simulated::is_current() {
        let addr = simulated::address(addr)?;
        return simulated::send(socket.as_fd(), buf, Some(&addr));
    }
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
            [buf] if simulated::is_current() => simulated::receive(self.as_fd(), buf, false)?,
            #[cfg(unix)] // on Windows only std returns 0 after reading was shut down
            [buf] => rustix::net::recv(self, &mut **buf, rustix::net::RecvFlags::empty())?.0,
            bufs if simulated::is_current() => simulated::receive_vectored(self.as_fd(), bufs)?,
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
        if simulated::is_current() {
            let bytes = simulated::receive_vectored(self.as_fd(), bufs)?;
            let stopped = false;
            return Ok(Received { bytes, stopped });
        }
        let message = recvmsg(self, bufs, &mut Default::default(), RecvFlags::empty())?;
        Ok(Received {
            bytes: message.bytes,
            // A read stops behind bytes that were sent with descriptors or other control messages.
            // There was no buffer for these, which the system reports.
            stopped: message.flags.contains(ReturnFlags::CTRUNC),
        })
    }
}

/// A socket for datagrams.
pub(super) trait Datagrams: AsFd {
    type Addr;

    fn send(&self, buf: &[u8]) -> io::Result<usize>;

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize>;

    fn receive_from(&self, buf: &mut [u8]) -> io::Result<(usize, Self::Addr)>;
}

macro_rules! datagrams {
    ($socket:ty, $addr:ty) => {
        impl Datagrams for $socket {
            type Addr = $addr;

            #[inline]
            fn send(&self, buf: &[u8]) -> io::Result<usize> {
                if simulated::is_current() {
                    return simulated::send(self.as_fd(), buf, None);
                }
                self.send(buf)
            }

            #[inline]
            fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
                if simulated::is_current() {
                    return simulated::receive(self.as_fd(), buf, false);
                }
                self.recv(buf)
            }

            #[inline]
            fn receive_from(&self, buf: &mut [u8]) -> io::Result<(usize, $addr)> {
                if simulated::is_current() {
                    return simulated::receive_from(self.as_fd(), buf, false);
                }
                self.recv_from(buf)
            }
        }
    };
}

datagrams!(UdpSocket, SocketAddr);
#[cfg(unix)]
datagrams!(UnixDatagram, std::os::unix::net::SocketAddr);

#[inline]
pub(super) fn send_to(socket: &UdpSocket, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
    if simulated::is_current() {
        let addr = simulated::address(&addr)?;
        return simulated::send(socket.as_fd(), buf, Some(&addr));
    }
    socket.send_to(buf, addr)
}

pub(super) fn peek_from(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    if simulated::is_current() {
        return simulated::receive_from(socket.as_fd(), buf, true);
    }
    socket.peek_from(buf)
}

/// Sets the peer of a UDP socket.
pub(super) fn connect_datagrams(socket: &UdpSocket, addr: SocketAddr) -> io::Result<()> {
    let real = || socket.connect(addr);
    or_simulated(socket, real, |system, fd| {
        system.connect(fd, &simulated::address(&addr)?).map(drop)
    })
}

pub(super) fn peek(socket: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    if simulated::is_current() {
        return simulated::receive(socket.as_fd(), buf, true);
    }
    socket.peek(buf)
}

/// Creates two connected streams.
#[cfg(unix)]
pub(super) fn stream_pair() -> io::Result<(UnixStream, UnixStream)> {
    if let Some(pair) = simulated::pair(SocketType::STREAM) {
        let (here, there) = pair?;
        return Ok((here.into(), there.into()));
    }
    let (here, there) = UnixStream::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    Ok((here, there))
}

/// Creates two connected sockets for datagrams.
#[cfg(unix)]
pub(super) fn datagram_pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
    if let Some(pair) = simulated::pair(SocketType::DGRAM) {
        let (here, there) = pair?;
        return Ok((here.into(), there.into()));
    }
    let (here, there) = UnixDatagram::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    Ok((here, there))
}

/// A socket with addresses.
pub(super) trait Addressed: AsFd {
    type Addr;

    fn local(&self) -> io::Result<Self::Addr>;

    fn peer(&self) -> io::Result<Self::Addr>;
}

macro_rules! addressed {
    ($socket:ty, $addr:ty, $peer:expr) => {
        impl Addressed for $socket {
            type Addr = $addr;

            fn local(&self) -> io::Result<$addr> {
                self.local_addr()
            }

            fn peer(&self) -> io::Result<$addr> {
                ($peer)(self)
            }
        }
    };
}

/// Listeners have no peer.
fn no_peer<S, A>(_: &S) -> io::Result<A> {
    Err(io::ErrorKind::NotConnected.into())
}

/// A socket that is neither connected nor listening yet.
impl Addressed for OwnedFd {
    type Addr = SocketAddr;

    fn local(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getsockname(self)?.try_into()?)
    }

    fn peer(&self) -> io::Result<SocketAddr> {
        no_peer(self)
    }
}

addressed!(TcpListener, SocketAddr, no_peer);
addressed!(TcpStream, SocketAddr, TcpStream::peer_addr);
addressed!(UdpSocket, SocketAddr, UdpSocket::peer_addr);
#[cfg(unix)]
addressed!(UnixListener, std::os::unix::net::SocketAddr, no_peer);
#[cfg(unix)]
addressed!(
    UnixStream,
    std::os::unix::net::SocketAddr,
    UnixStream::peer_addr
);
#[cfg(unix)]
addressed!(
    UnixDatagram,
    std::os::unix::net::SocketAddr,
    UnixDatagram::peer_addr
);

pub(super) fn local_addr<S>(socket: &S) -> io::Result<S::Addr>
where
    S: Addressed,
    S::Addr: simulated::FromAddress,
{
    or_simulated(
        socket,
        || socket.local(),
        |system, fd| simulated::FromAddress::from_address(system.local_addr(fd)?),
    )
}

pub(super) fn peer_addr<S>(socket: &S) -> io::Result<S::Addr>
where
    S: Addressed,
    S::Addr: simulated::FromAddress,
{
    or_simulated(
        socket,
        || socket.peer(),
        |system, fd| simulated::FromAddress::from_address(system.peer_addr(fd)?),
    )
}

pub(super) fn shutdown(socket: &impl AsFd, how: std::net::Shutdown) -> io::Result<()> {
    let direction = match how {
        std::net::Shutdown::Read => Shutdown::Read,
        std::net::Shutdown::Write => Shutdown::Write,
        std::net::Shutdown::Both => Shutdown::Both,
    };
    let real = || rustix::net::shutdown(socket.as_fd(), direction);
    or_simulated(socket, real, |system, fd| system.shutdown(fd, how))
}

/// Returns an option.
fn option<T>(
    socket: &impl AsFd,
    option: SocketOption,
    convert: impl FnOnce(i64) -> T,
    real: impl FnOnce() -> rustix::io::Result<T>,
) -> io::Result<T> {
    or_simulated(socket, real, |system, fd| {
        Ok(convert(system.option(fd, option)?))
    })
}

/// Changes an option.
fn set_option(
    socket: &impl AsFd,
    option: SocketOption,
    value: i64,
    real: impl FnOnce() -> rustix::io::Result<()>,
) -> io::Result<()> {
    or_simulated(socket, real, |system, fd| {
        system.set_option(fd, option, value)
    })
}

pub(super) fn nodelay(socket: &impl AsFd) -> io::Result<bool> {
    option(
        socket,
        NoDelay,
        |value| value != 0,
        || sockopt::tcp_nodelay(socket.as_fd()),
    )
}

pub(super) fn set_nodelay(socket: &impl AsFd, on: bool) -> io::Result<()> {
    set_option(socket, NoDelay, on.into(), || {
        sockopt::set_tcp_nodelay(socket.as_fd(), on)
    })
}

pub(super) fn ttl(socket: &impl AsFd) -> io::Result<u32> {
    option(
        socket,
        Ttl,
        |value| value as u32,
        || sockopt::ip_ttl(socket.as_fd()),
    )
}

pub(super) fn set_ttl(socket: &impl AsFd, ttl: u32) -> io::Result<()> {
    set_option(socket, Ttl, ttl.into(), || {
        sockopt::set_ip_ttl(socket.as_fd(), ttl)
    })
}

pub(super) fn broadcast(socket: &UdpSocket) -> io::Result<bool> {
    option(
        socket,
        Broadcast,
        |value| value != 0,
        || sockopt::socket_broadcast(socket),
    )
}

pub(super) fn set_broadcast(socket: &UdpSocket, on: bool) -> io::Result<()> {
    set_option(socket, Broadcast, on.into(), || {
        sockopt::set_socket_broadcast(socket, on)
    })
}

pub(super) fn set_linger(socket: &impl AsFd, linger: Option<Duration>) -> io::Result<()> {
    // Rounded up, as by the system's call.
    let seconds = |linger: Duration| linger.as_secs() as i64 + i64::from(linger.subsec_nanos() > 0);
    let seconds = linger.map_or(-1, seconds);
    set_option(socket, Linger, seconds, || {
        sockopt::set_socket_linger(socket.as_fd(), linger)
    })
}

pub(super) fn set_keepalive(socket: &impl AsFd, on: bool) -> io::Result<()> {
    set_option(socket, KeepAlive, on.into(), || {
        sockopt::set_socket_keepalive(socket.as_fd(), on)
    })
}

/// Resolves a host name. Blocks.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}
