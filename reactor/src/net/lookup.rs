//! Lookup of host names, on other threads.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::addr::Addrs;
use super::{ToAddrs, context, sys};
use crate::pool::Pool;
use crate::shortage::cannot_start_thread;

/// Looks up the addresses of a host name, with the resolver of the system (`getaddrinfo`).
///
/// That call blocks, so it runs on a thread, which ends when no lookup is left. A process has at
/// most 32 such threads for all its loops, and further lookups wait in a queue. A name server that
/// does not answer therefore delays lookups and nothing else.
///
/// # Errors
///
/// Fails if the name is unknown or no thread can be started. The error names the host.
///
/// # Cancel safety
///
/// The future may be dropped at any time, which does not block. A queued lookup is removed. A
/// lookup that has started cannot be stopped: it continues on its thread until the system answers,
/// and delays neither a loop nor the end of the program.
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
        Addrs::Invalid(error) => Err(error),
    }
}

/// Enough for the names of a busy client. If a name server is dead, each thread waits for the
/// system's timeout (glibc: 10 s per name server). Without a limit, a client would have a thread
/// for each lookup that it starts in that time.
const MOST_THREADS: usize = 32;

/// A separate pool, so that a dead name server blocks no other work.
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
