//! Looking up host names, off the loop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::addr::Addrs;
use super::{ToAddrs, context, sys};
use crate::pool::Pool;
use crate::shortage::cannot_start_thread;

/// Finds the addresses of a host name, as the system does (`getaddrinfo`), off the loop.
///
/// That call blocks, so a thread makes it, and ends when no name is left to look up. There are at
/// most 32 such threads in a process, for all its loops; more lookups wait in line for them. So a
/// name server that doesn't answer holds up lookups, and nothing else.
///
/// # Errors
///
/// If the name is not known, or no thread can be had: the name is in the text.
///
/// # Cancel safety
///
/// May be dropped at any time, which takes no time. A lookup that waits in line leaves it. One that
/// has begun can't be stopped: it goes on in its thread until the system has answered, and holds up
/// neither a loop nor the end of the program.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, net::lookup_host};
///
/// let addrs = block_on(lookup_host("localhost:80"))?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn lookup_host(host: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match host.addrs() {
        Addrs::Known(addrs) => Ok(addrs),
        Addrs::Name(host, port) => look_up(host, port).await,
        Addrs::Nonsense(error) => Err(error),
    }
}

/// Enough for the names of a busy client. While a name server is dead, each thread waits for the
/// system's time-out (glibc: 10 s for each name server); without a limit a client that goes on
/// asking would have as many threads as it has asked in that time.
const MOST_THREADS: usize = 32;

/// A pool of its own, so that a dead name server holds up nothing else.
static RESOLVER: Pool = Pool::new("windlass-lookup", MOST_THREADS, Duration::ZERO);

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = host.clone();
    let ask_system = move || sys::resolve(&name, port);
    let found: io::Result<_> = match RESOLVER.run(ask_system) {
        Ok(lookup) => lookup.await,
        Err(error) => Err(cannot_start_thread(error)),
    };
    found.map_err(|error| context("can't find the host", format_args!("`{host}`"), error))
}
