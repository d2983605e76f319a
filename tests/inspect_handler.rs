//! The signal handler that copies the stack of a stalled thread. Each test has a process of its
//! own, since a system call that a filter forbids ends the process.
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "../executor/tests/common/counting.rs"]
#[allow(dead_code, reason = "other tests measure bytes, too")]
mod counting;

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use windlass::inspect::{Stall, Watchdog};
use windlass::{block_on, spawn};

/// Far longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// From now on, each system call of this thread ends the process, except the two of a handler.
fn forbid_system_calls() {
    let allowed = [libc::SYS_gettid, libc::SYS_rt_sigreturn];
    let filter = SeccompFilter::new(
        allowed.map(|number| (number, vec![])).into(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn is_child() -> bool {
    env::var_os("WINDLASS_CHILD").is_some()
}

fn run_child(name: &str) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WINDLASS_CHILD", "1");
    command.output().unwrap()
}

/// What the thread and its test share.
#[derive(Default)]
struct Progress {
    /// The filter is installed.
    is_filtered: AtomicBool,
    is_captured: AtomicBool,
}

/// Starts a watchdog, and waits until it has captured stacks of a thread that runs, which takes a
/// signal each.
fn capture_stacks(thread: impl FnOnce(&Progress) + Send + 'static) {
    let (sender, stalls) = mpsc::channel();
    Watchdog::builder()
        .threshold(Duration::from_micros(100))
        .reports_per_minute(u32::MAX)
        .on_stall(move |stall: &Stall| {
            let _ = sender.send(stall.stack.is_some());
        })
        .start()
        .unwrap();
    let progress = Arc::new(Progress::default());
    let theirs = progress.clone();
    thread::spawn(move || block_on(async { spawn(async move { thread(&theirs) }).await }));
    let mut captured = 0;
    while captured < 6 {
        let has_stack = stalls.recv_timeout(PATIENCE).unwrap();
        captured += u32::from(has_stack && progress.is_filtered.load(SeqCst));
    }
    progress.is_captured.store(true, SeqCst);
}

impl Progress {
    fn spin_until_captured(&self) {
        self.is_filtered.store(true, SeqCst);
        while !self.is_captured.load(SeqCst) {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn the_handler_allocates_nothing_and_makes_one_system_call() {
    if !is_child() {
        let output = run_child("the_handler_allocates_nothing_and_makes_one_system_call");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    const NOT_COUNTED: usize = usize::MAX;
    let allocations = Arc::new(AtomicUsize::new(NOT_COUNTED));
    let result = allocations.clone();
    capture_stacks(move |progress| {
        forbid_system_calls();
        let (allocations, _, ()) = counting::count(|| progress.spin_until_captured());
        result.store(allocations, SeqCst);
        loop {
            std::hint::spin_loop(); // The thread can't exit without a system call.
        }
    });
    while allocations.load(SeqCst) == NOT_COUNTED {
        thread::yield_now();
    }
    assert_eq!(allocations.load(SeqCst), 0);
}

#[test]
fn a_forbidden_system_call_ends_the_process() {
    if !is_child() {
        let output = run_child("a_forbidden_system_call_ends_the_process");
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
        return;
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    capture_stacks(|progress| {
        forbid_system_calls();
        progress.spin_until_captured();
        thread::yield_now();
    });
    thread::sleep(PATIENCE);
}
