//! The limit of file descriptors. Each connection needs one.

#[cfg(unix)]
use crate::server_process::Refusal;
use anyhow::Result;
#[cfg(unix)]
use anyhow::{Context, bail};
#[cfg(unix)]
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors besides the connections, such as standard streams, pipes, the listener, the poller,
/// and inherited ones.
#[cfg(unix)]
const SPARE: usize = 64;

/// Raises the limit of this process if necessary, up to the hard limit. The server is started later
/// and inherits it.
#[cfg(unix)]
pub(crate) fn make_room(connections: usize) -> Result<()> {
    let needed = (connections + SPARE) as nix::libc::rlim_t; // signed on FreeBSD
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    if needed <= soft {
        return Ok(());
    }
    if needed <= hard && setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_ok() {
        return Ok(());
    }
    bail!(Refusal(format!(
        "needs {needed} open files, and the limit is {}: raise it (as root: ulimit -n {needed}), \
         or choose fewer --connections",
        soft.max(hard.min(needed - 1)),
    )))
}

/// This system has no such limit.
#[cfg(not(unix))]
pub(crate) fn make_room(_: usize) -> Result<()> {
    Ok(())
}
