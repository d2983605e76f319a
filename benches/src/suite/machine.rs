//! The machine that runs the measurements.

use std::{fs, process::Command};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::contender::ALL;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) is_virtual: bool,
    pub(crate) cores: usize,
    pub(crate) is_pinned: bool,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// Package and version.
    pub(crate) versions: Vec<(String, String)>,
}

const LOCK: &str = include_str!("../../../Cargo.lock");

impl Machine {
    pub(crate) fn describe(cores: &Cores) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = field(&meminfo, "MemTotal")
            .trim_end_matches(" kB")
            .parse::<f64>();
        Machine {
            date: said_by("date", &["-u", "+%F"]),
            cpu: field(&cpuinfo, "model name").to_owned(),
            is_virtual: field(&cpuinfo, "flags")
                .split(' ')
                .any(|flag| flag == "hypervisor"),
            cores: cores.allowed,
            is_pinned: cores.load.is_some(),
            memory: total.map_or("?".to_owned(), |kib| {
                format!("{:.0} GiB", kib / 1_048_576.0)
            }),
            kernel: said_by("uname", &["-sr"]),
            rustc: said_by("rustc", &["-V"]),
            versions: versions(),
        }
    }
}

fn versions() -> Vec<(String, String)> {
    let packages = ALL.into_iter().flat_map(|contender| contender.packages());
    let known = packages.filter_map(|name| Some(((*name).to_owned(), version(LOCK, name)?)));
    known.collect()
}

fn version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next()?.strip_prefix("version = ")?;
    Some(version.trim_matches('"').to_owned())
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':'))
        .map_or("?", |(_, value)| value.trim())
}

fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("?".to_owned(), |text| text.trim().to_owned())
}

/// The two cores used for measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) work: usize,
    /// `None` if there is only one core. Then nothing is pinned.
    pub(crate) load: Option<usize>,
    allowed: usize,
}

impl Cores {
    pub(crate) fn choose() -> Cores {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let has = |core: &usize| set.is_set(*core).unwrap_or(false);
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(has).collect();
        let work = allowed.first().copied().unwrap_or(0);
        let others = || allowed.iter().copied().filter(|&core| core != work);
        let apart = others().find(|&core| !are_siblings(work, core));
        Cores {
            work,
            load: apart.or_else(|| others().next()),
            allowed: allowed.len(),
        }
    }

    /// Pins this thread, and the processes that it starts from now on, to a core.
    pub(crate) fn pin(core: usize) {
        let mut set = CpuSet::new();
        // Where that is not permitted, nothing is pinned, and the results vary more.
        let _ = set
            .set(core)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    }

    /// Runs a closure on a core. Child processes inherit the pinning.
    pub(crate) fn on<T>(core: Option<usize>, work: impl FnOnce() -> T) -> T {
        let Some(core) = core else { return work() };
        let before = sched_getaffinity(Pid::from_raw(0));
        Cores::pin(core);
        let result = work();
        let _ = before.and_then(|before| sched_setaffinity(Pid::from_raw(0), &before));
        result
    }

    pub(crate) fn for_work(&self) -> Option<usize> {
        self.load.map(|_| self.work)
    }
}

/// Returns true if both are hyperthreads of one core, which disturb each other.
fn are_siblings(one: usize, other: usize) -> bool {
    let path = format!("/sys/devices/system/cpu/cpu{one}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).unwrap_or_default();
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&other),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tokio-util\"\nversion = \"9\"\n\n\
                    [[package]]\nname = \"tokio\"\nversion = \"1.54.1\"\n";
        assert_eq!(version(lock, "tokio").as_deref(), Some("1.54.1"));
        assert_eq!(version(lock, "smol"), None);
        assert!(version(LOCK, "windlass").is_some());
    }
}
