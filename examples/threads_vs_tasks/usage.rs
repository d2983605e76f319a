//! The resources that a process has used, as reported by the OS.

use std::{fmt, io, str::FromStr, time::Duration};

use anyhow::{Context, Error, Result};
#[cfg(unix)]
use nix::sys::{
    resource::{self, UsageWho},
    time::TimeValLike,
};

/// The sum over all threads, including those that have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// In user mode and in the kernel.
    pub(crate) cpu: Duration,
    /// Voluntary ones (the thread waited) and involuntary ones (it was preempted).
    pub(crate) context_switches: u64,
    /// Bytes of its memory that are in RAM now.
    pub(crate) resident: u64,
    /// The maximum of `resident` so far.
    pub(crate) peak_resident: u64,
}

impl Usage {
    #[cfg(unix)]
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let usage = resource::getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu = usage.user_time() + usage.system_time();
        let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
        let (resident, peak_resident) = memory(&usage)?;
        Ok(Usage {
            cpu: Duration::from_micros(cpu.num_microseconds().unsigned_abs()),
            context_switches: switches.unsigned_abs(),
            resident,
            peak_resident,
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let text = "resource usage is available through getrusage(2), on Unix only";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

/// Formats the values as one line, for the pipe between the server and its parent.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage {
            cpu,
            context_switches,
            resident,
            peak_resident,
        } = self;
        write!(
            f,
            "{} {context_switches} {resident} {peak_resident}",
            cpu.as_micros()
        )
    }
}

impl FromStr for Usage {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || {
            numbers
                .next()
                .context("the server's line on its usage is cut")?
                .map_err(Error::new)
        };
        Ok(Usage {
            cpu: Duration::from_micros(next()?),
            context_switches: next()?,
            resident: next()?,
            peak_resident: next()?,
        })
    }
}

/// Resident bytes now, and their maximum.
///
/// Not `ru_maxrss`: on Linux a child inherits it and starts with its parent's peak.
#[cfg(target_os = "linux")]
fn memory(_: &resource::Usage) -> io::Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("no {name} in /proc")))
    };
    Ok((bytes("VmRSS:")?, bytes("VmHWM:")?))
}

/// Only the peak is available, and an idle server is at its peak too.
#[cfg(all(unix, not(target_os = "linux")))]
fn memory(usage: &resource::Usage) -> io::Result<(u64, u64)> {
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };
    let peak = usage.max_rss().unsigned_abs() * unit;
    Ok((peak, peak))
}

/// The number of runnable threads on this machine, averaged over the last minute.
///
/// `None` if there is no such file.
pub(crate) fn load_average() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/loadavg").ok()?;
    line.split(' ').next()?.parse().ok()
}
