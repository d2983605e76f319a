//! The standard streams on Windows. Each test starts itself again as a child and uses its streams.

#![cfg(windows)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::env;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio, exit};
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass::io::{stderr, stdin, stdout};
use windlass::time::timeout;

fn is_child() -> bool {
    env::var_os("WINDLASS_CHILD").is_some()
}

/// Starts the test `name` as a child. The child writes to its error output, which the test harness
/// leaves alone.
fn again(name: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("WINDLASS_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn hear(child: &mut Child, word: &[u8]) {
    let mut heard = vec![0; word.len()];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut heard)
        .unwrap();
    assert_eq!(heard, word, "{}", String::from_utf8_lossy(&heard));
}

#[test]
fn a_pending_read_takes_no_bytes_and_delays_no_exit() {
    if is_child() {
        run(async {
            let (mut input, mut buffer) = (stdin(), [0; 4]);
            for _ in 0..3 {
                let read = input.read(&mut buffer);
                assert!(timeout(Duration::from_millis(1), read).await.is_err());
            }
            stderr().write_all(b"silent").await.unwrap();
            // Another handle reads the input, in parts.
            let mut input = stdin();
            input.read_exact(&mut buffer[..2]).await.unwrap();
            input.read_exact(&mut buffer[2..]).await.unwrap();
            stderr().write_all(&buffer).await.unwrap();
            let read = input.read(&mut buffer);
            assert!(timeout(Duration::from_millis(1), read).await.is_err());
        });
        exit(7);
    }
    let mut child = again("a_pending_read_takes_no_bytes_and_delays_no_exit");
    let mut input = child.stdin.take().unwrap();
    hear(&mut child, b"silent");
    input.write_all(b"ahoy").unwrap();
    hear(&mut child, b"ahoy");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    drop(input);
}

#[test]
fn concurrent_readers_get_each_byte_once() {
    if is_child() {
        run(async {
            let reader = || async {
                let mut heard = Vec::new();
                stdin().read_to_end(&mut heard).await.unwrap();
                heard
            };
            let (a, b, c) = join!(reader(), reader(), reader());
            let mut all = [a, b, c].concat();
            all.sort();
            stderr().write_all(&all).await.unwrap();
        });
        exit(7);
    }
    let mut child = again("concurrent_readers_get_each_byte_once");
    let data: Vec<u8> = (0..200).flat_map(|byte| vec![byte; 500]).collect();
    child.stdin.take().unwrap().write_all(&data).unwrap();
    hear(&mut child, &data);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn written_data_reaches_the_output() {
    if is_child() {
        run(async { stdout().write_all(b"ahoy without a line's end").await }).unwrap();
        exit(7); // skips all flushes
    }
    let output = again("written_data_reaches_the_output")
        .wait_with_output()
        .unwrap();
    assert!(output.stdout.ends_with(b"ahoy without a line's end"));
}
