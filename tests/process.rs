//! Child processes. Covers their output and exit, and that zombies and descriptors are cleaned up.

// Windows has other programs and signals, which `process_windows.rs` tests.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, join, stream};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, getrlimit, kill_process,
    setrlimit, test_kill_process, waitid, waitpid,
};
use windlass::Async;
use windlass::io::{copy, pipe};
use windlass::process::{Child, ChildStdin, Command, Stdio};
use windlass::time::sleep;
use windlass_reactor::Reactor;

/// A shell that runs `script`.
fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Starts the command with a pipe as its standard input.
fn waiting(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn cat() -> Child {
    waiting(Command::new("cat").stdout(Stdio::piped()))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).unwrap()
}

/// Waits with `waitid` until the child has ended, and leaves it a zombie.
fn wait_for_the_end(child: &Child) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid(child)), ended).unwrap();
}

/// Returns true if this process has children, zombies included.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::All, options) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, Errno::CHILD);
            false
        }
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_status_is_the_code_or_the_signal_that_ended_the_child() {
    run(async {
        assert_eq!(sh("exit 7").status().await.unwrap().code(), Some(7));
        let status = sh("kill -TERM $$").status().await.unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(15)));
    });
}

#[test]
fn arguments_environment_and_directory_are_passed_on() {
    run(async {
        let mut command = sh("echo $0 $1 $A $B $C $D; pwd");
        command.arg("zero").args(["one"]);
        command.env("A", "a").envs([("B", "b"), ("C", "c")]);
        command.env_remove("B").current_dir("/");
        let output = command.output().await.unwrap();
        assert_eq!(output.stdout, b"zero one a c\n/\n");

        let mut command = Command::new("/usr/bin/env");
        command.env("A", "a").env_clear().env("B", "b");
        assert_eq!(command.output().await.unwrap().stdout, b"B=b\n");
    });
}

#[test]
fn a_std_command_can_be_converted() {
    let mut std = std::process::Command::new("echo");
    std.arg("ahoy");
    let mut command = Command::from(std);
    command.as_std_mut().arg("there");
    assert_eq!(command.as_std().get_args().count(), 2);
    let output = run(command.output()).unwrap();
    assert_eq!(output.stdout, b"ahoy there\n");
}

#[test]
fn a_failed_start_returns_the_error_of_std() {
    in_child("a_failed_start_returns_the_error_of_std", || {
        run(sleep(Duration::ZERO)); // opens the descriptors of the reactor
        let before = descriptors();
        for attempt in [
            Command::new("/no/such/program").spawn().map(drop),
            run(Command::new("/no/such/program").output()).map(drop),
            Command::new("cat")
                .current_dir("/no/such")
                .spawn()
                .map(drop),
        ] {
            let error = attempt.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
        }
        assert_eq!(descriptors(), before);
        assert!(!has_children());
    });
}

#[test]
fn both_outputs_are_read_whichever_fills_first() {
    const MIB: usize = 1 << 20;
    let script = "head -c 1048576 /dev/zero >&2; head -c 1048576 /dev/zero; echo end >&2; echo end";
    let output = run(sh(script).output()).unwrap();
    assert!(output.status.success());
    for bytes in [output.stdout, output.stderr] {
        assert_eq!(bytes.len(), MIB + 4);
        assert!(bytes[..MIB].iter().all(|byte| *byte == 0));
        assert_eq!(&bytes[MIB..], b"end\n");
    }
}

#[test]
fn output_replaces_only_streams_that_were_not_set() {
    run(async {
        // `output` gives the child an empty input.
        assert_eq!(Command::new("cat").output().await.unwrap().stdout, b"");

        let (here, there) = UnixStream::pair().unwrap();
        let mut command = sh("echo out; echo err >&2");
        command.stderr(OwnedFd::from(there));
        let output = command.output().await.unwrap();
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"out\n"[..], &b""[..])
        );
        // A later `spawn` inherits the streams of this process again.
        let mut child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        child.wait().await.unwrap();
        drop(command);
        let mut said = String::new();
        (&here).read_to_string(&mut said).unwrap();
        assert_eq!(said, "err\nerr\n");
    });
}

