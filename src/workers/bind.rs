//! Creates the listening sockets of the parent.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

/// Listens on the first address for which that succeeds.
pub(super) fn bind(addr: impl ToSocketAddrs, per_worker: bool) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    for addr in addr.to_socket_addrs()? {
        match listen(addr, per_worker) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = context(addr, error),
        }
    }
    Err(last)
}

fn listen(addr: SocketAddr, per_worker: bool) -> io::Result<TcpListener> {
    if per_worker {
        reuse_port(addr)
    } else {
        TcpListener::bind(addr)
    }
}

/// Listens with `SO_REUSEPORT`, so that more sockets can listen on the same address.
#[cfg(target_os = "linux")]
fn reuse_port(addr: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(not(target_os = "linux"))]
fn reuse_port(_: SocketAddr) -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Maximum length of the accept queue. The system may limit it further.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 4096;

fn context(addr: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't listen on {addr}: {error}"))
}
