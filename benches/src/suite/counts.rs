//! Counts that repeat exactly, of instructions by callgrind and of system calls by perf.
//!
//! Each is counted twice over the whole process, with N and with 2N operations. The difference
//! divided by N is the count per operation, without start and exit.

use std::{
    collections::BTreeMap, env, ffi::OsString, fs, path::PathBuf, process, process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    child::Child,
    contender::Contender,
    measure::{Bench, words},
    plan::Counted,
    results::Outcome,
};

/// Callgrind runs about fifty times slower...
const LIMIT: Duration = Duration::from_secs(60);
/// ...than perf.
const CALLS_LIMIT: Duration = Duration::from_secs(20);

/// The system calls that are counted by name, which are those of servers. Counting all three
/// hundred takes perf half a minute. Calls of other names appear as the difference to the total.
const NAMED: &str = "syscalls:sys_enter_accept,syscalls:sys_enter_accept4,syscalls:sys_enter_close,\
    syscalls:sys_enter_shutdown,syscalls:sys_enter_setsockopt,syscalls:sys_enter_getsockname,\
    syscalls:sys_enter_getpeername,syscalls:sys_enter_fcntl,syscalls:sys_enter_ioctl,\
    syscalls:sys_enter_read,syscalls:sys_enter_write,syscalls:sys_enter_recvfrom,\
    syscalls:sys_enter_sendto,syscalls:sys_enter_epoll_ctl,syscalls:sys_enter_epoll_wait,\
    syscalls:sys_enter_epoll_pwait,syscalls:sys_enter_epoll_pwait2,\
    syscalls:sys_enter_timerfd_settime,syscalls:sys_enter_io_uring_enter,\
    syscalls:sys_enter_futex,syscalls:sys_enter_clone,syscalls:sys_enter_clone3,\
    syscalls:sys_enter_mmap,syscalls:sys_enter_munmap,syscalls:sys_enter_mprotect";

type Totals = BTreeMap<String, f64>;

/// The missing tools, and how to install them.
pub(crate) fn missing_tools() -> Vec<String> {
    let mut missing = Vec::new();
    if !runs(Command::new("valgrind").arg("--version")) {
        missing.push("instructions are not counted: install the package `valgrind`".to_owned());
    }
    if !runs(Command::new("perf").args(["stat", "-e", "raw_syscalls:sys_enter", "true"])) {
        let install = "install the package `linux-perf` (Debian) or `linux-tools` (Ubuntu), and \
                       run as root or with kernel.perf_event_paranoid=-1";
        missing.push(format!("system calls are not counted: {install}"));
    }
    missing
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

pub(crate) fn instructions(
    bench: &Bench,
    who: Contender,
    of: &Counted,
    ops: u32,
) -> Result<Outcome> {
    if who.needs_io_uring() {
        return Ok(Outcome::Unsupported(
            "io_uring does not run under valgrind".to_owned(),
        ));
    }
    let file = scratch("callgrind");
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(&file);
    let tool = [
        "valgrind".into(),
        "-q".into(),
        "--tool=callgrind".into(),
        out,
    ];
    let run = |ops| run(bench, who, of, ops, &tool, LIMIT);
    per_operation(ops, run, || {
        let text = fs::read_to_string(&file).context("what callgrind wrote")?;
        let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
        let total: f64 = line
            .context("no totals in what callgrind wrote")?
            .trim()
            .parse()?;
        Ok([("instructions".to_owned(), total)].into())
    })
}

pub(crate) fn calls(
    bench: &Bench,
    who: Contender,
    of: &Counted,
    ops: u32,
    by_name: bool,
) -> Result<Outcome> {
    let file = scratch("perf");
    let mut tool: Vec<OsString> = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter"]
        .map(OsString::from)
        .into();
    if by_name {
        tool.extend(["-e".into(), NAMED.into()]);
    }
    if matches!(of, Counted::Work(_)) {
        // Only the loop's thread, because its partner makes its own calls.
        tool.push("--no-inherit".into());
    }
    tool.extend(["-o".into(), file.clone().into_os_string(), "--".into()]);
    let run = |ops| run(bench, who, of, ops, &tool, CALLS_LIMIT);
    per_operation(ops, run, || {
        let text = fs::read_to_string(&file).context("what perf wrote")?;
        let totals: Totals = text.lines().filter_map(counter).collect();
        ensure!(totals.contains_key("calls"), "no count in what perf wrote");
        Ok(totals)
    })
}

/// A line of `perf stat -x,`: value, unit, event, ...
fn counter(line: &str) -> Option<(String, f64)> {
    let mut parts = line.split(',');
    let value = parts.next()?.parse().ok()?;
    let event = parts.nth(1)?;
    let name = match event.strip_prefix("syscalls:sys_enter_") {
        Some(call) => format!("call {call}"),
        None => "calls".to_owned(),
    };
    Some((name, value))
}

fn per_operation(
    ops: u32,
    run: impl Fn(u32) -> Result<Outcome>,
    totals: impl Fn() -> Result<Totals>,
) -> Result<Outcome> {
    let mut counted = Vec::new();
    for ops in [ops, 2 * ops] {
        match run(ops)? {
            Outcome::Figures(_) => counted.push(totals()?),
            other => return Ok(other),
        }
    }
    let per_operation = |name: &String| {
        let of = |run: usize| counted[run].get(name).copied().unwrap_or(0.0);
        (of(1) - of(0)) / f64::from(ops)
    };
    let figures = counted[1]
        .keys()
        .map(|name| (name.clone(), per_operation(name)));
    // Occasional calls are not part of the operation.
    let figures = figures.filter(|(name, value)| !name.starts_with("call ") || *value >= 0.005);
    Ok(Outcome::Figures(figures.collect()))
}

fn run(
    bench: &Bench,
    who: Contender,
    of: &Counted,
    ops: u32,
    tool: &[OsString],
    limit: Duration,
) -> Result<Outcome> {
    match of {
        Counted::Work(args) => {
            let args = words(&format!("work {who} {args} ops={ops}"));
            Child::start(tool, &args, bench.cores.for_work(), limit)?.finish()
        }
        Counted::Served(served) => bench.exchange(tool, who, served, &format!("ops={ops}"), limit),
    }
}

fn scratch(name: &str) -> PathBuf {
    env::temp_dir().join(format!("windlass-benches-{}.{name}", process::id()))
}

/// Deletes the files written by the tools.
pub(crate) fn clean_up() {
    for name in ["callgrind", "perf"] {
        let _ = fs::remove_file(scratch(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_counters_are_read() {
        let all = counter("29,,raw_syscalls:sys_enter,1171647,100.00,,");
        assert_eq!(all, Some(("calls".to_owned(), 29.0)));
        let one = counter("3,,syscalls:sys_enter_accept4,1171647,100.00,,");
        assert_eq!(one, Some(("call accept4".to_owned(), 3.0)));
        assert_eq!(counter("# started on Tue"), None);
        assert_eq!(
            counter("<not counted>,,raw_syscalls:sys_enter,0,0.00,,"),
            None
        );
    }
}
