//! A live process, as `/proc` shows it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::time::{ClockId, clock_gettime};

use super::memory::Memory;
use super::runtime::Surroundings;
use crate::inspect::system_call::{self, Position};

pub(super) struct Process {
    /// The folder of the process in `/proc`.
    folder: String,
    memory: File,
    /// The threads, by the numbers that they have in the namespace of the process.
    threads: HashMap<i32, i32>,
}

impl Process {
    pub(super) fn open(pid: Option<i32>) -> io::Result<Process> {
        let name = pid.map_or("self".to_owned(), |pid| pid.to_string());
        let folder = format!("/proc/{name}");
        match File::open(format!("{folder}/mem")) {
            Err(error) => Err(explain(error, &name)),
            Ok(memory) => Ok(Process {
                threads: threads(&folder)?,
                folder,
                memory,
            }),
        }
    }

    /// The ranges of addresses at which the writable data of program files is mapped.
    pub(super) fn writable_data(&self) -> io::Result<Vec<Range<u64>>> {
        let maps = fs::read_to_string(format!("{}/maps", self.folder))?;
        Ok(maps.lines().filter_map(writable_data).collect())
    }
}

impl Surroundings for Process {
    fn thread(&self, tid: i32) -> Option<i32> {
        self.threads.get(&tid).copied()
    }

    fn activity(&self, thread: i32) -> String {
        let file = format!("{}/task/{thread}/syscall", self.folder);
        match Position::of_file(&file) {
            Position::Running => "on a CPU, or ready to run".to_owned(),
            Position::Unknown => String::new(),
            Position::Blocked(blocked) => match blocked.number {
                None => "waiting for a page of memory".to_owned(),
                Some(number) => {
                    let name = system_call::name(number).map_or_else(
                        || format!("the system call {number}"),
                        |name| format!("the system call {name}"),
                    );
                    let fd = system_call::takes_fd(number).then_some(blocked.args[0] as i32);
                    let fd = fd.map(|fd| format!(" on file descriptor {fd}"));
                    format!("in {name}{}", fd.unwrap_or_default())
                }
            },
        }
    }

    fn fd_target(&self, fd: i32) -> Option<String> {
        let target = fs::read_link(format!("{}/fd/{fd}", self.folder)).ok()?;
        let target = target.to_string_lossy();
        Some(target.replace(char::is_control, "\u{fffd}"))
    }

    fn now(&self) -> Option<u64> {
        let now = clock_gettime(ClockId::Monotonic);
        Some(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }
}

impl Memory for Process {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            match self
                .memory
                .read_at(rest, address.saturating_add(filled as u64))
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break, // not mapped
            }
        }
        filled
    }
}

/// Lists the threads, by the numbers that they have in the namespace of the process.
fn threads(folder: &str) -> io::Result<HashMap<i32, i32>> {
    let mut threads = HashMap::new();
    for entry in fs::read_dir(format!("{folder}/task"))? {
        let name = entry?.file_name();
        let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The thread may have ended meanwhile.
        let status = fs::read_to_string(format!("{folder}/task/{tid}/status"));
        let inner = status.ok().and_then(|status| inner_tid(&status));
        threads.insert(inner.unwrap_or(tid), tid);
    }
    Ok(threads)
}

/// Parses a line of `maps`: range, access, offset, device, inode, path.
fn writable_data(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_data = words.next()? == "rw-p" && words.nth(2)? != "0";
    let number = |text| u64::from_str_radix(text, 16).ok();
    is_data.then_some(number(start)?..number(end)?)
}

/// Parses the number that a thread has for itself. `NSpid` has one for each namespace, the
/// innermost last.
fn inner_tid(status: &str) -> Option<i32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

fn explain(error: io::Error, name: &str) -> io::Error {
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no process {name}"),
        io::ErrorKind::PermissionDenied => {
            let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
            let cause = match scope.as_deref().map(str::trim) {
                None | Some("0") => {
                    "the process belongs to another user or is protected".to_owned()
                }
                Some(scope) => format!("kernel.yama.ptrace_scope is {scope}"),
            };
            format!(
                "the system refuses access to the memory of process {name} ({cause}): run this \
                 as root, for example with sudo. In a container, add the capability SYS_PTRACE"
            )
        }
        _ => format!("can't read the memory of process {name}: {error}"),
    };
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_status_are_parsed() {
        let line = "5581a0-5581b0 rw-p 0001f000 fe:00 123  /a program (deleted)";
        assert_eq!(writable_data(line), Some(0x5581a0..0x5581b0));
        for other in [
            "",
            "1-2",
            "1-2 rw-p 0 0:0 0 [heap]",
            "1-2 r--p 0 0:0 7 /x",
            "x rw-p 0 0 7",
        ] {
            assert_eq!(writable_data(other), None);
        }
        assert_eq!(inner_tid("Pid:\t9\nNSpid:\t41\t9\t\nx:"), Some(9));
        assert_eq!(inner_tid("Pid:\t9"), None);
    }
}
