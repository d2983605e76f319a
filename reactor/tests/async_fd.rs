//! Descriptors of all kinds.

// On Windows only sockets can be watched.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass_reactor::time::sleep;
use windlass_reactor::{Async, Reactor};

fn pipe() -> (Async<File>, Async<File>) {
    let (reader, writer) = pipe_pair();
    (
        Async::new(reader.into()).unwrap(),
        Async::new(writer.into()).unwrap(),
    )
}

#[test]
fn pipe_transfers_more_than_its_capacity() {
    let data = pattern(1 << 20, 5);
    run(async {
        let (mut reader, mut writer) = pipe();
        let mut read = Vec::new();
        let (wrote, got) = join!(
            async {
                let wrote = writer.write_all(&data).await;
                drop(writer);
                wrote
            },
            reader.read_to_end(&mut read)
        );
        wrote.unwrap();
        got.unwrap();
        assert!(read == data);
    });
}

#[test]
fn writing_to_a_pipe_without_readers_fails() {
    run(async {
        let (reader, mut writer) = pipe();
        let full = async { writer.write_all(&[0; 1 << 20]).await.unwrap_err() };
        let (error, ()) = join!(full, async {
            sleep(Duration::ZERO).await;
            drop(reader);
        });
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
#[test]
fn eventfd_wakes_for_each_write() {
    use rustix::event::{EventfdFlags, eventfd};

    run(async {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let event = Async::new(File::from(fd)).unwrap();
        for n in 1..100_u64 {
            let mut count = [0; 8];
            let (read, ()) = join!(event.read_with(|mut it| it.read(&mut count)), async {
                sleep(Duration::ZERO).await;
                event.get_ref().write_all(&n.to_ne_bytes()).unwrap();
            });
            read.unwrap();
            assert_eq!(u64::from_ne_bytes(count), n);
        }
    });
}

#[cfg(not(target_vendor = "apple"))] // rustix lacks the call
#[test]
fn fifo_serves_writers_one_after_the_other() {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::{CWD, Mode, OFlags};

    let path = std::env::temp_dir().join(format!("windlass-fifo-{}", std::process::id()));
    rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(&path)
        .unwrap();
    run(async {
        let fifo = Async::new(file).unwrap();
        for text in ["heave", "ho"] {
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            let mut buffer = [0; 16];
            let (n, ()) = join!(fifo.read_with(|mut it| it.read(&mut buffer)), async {
                sleep(Duration::ZERO).await;
                writer.write_all(text.as_bytes()).unwrap();
            });
            assert_eq!(&buffer[..n.unwrap()], text.as_bytes());
            drop(writer);
            let end = fifo.read_with(|mut it| it.read(&mut buffer)).await;
            assert_eq!(end.unwrap(), 0);
        }
    });
    fs::remove_file(path).unwrap();
}

#[test]
fn terminal_delivers_lines() {
    let (terminal, main) = terminal_pair();
    run(async {
        let terminal = Async::new(terminal).unwrap();
        let mut typist = Async::new(File::from(main)).unwrap();
        let mut buffer = [0; 64];
        for line in ["heave\n", "ho\n"] {
            let (n, typed) = join!(terminal.read_with(|mut it| it.read(&mut buffer)), async {
                sleep(Duration::ZERO).await;
                typist.write_all(line.as_bytes()).await
            });
            typed.unwrap();
            assert_eq!(&buffer[..n.unwrap()], line.as_bytes());
        }
    });
}

#[test]
fn regular_file_is_refused() {
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let error = Async::new(file).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::InvalidInput
        ),
        "{error}"
    );
}

#[test]
fn descriptor_registered_twice_is_refused() {
    let (here, _there) = UnixStream::pair().unwrap();
    let _first = Async::new(&here).unwrap();
    assert_eq!(
        Async::new(&here).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
}

#[test]
fn into_inner_allows_async_on_another_thread() {
    let reactor = Reactor::current().unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    let mut here = Async::new(here).unwrap().into_inner().unwrap();
    for i in 0..3 {
        here = thread::spawn(move || {
            let here = Async::new(here).unwrap();
            run(here.readable()).unwrap();
            here.get_ref().read_exact(&mut [0]).unwrap();
            here.into_inner().unwrap()
        })
        .join_after(|| there.write_all(&[i]).unwrap());
        let again = Async::new(here).unwrap();
        settle(&reactor);
        here = again.into_inner().unwrap();
    }
    assert!(here.set_nonblocking(false).is_ok());
}

trait JoinAfter<T> {
    fn join_after(self, act: impl FnOnce()) -> T;
}

impl<T> JoinAfter<T> for thread::JoinHandle<T> {
    fn join_after(self, act: impl FnOnce()) -> T {
        act();
        self.join().unwrap()
    }
}

#[test]
fn async_read_and_write_work_by_value_and_reference() {
    run(async {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut here, there) = (Async::new(here).unwrap(), Async::new(there).unwrap());
        (&there).write_all(b"ahoy").await.unwrap();
        (&there).flush().await.unwrap();
        let mut buffer = [0; 4];
        here.read_exact(&mut buffer).await.unwrap();
        here.write_all(&buffer).await.unwrap();
        here.close().await.unwrap();
        (&there).read_exact(&mut buffer).await.unwrap();
        assert_eq!(here.as_raw_fd(), here.as_fd().as_raw_fd());
        assert!(format!("{here:?}").contains("Async"));
    });
}

/// Reads with `&mut self`.
struct Device(UnixStream);

impl AsFd for Device {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn device() -> (Async<Device>, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    (Async::new(Device(here)).unwrap(), there)
}

#[test]
fn a_value_with_mutable_operations_waits_again_and_again() {
    run(async {
        let (mut device, mut there) = device();
        for n in 0..3_u8 {
            let thread = thread::spawn(move || {
                there.write_all(&[n]).unwrap();
                there
            });
            device.readable().await.unwrap();
            let mut buffer = [0; 8];
            assert_eq!(device.get_mut().unwrap().0.read(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], n);
            there = thread.join().unwrap();
        }
    });
}

#[test]
fn values_that_are_swapped_keep_their_events() {
    run(async {
        let ((mut first, mut to_first), (mut second, mut to_second)) = (device(), device());
        first.register().unwrap();
        std::mem::swap(first.get_mut().unwrap(), second.get_mut().unwrap());
        to_first.write_all(b"1").unwrap();
        second.readable().await.unwrap();
        to_second.write_all(b"2").unwrap();
        first.readable().await.unwrap();
        let mut byte = [0];
        assert_eq!(first.get_mut().unwrap().0.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, *b"2");
    });
}

#[test]
fn mutable_access_wakes_tasks_that_wait_by_poll_methods() {
    run(async {
        let (mut device, _there) = device();
        let mut has_waited = false;
        let wait = std::future::poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return std::task::Poll::Ready(());
            }
            assert!(device.poll_readable(cx).is_pending());
            device.get_mut().unwrap(); // wakes this task
            std::task::Poll::Pending
        });
        wait.await;
    });
}
