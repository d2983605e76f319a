//! Sockets.
//!
//! Sockets have the methods of std's sockets, with an `.await` where std blocks. Streams implement
//! [`AsyncRead`](futures_io::AsyncRead) and [`AsyncWrite`](futures_io::AsyncWrite), and so do
//! references to them, so one task can read while another one writes, without a lock. A stream is
//! cheap to clone, and all clones share one socket.
//!
//! Any thread may use a socket, several threads also at once, for example one that reads and one
//! that writes. The reactor of the thread where an operation waits serves it. So the future of an
//! operation is `Send`, and continues on the thread that polls it. Where no reactor turns, an
//! operation that has to wait returns an error.
//!
//! A socket is fastest on the thread where it has waited last. There, an operation that would block
//! costs no system call. If several threads wait for it in turns, all but one of them register it
//! again for each wait, which is one more system call.
//!
//! Errors about an address name it. They have the kind of the system's error, which is their
//! [`source`](std::error::Error::source) and has the error number.

mod accept;
mod addr;
mod datagram;
mod lookup;
mod race;
mod simulated;
mod socket;
mod stream;
mod sys;
mod tcp;
mod udp;
#[cfg(unix)]
pub mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;

pub use addr::ToAddrs;
pub(crate) use lookup::for_each_waiter as for_each_lookup;
pub use lookup::lookup_host;
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

/// Adds the attempted operation to an error. The kind stays, and the error is the source of the new
/// one.
fn context(what: &str, target: impl fmt::Display, error: io::Error) -> io::Error {
    let tried = format!("{what} {target}");
    io::Error::new(error.kind(), Failed { tried, error })
}

#[derive(Debug)]
struct Failed {
    tried: String,
    error: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.error)
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Tries the addresses one after the other. Returns the error of the last one.
async fn each_addr<T>(
    target: impl ToAddrs,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in lookup_host(target).await? {
        match attempt(addr) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address was given")
}