#[test]
fn a_child_is_written_to_and_read_from_concurrently() {
    let data = pattern(1 << 20, 3);
    run(async {
        let mut child = cat();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut read = Vec::new();
        let (wrote, got) = join!(
            async {
                stdin.write_all(&data).await?;
                stdin.close().await // ends the input although `stdin` is alive
            },
            stdout.read_to_end(&mut read)
        );
        wrote.unwrap();
        got.unwrap();
        assert!(read == data);
        assert!(child.wait().await.unwrap().success());
        let error = stdin.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn wait_closes_the_childs_input_first() {
    run(async {
        let mut child = cat();
        assert!(child.wait().await.unwrap().success());
        assert!(child.stdin.is_none());
        let output = cat().wait_with_output().await.unwrap();
        assert!(output.status.success());
        let mut command = Command::new("cat");
        let status = command.stdin(Stdio::piped()).status().await.unwrap();
        assert!(status.success());
    });
}

#[test]
fn try_wait_neither_waits_nor_closes_the_childs_input() {
    run(async {
        let mut child = cat();
        assert_eq!(child.try_wait().unwrap(), None);
        let stdin = child.stdin.take();
        assert!(stdin.is_some());
        assert!(child.wait().now_or_never().is_none());
        drop(stdin);
        wait_for_the_end(&child);
        let status = child.try_wait().unwrap().unwrap();
        assert_eq!(child.try_wait().unwrap(), Some(status));
        // A known status is returned at once.
        assert_eq!(child.wait().now_or_never().unwrap().unwrap(), status);
        assert_eq!(child.wait().await.unwrap(), status);
    });
}

#[test]
fn a_child_may_close_its_output_long_before_it_ends() {
    run(async {
        let mut child =
            waiting(sh("echo ahoy; exec >&-; read line; exit 3").stdout(Stdio::piped()));
        let mut said = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "ahoy\n");
        assert_eq!(child.try_wait().unwrap(), None);
        child.stdin = None;
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(3));
    });
}

#[test]
fn writing_to_a_child_that_reads_no_more_is_an_error() {
    run(async {
        let mut child = waiting(&mut sh("exec <&-; exec sleep 600"));
        let mut stdin = child.stdin.take().unwrap();
        let error = loop {
            match stdin.write(&[0; 4096]).await {
                Ok(_) => {} // the child still has its input open, or there is room
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().await.unwrap();
    });
}

#[test]
fn a_grandchild_with_the_pipe_delays_reads_but_not_wait() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = Async::new(here).unwrap();
        // The grandchild inherits the child's output, and reads until `here` is dropped.
        let mut command = sh("exec 3<&0; cat <&3 & echo $$ >&3; echo ahoy");
        command.stdin(OwnedFd::from(there)).stdout(Stdio::piped());

        let mut child = command.spawn().unwrap();
        assert!(child.wait().await.unwrap().success());
        drop(child);
        let mut number = [0; 64];
        assert!(here.read(&mut number).await.unwrap() > 1);

        let mut output = Box::pin(command.output());
        assert!(output.as_mut().now_or_never().is_none());
        let n = here.read(&mut number).await.unwrap();
        let number = std::str::from_utf8(&number[..n]).unwrap().trim();
        let child = Pid::from_raw(number.parse().unwrap()).unwrap();
        while test_kill_process(child) != Err(Errno::SRCH) {
            assert!(output.as_mut().now_or_never().is_none());
            sleep(Duration::ZERO).await;
        }
        here.get_ref().shutdown(Shutdown::Both).unwrap(); // ends the grandchild
        assert_eq!(output.await.unwrap().stdout, b"ahoy\n");
    });
}

