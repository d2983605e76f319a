//! Child processes on Windows. They run `cmd`, or this test binary again.

#![cfg(windows)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::exit;
use std::time::Duration;

use common::*;
use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, join};
use windlass::io::copy;
use windlass::process::{Child, Command, Stdio};
use windlass::time::{sleep, timeout};
use windlass_reactor::Reactor;

fn cmd(script: &str) -> Command {
    let mut command = Command::new("cmd");
    command.args(["/c", script]);
    command
}

/// Copies its input to its error output, because the test harness writes to the standard output.
/// Ends with exit code 7.
fn cat() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "copies_its_input_if_it_is_a_child",
            "--exact",
            "--nocapture",
        ])
        .env("WINDLASS_CAT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[test]
fn copies_its_input_if_it_is_a_child() {
    if env::var_os("WINDLASS_CAT").is_some() {
        let _ = io::copy(&mut io::stdin(), &mut io::stderr());
        exit(7);
    }
}

/// Waits until the cat has echoed a first word.
async fn greet(cat: &mut Child) {
    let mut heard = [0; 4];
    let (stdin, stderr) = (cat.stdin.as_mut().unwrap(), cat.stderr.as_mut().unwrap());
    stdin.write_all(b"ahoy").await.unwrap();
    stderr.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ahoy");
}

#[test]
fn a_status_is_the_code_of_the_child() {
    run(async {
        assert_eq!(cmd("exit 7").status().await.unwrap().code(), Some(7));
        assert!(cmd("exit 0").status().await.unwrap().success());
    });
}

#[test]
fn both_outputs_are_collected() {
    run(async {
        let output = cmd("echo ahoy& echo there 1>&2").output().await.unwrap();
        assert_eq!(output.stdout.trim_ascii(), b"ahoy");
        assert_eq!(output.stderr.trim_ascii(), b"there");
        assert!(output.status.success());
    });
}

#[test]
fn a_failed_start_returns_the_error_of_std() {
    let error = Command::new("there-is-no-such-program").spawn();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_child_is_written_to_and_read_from_concurrently() {
    run(async {
        let data = pattern(1 << 20, 1);
        let mut cat = cat().spawn().unwrap();
        let (mut stdin, mut stderr) = (cat.stdin.take().unwrap(), cat.stderr.take().unwrap());
        let mut heard = Vec::new();
        let (wrote, read) = join!(
            async {
                stdin.write_all(&data).await?;
                stdin.close().await
            },
            stderr.read_to_end(&mut heard)
        );
        wrote.unwrap();
        read.unwrap();
        assert!(heard == data);
        assert_eq!(cat.wait().await.unwrap().code(), Some(7));
        assert_eq!(
            stdin.write(b"x").await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn wait_closes_the_childs_input_and_can_be_repeated() {
    run(async {
        let mut cat = cat().spawn().unwrap();
        assert_eq!(cat.try_wait().unwrap(), None);
        assert_eq!(cat.wait().await.unwrap().code(), Some(7));
        assert_eq!(cat.wait().await.unwrap().code(), Some(7));
        assert_eq!(cat.try_wait().unwrap().and_then(|it| it.code()), Some(7));
    });
}

#[test]
fn data_written_before_the_input_is_dropped_is_read() {
    run(async {
        let mut cat = cat().spawn().unwrap();
        cat.stdin.take().unwrap().write_all(b"ahoy").await.unwrap();
        let output = cat.wait_with_output().await.unwrap();
        assert_eq!(
            (&output.stderr[..], output.status.code()),
            (&b"ahoy"[..], Some(7))
        );
    });
}

#[test]
fn writing_to_a_child_that_reads_no_more_is_an_error() {
    run(async {
        let mut child = cmd("exit 0").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().await.unwrap();
        let wrote = async {
            stdin.write_all(b"x").await?;
            stdin.flush().await
        };
        assert_eq!(wrote.await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_child_can_be_killed_before_and_after_its_end() {
    run(async {
        let mut child = cat().spawn().unwrap();
        greet(&mut child).await;
        child.kill().unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(1));
        child.kill().unwrap();
    });
}

#[test]
fn a_dropped_child_keeps_running_without_kill_on_drop() {
    run(async {
        let mut child = cat().spawn().unwrap();
        greet(&mut child).await;
        let (mut stdin, mut stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        drop(child);
        let mut heard = Vec::new();
        stdin.write_all(b"still there").await.unwrap();
        drop(stdin);
        stderr.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"still there");

        let mut child = cat().kill_on_drop(true).spawn().unwrap();
        greet(&mut child).await;
        let (stdin, mut stderr) = (child.stdin.take(), child.stderr.take().unwrap());
        drop(child);
        assert_eq!(stderr.read(&mut [0]).await.unwrap(), 0);
        drop(stdin);
    });
}

#[test]
fn wait_and_read_can_be_dropped_and_restarted() {
    run(async {
        let mut child = cat().spawn().unwrap();
        greet(&mut child).await;
        let mut stdin = child.stdin.take().unwrap();
        for _ in 0..3 {
            let (wait, mut buffer) = (child.wait().now_or_never(), [0; 16]);
            assert!(wait.is_none());
            let read = child.stderr.as_mut().unwrap().read(&mut buffer);
            assert!(timeout(Duration::from_millis(1), read).await.is_err());
        }
        stdin.write_all(b"at last").await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(
            (&output.stderr[..], output.status.code()),
            (&b"at last"[..], Some(7))
        );
    });
}

#[test]
fn the_loop_continues_while_children_are_silent() {
    run(async {
        let mut child = cat().spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut buffer = [0];
        let mut stderr = child.stderr.take().unwrap();
        let end = async {
            sleep(Duration::from_millis(20)).await;
            drop(stdin);
        };
        let (status, read, ()) = join!(child.wait(), stderr.read(&mut buffer), end);
        assert_eq!((status.unwrap().code(), read.unwrap()), (Some(7), 0));
    });
}

#[test]
fn each_of_many_children_is_waited_for() {
    run(async {
        let children = (0..40).map(|code| async move {
            let status = cmd(&format!("exit {code}")).status().await.unwrap();
            assert_eq!(status.code(), Some(code));
        });
        join_all(children).await;
    });
}

#[test]
fn wait_without_a_loop_is_an_error() {
    let mut child = cat().spawn().unwrap();
    let error = futures::executor::block_on(child.wait()).unwrap_err();
    assert!(error.to_string().contains("no reactor turns"), "{error}");
    assert_eq!(run(child.wait()).unwrap().code(), Some(7));
}

#[test]
fn wait_keeps_only_the_last_waker_and_drops_it() {
    let reactor = Reactor::current().unwrap();
    let mut child = cat().spawn().unwrap();
    let ((first, one), (second, two)) = (Counter::new(), Counter::new());
    let mut stdin = child.stdin.take();
    {
        let mut wait = Box::pin(child.wait());
        assert!(poll(&mut wait, &one).is_pending());
        assert!(poll(&mut wait, &two).is_pending());
        stdin.take();
        turn_until(&reactor, || second.wakes() > 0);
        assert!(poll(&mut wait, &two).is_ready());
    }
    drop((one, two, child));
    settle(&reactor);
    assert_eq!(std::sync::Arc::strong_count(&first), 1);
    io::stderr().flush().unwrap();
}

#[test]
fn output_of_a_child_can_be_copied_to_a_socket() {
    run(async {
        let data = pattern(1 << 20, 2);
        let (here, mut there) = tcp_pair().await;
        let mut cat = cat().spawn().unwrap();
        let (mut stdin, stderr) = (cat.stdin.take().unwrap(), cat.stderr.take().unwrap());
        let mut heard = Vec::new();
        let (wrote, copied, read) = join!(
            async {
                stdin.write_all(&data).await?;
                stdin.close().await
            },
            async {
                let copied = copy(stderr, &here).await;
                (&here).close().await?;
                copied
            },
            there.read_to_end(&mut heard)
        );
        wrote.unwrap();
        read.unwrap();
        assert_eq!(copied.unwrap(), data.len() as u64);
        assert!(heard == data);
    });
}
