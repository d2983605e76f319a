//! Anonymous pipes.

// Pollers cannot watch the anonymous pipes of Windows.
#![cfg(unix)]

#[path = "../reactor/tests/common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, join};
use windlass::io::{PipeWriter, pipe};
use windlass::time::sleep;

#[test]
fn a_pipe_carries_more_than_its_capacity_until_it_is_closed() {
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
fn a_pending_write_to_a_pipe_without_readers_is_an_error() {
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
fn a_dropped_read_takes_no_bytes() {
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
fn children_inherit_no_end_of_a_pipe() {
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

#[test]
fn vectored_reads_and_writes_use_all_buffers() {
    run(async {
        let (mut reader, mut writer) = pipe().unwrap();
        let bufs = [
            IoSlice::new(b"all "),
            IoSlice::new(b""),
            IoSlice::new(b"hands"),
        ];
        assert_eq!(writer.write_vectored(&bufs).await.unwrap(), 9);
        let (mut one, mut two) = ([0; 2], [0; 16]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(reader.read_vectored(&mut bufs).await.unwrap(), 9);
        assert_eq!((&one, &two[..7]), (b"al", &b"l hands"[..]));
        writer.close().await.unwrap();
        let error = writer.write_vectored(&[IoSlice::new(b"x")]).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn streams_of_a_child_take_vectored_reads_and_writes() {
    run(async {
        let mut command = windlass::process::Command::new("cat");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bufs = [IoSlice::new(b"all "), IoSlice::new(b"hands")];
        assert_eq!(stdin.write_vectored(&bufs).await.unwrap(), 9);
        let (mut one, mut two) = ([0; 2], [0; 16]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        let stdout = child.stdout.as_mut().unwrap();
        assert_eq!(stdout.read_vectored(&mut bufs).await.unwrap(), 9);
        drop(stdin);
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn a_pending_write_fails_when_another_task_closes_the_pipe() {
    run(async {
        let (_reader, writer) = pipe().unwrap();
        let writer = RefCell::new(writer);
        while poll_write(&writer, Waker::noop()).is_ready() {}
        let (counter, waker) = Counter::new();
        assert!(poll_write(&writer, &waker).is_pending());
        let closed = writer.borrow_mut().close().now_or_never();
        closed.unwrap().unwrap();
        assert_eq!(counter.wakes(), 1);
        let Poll::Ready(Err(error)) = poll_write(&writer, &waker) else {
            panic!("the pipe is closed");
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

fn poll_write(writer: &RefCell<PipeWriter>, waker: &Waker) -> Poll<std::io::Result<usize>> {
    let mut writer = writer.borrow_mut();
    Pin::new(&mut *writer).poll_write(&mut Context::from_waker(waker), &[7; 4096])
}