#[test]
fn output_of_one_child_is_input_of_another() {
    run(async {
        let mut first = cat();
        let pipe = first.stdout.take().unwrap().into_blocking_fd().unwrap();
        let flags = rustix::fs::fcntl_getfl(&pipe).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        let mut second = Command::new("tr");
        second
            .args(["a-z", "A-Z"])
            .stdin(pipe)
            .stdout(Stdio::piped());
        let reading = second.spawn().unwrap().wait_with_output();
        drop(second);
        let writing = async {
            let mut stdin = first.stdin.take().unwrap();
            stdin.write_all(b"ahoy").await.unwrap();
            drop(stdin);
            first.wait().await.unwrap();
        };
        let (output, ()) = join!(reading, writing);
        assert_eq!(output.unwrap().stdout, b"AHOY");
    });
}

#[test]
fn a_pipeline_of_two_commands_needs_no_copy() {
    run(async {
        // Through the output of the first, and through a pipe of this process.
        let mut first = cat();
        let output = first.stdout.take().unwrap();
        let mut second = Command::new("wc");
        second.arg("-c").stdin(output).stdout(Stdio::piped());
        let second = second.spawn().unwrap(); // drops the command, which has the reader
        let (reader, writer) = pipe().unwrap();
        // The temporary command, which has the writer, is dropped as well.
        let mut third = waiting(Command::new("cat").stdout(writer));
        let mut fourth = sh("wc -c")
            .stdin(reader)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for child in [&mut first, &mut third] {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(&[b'x'; 200_000]).await.unwrap();
            drop(stdin);
            assert!(child.wait().await.unwrap().success());
        }
        let counted = second.wait_with_output().await.unwrap();
        assert_eq!(counted.stdout.trim_ascii(), b"200000");
        let mut text = String::new();
        let mut stdout = fourth.stdout.take().unwrap();
        stdout.read_to_string(&mut text).await.unwrap();
        assert_eq!(text.trim(), "200000");
        assert!(fourth.wait().await.unwrap().success());
    });
}

#[test]
fn a_pipeline_through_this_process_delivers_all_bytes() {
    run(async {
        let (mut first, second) = (cat(), waiting(sh("wc -c").stdout(Stdio::piped())));
        let mut second = second;
        let (from, to) = (first.stdout.take().unwrap(), second.stdin.take().unwrap());
        let writing = async {
            let mut stdin = first.stdin.take().unwrap();
            stdin.write_all(&vec![b'x'; 3_000_000]).await
        };
        let (copied, written) = join!(copy(from, to), writing);
        assert_eq!(copied.unwrap(), 3_000_000);
        written.unwrap();
        let counted = second.wait_with_output().await.unwrap();
        assert_eq!(counted.stdout.trim_ascii(), b"3000000");
        assert!(first.wait().await.unwrap().success());
    });
}

#[test]
fn a_converted_pipe_end_blocks_and_is_closed_by_its_owner() {
    run(async {
        let (reader, writer) = pipe().unwrap();
        let is_nonblocking = |fd: BorrowedFd<'_>| {
            let flags = rustix::fs::fcntl_getfl(fd).unwrap();
            flags.contains(rustix::fs::OFlags::NONBLOCK)
        };
        assert!(is_nonblocking(reader.as_fd()) && is_nonblocking(writer.as_fd()));
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        assert!(!is_nonblocking(reader.as_fd()) && !is_nonblocking(writer.as_fd()));
        drop(writer);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));

        let (_reader, mut writer) = pipe().unwrap();
        writer.close().await.unwrap();
        let converted = AssertUnwindSafe(|| drop(Stdio::from(writer)));
        let panic = catch_unwind(converted).unwrap_err();
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or(panic.downcast_ref::<&str>().copied());
        assert_eq!(message, Some("this end of the pipe was closed"));
    });
}

#[test]
fn a_child_gets_the_signal_that_is_sent_to_it() {
    run(async {
        let mut child =
            sh("trap 'echo usr1; exit 7' USR1; echo ready; while :; do sleep 0.01; done");
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).await.unwrap();
        child.signal(windlass::signal::Signal::USR1).unwrap();
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "usr1\n");
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        child.signal(windlass::signal::Signal::TERM).unwrap();
    });
}

