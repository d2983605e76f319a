//! Anonymous pipes.

// On Windows there are none that a poller can watch.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass_reactor::io::pipe;
use windlass_reactor::time::sleep;

#[test]
fn a_pipe_carries_more_than_it_holds_and_ends_when_it_is_closed() {
    let data = pattern(1 << 20, 7);
    run(async {
        let (mut reader, mut writer) = pipe().unwrap();
        let mut read = Vec::new();
        let (wrote, got) = join!(
            async {
                writer.write_all(&data).await?;
                writer.close().await
            },
            reader.read_to_end(&mut read)
        );
        wrote.unwrap();
        got.unwrap();
        assert!(read == data);
        let error = writer.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(writer.into_blocking_fd().is_err());
    });
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_for_who_waits_to_write() {
    run(async {
        let (reader, mut writer) = pipe().unwrap();
        let (wrote, ()) = join!(writer.write_all(&[0; 1 << 20]), async {
            sleep(Duration::ZERO).await;
            drop(reader);
        });
        assert_eq!(wrote.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_read_that_is_dropped_has_taken_nothing() {
    run(async {
        let (mut reader, mut writer) = pipe().unwrap();
        let mut buffer = [0; 8];
        assert!(poll(&mut reader.read(&mut buffer), Waker::noop()).is_pending());
        writer.write_all(b"ahoy").await.unwrap();
        sleep(Duration::ZERO).await;
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"ahoy");
    });
}

#[test]
fn children_inherit_no_end_of_it() {
    run(async {
        let (mut reader, writer) = pipe().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn an_end_that_is_taken_out_blocks() {
    let (reader, writer) = pipe().unwrap();
    let mut reader = File::from(reader.into_blocking_fd().unwrap());
    let mut writer = File::from(writer.into_blocking_fd().unwrap());
    let data = pattern(1 << 20, 9);
    let sent = data.clone();
    let thread = thread::spawn(move || writer.write_all(&sent));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    thread.join().unwrap().unwrap();
    assert!(read == data);
}
