//! Sockets.
//!
//! They are used as those of std, with an `.await` where std blocks. Streams implement
//! [`AsyncRead`](futures_io::AsyncRead) and [`AsyncWrite`](futures_io::AsyncWrite), and so do
//! references to them: one task may read while another writes, without a lock. A stream is cheap
//! to clone; all clones are one socket.
//!
//! All belong to the thread that made them. `into_std` and `TryFrom` take them across.
//!
//! Errors that concern an address have it in their text. Their kind is the system's, and the
//! system's own error, with its number, is their [`source`](std::error::Error::source).

mod accept;
mod addr;
mod datagram;
mod lookup;
mod race;
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
pub use lookup::lookup_host;
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

/// Adds what was tried to an error's text. Its kind stays, and it is the source of the new one.
fn context(what: &str, whom: impl fmt::Display, error: io::Error) -> io::Error {
    let tried = format!("{what} {whom}");
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

/// Tries the addresses one after the other. The error is that of the last.
async fn each_addr<T>(
    target: impl ToAddrs,
    mut attempt: impl AsyncFnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in lookup_host(target).await? {
        match attempt(addr).await {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address was given")
}
