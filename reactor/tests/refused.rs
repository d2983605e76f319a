//! System calls that a sandbox or an old kernel refuses, and exhausted limits.
//!
//! Each test installs a seccomp filter, which is permanent, so it runs on the main thread of its
//! own process.

#![cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]

mod common;

use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp};
use seccompiler::{SeccompCondition, SeccompFilter, SeccompRule};
use windlass::io::copy;
use windlass::process::{Child, Command};
use windlass_reactor::net::lookup_host;
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Async, Reactor, block_on};

/// The errors that sandboxes return instead of `ENOSYS`.
const REFUSALS: [Errno; 6] = [
    Errno::NOSYS,
    Errno::PERM,
    Errno::ACCESS,
    Errno::INVAL,
    Errno::NODEV,
    Errno::OPNOTSUPP,
];

/// From now on applies `action` to these system calls. With `argument`, this affects only calls
/// that have that value at that position.
fn answer(calls: &[i64], argument: Option<(u8, u64)>, action: SeccompAction) {
    let rules = || {
        let rule = argument.map(|(position, value)| {
            let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            let condition = SeccompCondition::new(position, length, equal, value).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        });
        Vec::from_iter(rule)
    };
    let filter = SeccompFilter::new(
        calls.iter().map(|&call| (call, rules())).collect(),
        SeccompAction::Allow,
        action,
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn refuse(calls: &[i64], errno: Errno) {
    answer(calls, None, error(errno));
}

fn error(errno: Errno) -> SeccompAction {
    SeccompAction::Errno(errno.raw_os_error() as u32)
}

/// Runs the test `name` once per errno, each time in a new child process.
fn for_each_refusal(name: &str, body: impl Fn(Errno)) {
    for (number, &errno) in REFUSALS.iter().enumerate() {
        let number = number.to_string();
        let chosen = std::env::var("WINDLASS_REFUSAL");
        if chosen.is_ok_and(|chosen| chosen != number) {
            continue;
        }
        in_child_with(&[("WINDLASS_REFUSAL", &number)], name, || body(errno));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).unwrap()
}

fn wait_for_the_end(child: &Child) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid(child)), ended).unwrap();
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60").kill_on_drop(true);
    command
}

#[test]
fn a_child_is_awaited_where_pidfd_open_is_refused() {
    let name = "a_child_is_awaited_where_pidfd_open_is_refused";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_pidfd_open], errno);
        let status = run(Command::new("false").status()).unwrap();
        assert_eq!(status.code(), Some(1));
        let mut child = sleeper().spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(run(child.wait()).unwrap().signal(), Some(9));
    });
}

#[test]
fn a_child_is_awaited_where_waiting_by_pidfd_is_refused() {
    let name = "a_child_is_awaited_where_waiting_by_pidfd_is_refused";
    for_each_refusal(name, |errno| {
        const P_PIDFD: u64 = 3;
        answer(&[libc::SYS_waitid], Some((0, P_PIDFD)), error(errno));
        let status = run(Command::new("false").status()).unwrap();
        assert_eq!(status.code(), Some(1));
    });
}

#[test]
fn a_child_is_awaited_where_the_poller_refuses_its_pidfd() {
    let name = "a_child_is_awaited_where_the_poller_refuses_its_pidfd";
    for_each_refusal(name, |errno| {
        run(async {
            let mut child = Command::new("false").spawn().unwrap();
            // The thread's socket pair is created later, so its descriptors have other numbers.
            let pidfd = descriptor_of_pidfd();
            if let Some(pidfd) = pidfd {
                answer(&[libc::SYS_epoll_ctl], Some((2, pidfd)), error(errno));
            }
            assert_eq!(child.wait().await.unwrap().code(), Some(1));
        });
    });
}

