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
        return reuse_port(addr);
    }
    let socket = TcpListener::bind(addr)?;
    #[cfg(unix)]
    rustix::net::listen(&socket, BACKLOG)?; // std sets 128
    Ok(socket)
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

/// Maximum length of the accept queue. Each system has a lower limit, on Linux
/// `net.core.somaxconn`, by default 4,096.
#[cfg(unix)]
const BACKLOG: i32 = 65_535;

fn context(addr: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't listen on {addr}: {error}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_clients_fits_into_the_accept_queue() {
        let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let clients = limit.trim().parse().unwrap_or(128).min(500);
        let socket = bind("127.0.0.1:0", false).unwrap();
        let addr = socket.local_addr().unwrap();
        // A full queue drops the request, and the client repeats it after a second.
        let patience = Duration::from_secs(5);
        let connect = |_| TcpStream::connect_timeout(&addr, patience);
        let connected: io::Result<Vec<_>> = (0..clients).map(connect).collect();
        assert_eq!(connected.unwrap().len(), clients);
    }
}