#[test]
fn a_child_can_be_stopped_and_continued() {
    run(async {
        let mut child = cat();
        child.signal(windlass::signal::Signal::STOP).unwrap();
        let stopped = WaitIdOptions::STOPPED;
        waitid(WaitId::Pid(pid(&child)), stopped).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        child.signal(windlass::signal::Signal::CONT).unwrap();
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn a_signal_has_no_effect_on_a_child_that_has_ended() {
    use windlass::signal::Signal;
    let _reactor = Reactor::current().unwrap();
    for (prepare, _) in STATES {
        let mut child = cat();
        let _held = prepare(&mut child);
        child.signal(Signal::KILL).unwrap();
        let status = run(child.wait()).unwrap();
        child.signal(Signal::TERM).unwrap();
        assert_eq!(run(child.wait()).unwrap(), status);
    }
}

#[test]
fn a_number_that_is_no_signal_is_an_error() {
    use windlass::signal::Signal;
    let mut child = cat();
    for number in [0, -1, 1000] {
        let signal = Signal::from_raw(number);
        let error = child.signal(signal).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    #[cfg(target_os = "linux")]
    {
        let realtime = Signal::from_raw(libc::SIGRTMIN() + 1);
        child.signal(realtime).unwrap();
        let status = run(child.wait()).unwrap();
        assert_eq!(status.signal(), Some(realtime.as_raw()));
    }
    child.kill().unwrap();
}

/// Brings a child, a `cat`, into a state. The returned pipe keeps the child running.
type Prepare = fn(&mut Child) -> Option<ChildStdin>;

/// All states of a child, and the signal that ends it if it is killed in that state.
const STATES: &[(Prepare, Option<i32>)] = &[
    (|it| it.stdin.take(), Some(9)), // running
    (
        |it| {
            kill_process(pid(it), Signal::STOP).unwrap();
            None
        },
        Some(9),
    ),
    (
        |it| {
            let stdin = it.stdin.take();
            assert!(it.wait().now_or_never().is_none()); // starts a wait
            stdin
        },
        Some(9),
    ),
    (
        |it| {
            it.stdin = None;
            wait_for_the_end(it);
            None
        },
        None,
    ),
    (
        |it| {
            let stdin = it.stdin.take();
            assert!(it.wait().now_or_never().is_none());
            drop(stdin);
            wait_for_the_end(it); // ends after the wait has started
            None
        },
        None,
    ),
    (
        |it| {
            assert!(run(it.wait()).unwrap().success()); // reaped
            None
        },
        None,
    ),
    (
        |it| {
            it.kill().unwrap();
            assert_eq!(run(it.wait()).unwrap().signal(), Some(9));
            None
        },
        Some(9),
    ),
];

#[test]
fn a_child_can_be_killed_in_every_state_and_then_waited_for() {
    let _reactor = Reactor::current().unwrap();
    for (prepare, signal) in STATES {
        let mut child = cat();
        let _held = prepare(&mut child);
        child.kill().unwrap();
        child.kill().unwrap();
        assert_eq!(run(child.wait()).unwrap().signal(), *signal);
        child.kill().unwrap();
    }
}

#[test]
fn a_child_can_be_dropped_in_every_state_and_is_reaped() {
    in_child(
        "a_child_can_be_dropped_in_every_state_and_is_reaped",
        || {
            let reactor = Reactor::current().unwrap();
            settle(&reactor);
            let before = descriptors();
            for (prepare, _) in STATES {
                for kill in [true, false] {
                    let mut command = Command::new("cat");
                    command.stdout(Stdio::piped()).kill_on_drop(kill);
                    let mut child = waiting(&mut command);
                    let (held, pid) = (prepare(&mut child), pid(&child));
                    drop(child);
                    if !kill {
                        drop(held);
                        let _ = kill_process(pid, Signal::CONT);
                    }
                    turn_until(&reactor, || !has_children());
                }
            }
            // If a thread waits for the child, its descriptor is closed a moment later.
            wait_until(|| descriptors() == before);
        },
    );
}

#[test]
fn a_dropped_child_keeps_running() {
    run(async {
        let mut child = cat();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        drop(child);
        stdin.write_all(b"ahoy").await.unwrap();
        let mut text = [0; 4];
        stdout.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ahoy");
    });
}

#[test]
fn dropping_a_child_with_kill_on_drop_kills_it() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = Async::new(here).unwrap();
        let mut command = Command::new("cat");
        command.stdin(OwnedFd::from(there)).kill_on_drop(true);
        let mut gone = [0; 1];
        for _ in 0..2 {
            assert!(command.output().now_or_never().is_none());
            assert!(command.status().now_or_never().is_none());
            drop(command.spawn().unwrap());
        }
        drop(command);
        // All copies of the other end are closed.
        assert_eq!(here.read(&mut gone).await.unwrap(), 0);
    });
}

#[test]
fn wait_and_read_can_be_dropped_and_restarted() {
    run(async {
        let mut child = cat();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut text = [0; 8];
        for _ in 0..3 {
            assert!(child.wait().now_or_never().is_none());
            assert!(stdout.read(&mut text).now_or_never().is_none());
            sleep(Duration::ZERO).await;
        }
        stdin.write_all(b"ahoy").await.unwrap();
        assert_eq!(stdout.read(&mut text).await.unwrap(), 4);
        assert!(child.wait().now_or_never().is_none());
        drop(stdin);
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn a_child_that_other_code_has_reaped_is_an_error() {
    run(async {
        for waits_already in [true, false] {
            let mut child = cat();
            let (stdin, pid) = (child.stdin.take(), pid(&child));
            if waits_already {
                assert!(child.wait().now_or_never().is_none());
            }
            drop(stdin);
            waitpid(Some(pid), WaitOptions::empty()).unwrap();
            let error = child.wait().await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::CHILD.raw_os_error()));
            assert!(child.try_wait().is_err());
        }
    });
}

#[test]
fn a_reaped_child_holds_no_descriptor() {
    in_child("a_reaped_child_holds_no_descriptor", || {
        run(async {
            let before = descriptors();
            let mut child = waiting(&mut Command::new("cat"));
            let stdin = child.stdin.take();
            assert!(child.wait().now_or_never().is_none());
            drop(stdin);
            assert!(child.wait().await.unwrap().success());
            while descriptors() != before {
                sleep(Duration::ZERO).await; // a thread that waits ends by itself
            }
        });
    });
}

#[test]
fn wait_without_descriptors_is_an_error_and_can_be_retried() {
    let name = "wait_without_descriptors_is_an_error_and_can_be_retried";
    in_child(name, || {
        run(async {
            let limit = getrlimit(Resource::Nofile);
            let current = Some(descriptors() as u64 + 20);
            setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
            let open = || fs::File::open("/dev/null").ok();
            let hoard: Vec<_> = std::iter::from_fn(open).collect();
            // All descriptors are in use, so opening a pidfd fails too.
            let mut sleeper = Command::new("sleep");
            sleeper.arg("60");
            let [mut child, mut dropped] = [(); 2].map(|()| sleeper.spawn().unwrap());
            let error = child.wait().await.unwrap_err();
            dropped.kill().unwrap();
            drop(dropped);
            drop(hoard);
            assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
            assert!(child.wait().now_or_never().is_none());
            child.kill().unwrap();
            assert_eq!(child.wait().await.unwrap().signal(), Some(9));
            // If the other child ended later, the next spawn reaps it.
            if has_children() {
                waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
            }
            Command::new("true").status().await.unwrap();
            assert!(!has_children());
        });
    });
}

/// A child holds a pidfd from its start until it has been waited for.
#[test]
fn wait_needs_no_descriptor_beyond_those_of_the_start() {
    if cfg!(not(target_os = "linux")) || cfg!(windlass_portable) {
        return;
    }
    let name = "wait_needs_no_descriptor_beyond_those_of_the_start";
    in_child(name, || {
        run(async {
            let mut child = cat();
            let limit = getrlimit(Resource::Nofile);
            let current = Some(0);
            setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
            assert!(child.wait().await.unwrap().success());
        });
    });
}

#[test]
fn wait_without_a_loop_fails_and_the_next_spawn_reaps() {
    let name = "wait_without_a_loop_fails_and_the_next_spawn_reaps";
    in_child(name, || {
        let mut child = cat();
        let stdin = child.stdin.take();
        let error = child.wait().now_or_never().unwrap().unwrap_err();
        assert!(error.to_string().contains("no reactor turns"), "{error}");
        drop(child);
        drop(stdin);
        waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(has_children());
        let next = waiting(&mut Command::new("true"));
        wait_for_the_end(&next);
        drop(next);
        assert!(!has_children());
    });
}

#[test]
fn a_child_of_an_ended_thread_is_reaped_by_the_next_spawn() {
    let name = "a_child_of_an_ended_thread_is_reaped_by_the_next_spawn";
    in_child(name, || {
        let before = descriptors();
        let thread = thread::spawn(|| {
            let _reactor = Reactor::current().unwrap();
            let stdin = cat().stdin.take().unwrap(); // watched until the thread ends
            stdin.into_blocking_fd().unwrap()
        });
        drop(thread.join().unwrap());
        waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(has_children());
        thread::spawn(|| assert!(run(Command::new("true").status()).unwrap().success()))
            .join()
            .unwrap();
        assert!(!has_children());
        wait_until(|| descriptors() == before); // including those of a waiting thread
    });
}

#[test]
fn a_thousand_children_leak_no_process_thread_or_descriptor() {
    let name = "a_thousand_children_leak_no_process_thread_or_descriptor";
    in_child(name, || {
        run(async {
            // Counted before the first child, because a thread that waits for it may linger.
            let threads_before = threads();
            Command::new("true").status().await.unwrap();
            let before = descriptors();
            let live = async |number: usize| {
                let mut command = Command::new("true");
                match number % 3 {
                    0 => assert!(command.status().await.unwrap().success()),
                    1 => assert!(command.output().await.unwrap().status.success()),
                    _ => drop(command.spawn().unwrap()),
                }
                if cfg!(not(windlass_portable)) {
                    assert_eq!(threads(), threads_before);
                }
            };
            let lives = stream::iter(0..1000).map(live).buffer_unordered(50);
            assert_eq!(lives.count().await, 1000);
            while has_children() || descriptors() != before || threads() != threads_before {
                sleep(Duration::ZERO).await;
            }
        });
    });
}

#[test]
fn a_child_inherits_nothing_but_its_streams() {
    in_child("a_child_inherits_nothing_but_its_streams", || {
        let mut command = std::process::Command::new("ls");
        command.arg("/proc/self/fd");
        let before = command.output().unwrap().stdout;
        run(async {
            let mut others = [cat(), cat()];
            let _held = others[0].stdin.take();
            assert!(others[0].wait().now_or_never().is_none());
            let output = Command::from(command).output().await.unwrap();
            assert_eq!(output.stdout, before);
        });
    });
}

#[test]
fn wakers_may_start_wait_for_and_drop_children() {
    in_child("wakers_may_start_wait_for_and_drop_children", || {
        let reactor = Reactor::current().unwrap();
        let (calls, inner) = (Rc::new(Cell::new(0)), reactor.clone());
        let count = calls.clone();
        hook(move |_| {
            count.set(count.get() + 1);
            let (mut waits, mut killed) = (cat(), cat());
            let stdin = waits.stdin.take();
            assert!(waits.wait().now_or_never().is_none());
            killed.kill().unwrap();
            drop((waits, killed, stdin));
            settle(&inner);
        });
        for (prepare, _) in STATES {
            let mut child = cat();
            let (held, pid) = (prepare(&mut child), pid(&child));
            let _ = poll(&mut Box::pin(child.wait()), &hooked());
            drop(child);
            drop(held);
            let _ = kill_process(pid, Signal::CONT);
        }
        turn_until(&reactor, || !has_children());
        unhook();
        assert!(calls.get() > 0);
    });
}