/// `None` in the portable build, which uses no pidfd.
fn descriptor_of_pidfd() -> Option<u64> {
    let mut found = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let pidfd = found.find(|fd| {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        target.to_string_lossy().contains("pidfd")
    });
    pidfd.map(|fd| fd.file_name().to_str().unwrap().parse().unwrap())
}

#[test]
fn a_child_is_killed_where_signals_by_pidfd_are_refused() {
    let name = "a_child_is_killed_where_signals_by_pidfd_are_refused";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_pidfd_send_signal], errno);
        let mut child = sleeper().spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(run(child.wait()).unwrap().signal(), Some(9));
        let mut dropped = sleeper();
        run(async {
            let (reader, writer) = io::pipe().unwrap();
            drop(dropped.stdout(writer).spawn().unwrap());
            drop(dropped);
            assert_eq!(io::read_to_string(reader).unwrap(), ""); // it has ended
        });
    });
}

/// The PID of a reaped child may already belong to another process.
#[test]
fn the_pid_of_a_child_that_other_code_has_reaped_is_never_used() {
    let name = "the_pid_of_a_child_that_other_code_has_reaped_is_never_used";
    in_child(name, || {
        run(async {
            let mut command = Command::new("true");
            command.kill_on_drop(true);
            let mut children = [(); 2].map(|()| command.spawn().unwrap());
            for child in &children {
                waitpid(Some(pid(child)), WaitOptions::empty()).unwrap();
            }
            answer(&[libc::SYS_kill], Some((1, 9)), SeccompAction::KillProcess);
            assert!(children[0].wait().await.is_err());
            assert!(children[1].try_wait().is_err());
            // From now on both children are known to be reaped, so any wait system call kills this
            // process.
            let waits = [libc::SYS_wait4, libc::SYS_waitid];
            answer(&waits, None, SeccompAction::KillProcess);
            for child in &mut children {
                child.kill().unwrap();
                assert_eq!(child.wait().await.unwrap_err().raw_os_error(), ECHILD);
                assert_eq!(child.try_wait().unwrap_err().raw_os_error(), ECHILD);
            }
            drop(children);
        });
    });
}

const ECHILD: Option<i32> = Some(Errno::CHILD.raw_os_error());

/// No call has failed before the kill.
#[test]
fn a_child_that_the_system_has_reaped_is_not_killed_by_its_pid() {
    let name = "a_child_that_the_system_has_reaped_is_not_killed_by_its_pid";
    in_child(name, || {
        run(async {
            let mut command = Command::new("true");
            command.kill_on_drop(true);
            let [mut killed, dropped] = [command.spawn().unwrap(), command.spawn().unwrap()];
            for child in [&killed, &dropped] {
                waitpid(Some(pid(child)), WaitOptions::empty()).unwrap();
            }
            answer(&[libc::SYS_kill], Some((1, 9)), SeccompAction::KillProcess);
            killed.kill().unwrap();
            drop(dropped);
        });
    });
}

#[test]
fn a_child_that_was_reaped_is_not_killed_by_its_pid() {
    let name = "a_child_that_was_reaped_is_not_killed_by_its_pid";
    in_child(name, || {
        let mut child = Command::new("true").spawn().unwrap();
        wait_for_the_end(&child);
        assert!(run(child.wait()).unwrap().success());
        answer(&[libc::SYS_kill], None, SeccompAction::KillProcess);
        child.kill().unwrap();
        drop(child);
    });
}

/// A loop that sleeps, is woken by another thread, and serves sockets.
fn assert_that_the_loop_works() {
    run(async {
        let start = Instant::now();
        let (mut here, mut there) = tcp_pair().await;
        for _ in 0..3 {
            let (sent, mut byte) = (Instant::now(), [0]);
            let sends = async {
                sleep(Duration::from_millis(3)).await;
                there.write_all(b"x").await.unwrap();
            };
            let (read, ()) = futures::join!(here.read_exact(&mut byte), sends);
            read.unwrap();
            assert!(sent.elapsed() >= Duration::from_millis(3));
        }
        assert!(
            timeout(Duration::from_millis(5), pending::<()>())
                .await
                .is_err()
        );
        assert!(start.elapsed() >= Duration::from_millis(14));
    });
    // More notifications than a pipe can hold. Every one arrives.
    let wakes = Arc::new(AtomicUsize::new(0));
    let (sent, (waker_sender, wakers)) = (wakes.clone(), mpsc::channel::<Waker>());
    let thread = thread::spawn(move || {
        for waker in wakers {
            sent.fetch_add(1, SeqCst);
            waker.wake();
        }
    });
    run(async {
        for round in 1..=10_000 {
            let mut is_sent = false;
            let wakes = poll_fn(|cx| {
                if !std::mem::replace(&mut is_sent, true) {
                    waker_sender.send(cx.waker().clone()).unwrap();
                }
                match wakes.load(SeqCst) {
                    wakes if wakes < round => Poll::Pending,
                    wakes => Poll::Ready(wakes),
                }
            });
            assert_eq!(wakes.await, round);
        }
    });
    drop(waker_sender);
    thread.join().unwrap();
}

#[test]
fn loop_works_without_timerfd() {
    let name = "loop_works_without_timerfd";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_timerfd_create], errno);
        assert_that_the_loop_works();
        // The reactor blocks between turns instead of spinning.
        let reactor = Reactor::current().unwrap();
        let (mut turns, mut nap) = (0, sleep(Duration::from_millis(20)));
        while poll(&mut nap, Waker::noop()).is_pending() {
            reactor.turn(None).unwrap();
            turns += 1;
        }
        assert!(turns < 10, "{turns}");
    });
}

#[test]
fn loop_works_without_eventfd() {
    let name = "loop_works_without_eventfd";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_eventfd2], errno);
        assert_that_the_loop_works();
    });
}

#[test]
fn waker_that_outlives_its_loop_raises_no_signal() {
    in_child("waker_that_outlives_its_loop_raises_no_signal", || {
        // SAFETY: this installs no handler. It is the default in host programs that aren't written
        // in Rust.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        refuse(&[libc::SYS_eventfd2], Errno::NOSYS);
        let own = || run(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        let waker = thread::spawn(own).join().unwrap();
        waker.wake();
    });
}

#[test]
fn a_copy_works_where_splice_is_refused() {
    let name = "a_copy_works_where_splice_is_refused";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_splice], errno);
        let data = pattern(1 << 20, 3);
        run(async {
            let (source, mut sends) = tcp_pair().await;
            let (sink, mut receives) = tcp_pair().await;
            let mut received = Vec::new();
            let sending = async {
                sends.write_all(&data).await.unwrap();
                sends.close().await.unwrap();
            };
            let copying = async {
                let copied = copy(&source, &sink).await.unwrap();
                sink.shutdown(std::net::Shutdown::Write).unwrap();
                copied
            };
            let receiving = receives.read_to_end(&mut received);
            let ((), copied, read) = futures::join!(sending, copying, receiving);
            read.unwrap();
            assert_eq!(copied, data.len() as u64);
            assert!(received == data);
        });
    });
}

#[test]
fn descriptors_become_non_blocking_without_ioctl() {
    let name = "descriptors_become_non_blocking_without_ioctl";
    for_each_refusal(name, |errno| {
        refuse(&[libc::SYS_ioctl], errno);
        let (here, _there) = socket_pair();
        let here = Async::new(here).unwrap();
        let flags = rustix::fs::fcntl_getfl(&here).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        let output = run(Command::new("echo").arg("ahoy").output()).unwrap();
        assert_eq!(output.stdout, b"ahoy\n");
        let (reader, _writer) = windlass::io::pipe().unwrap();
        let reader = reader.into_blocking_fd().unwrap();
        let flags = rustix::fs::fcntl_getfl(&reader).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    });
}

#[test]
fn connections_are_accepted_without_accept4() {
    let name = "connections_are_accepted_without_accept4";
    for_each_socket_refusal(name, |errno| {
        refuse(&[libc::SYS_accept4], errno);
        run(async {
            let (mut here, mut there) = tcp_pair().await;
            there.write_all(b"ahoy").await.unwrap();
            here.read_exact(&mut [0; 4]).await.unwrap();
            assert_is_complete(&here);
            let mut byte = [0];
            assert!(timeout(Duration::ZERO, here.read(&mut byte)).await.is_err());
        });
    });
}

#[test]
fn sockets_are_created_without_socket_flags() {
    let name = "sockets_are_created_without_socket_flags";
    for_each_socket_refusal(name, |errno| {
        let (nonblocking, stream) = (libc::SOCK_NONBLOCK as u64, libc::SOCK_STREAM as u64);
        let with_flags = stream | nonblocking | libc::SOCK_CLOEXEC as u64;
        answer(&[libc::SYS_socket], Some((1, with_flags)), error(errno));
        run(async {
            let (here, there) = tcp_pair().await;
            assert_is_complete(&here);
            assert_is_complete(&there);
        });
    });
}

/// Other architectures have `pipe2` only.
#[cfg(target_arch = "x86_64")]
#[test]
fn pipes_are_made_where_pipe2_is_refused() {
    for_each_refusal("pipes_are_made_where_pipe2_is_refused", |errno| {
        refuse(&[libc::SYS_pipe2], errno);
        let (reader, writer) = windlass::io::pipe().unwrap();
        assert_is_complete(&reader);
        drop(writer);
    });
}

/// Skips errnos that socket calls also return for other reasons, because the system call is then
/// retried.
fn for_each_socket_refusal(name: &str, body: impl Fn(Errno)) {
    for_each_refusal(name, |errno| {
        if ![Errno::NODEV, Errno::OPNOTSUPP].contains(&errno) {
            body(errno);
        }
    });
}

fn assert_is_complete(socket: &impl AsFd) {
    let flags = rustix::fs::fcntl_getfl(socket).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    let flags = rustix::io::fcntl_getfd(socket).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

const STARTS: [i64; 2] = [libc::SYS_clone, libc::SYS_clone3];

#[test]
fn out_of_processes_is_an_error_of_its_own() {
    in_child("out_of_processes_is_an_error_of_its_own", || {
        refuse(&STARTS, Errno::AGAIN);
        for error in [
            run(Command::new("true").status()).unwrap_err(),
            run(Command::new("true").output()).unwrap_err(),
            Command::new("true").spawn().unwrap_err(),
        ] {
            assert_is_shortage(&error, "cannot start a process: no process or thread");
        }
    });
}

#[test]
fn out_of_threads_is_an_error_of_its_own() {
    in_child("out_of_threads_is_an_error_of_its_own", || {
        refuse(&[libc::SYS_pidfd_open], Errno::NOSYS);
        let mut child = sleeper().spawn().unwrap();
        refuse(&STARTS, Errno::AGAIN);
        let error = run(child.wait()).unwrap_err();
        assert_is_shortage(&error, "cannot start a thread: no process or thread");
        let error = run(lookup_host("localhost:80")).unwrap_err();
        assert_is_shortage(&error, "cannot start a thread: no process or thread");
        // `kill` still works, and so does waiting, which needs no thread.
        child.kill().unwrap();
        wait_for_the_end(&child);
        assert_eq!(block_on(child.wait()).unwrap().signal(), Some(9));
    });
}

/// The chain of sources ends with the system's error.
fn assert_is_shortage(error: &io::Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    let first: &dyn std::error::Error = error;
    let sources = std::iter::successors(Some(first), |error| error.source());
    let mut errnos = sources.filter_map(|it| it.downcast_ref::<io::Error>()?.raw_os_error());
    assert_eq!(errnos.next(), Some(Errno::AGAIN.raw_os_error()));
}
