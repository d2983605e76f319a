//! Priority and error conditions, and urgent data.

#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::*;
use futures::{AsyncReadExt, join};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use windlass_reactor::net::unix::UnixStream;
use windlass_reactor::net::{TcpListener, TcpStream};
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Async, Reactor};

const MS: Duration = Duration::from_millis(1);

async fn tcp() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().await.unwrap().0, peer)
}

/// Reads until `end`, in pieces of at most 64 bytes.
async fn read_to(mut stream: impl futures::AsyncRead + Unpin, end: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut buf = [0; 64];
        let n = stream.read(&mut buf).await.unwrap();
        assert_ne!(n, 0);
        got.extend(&buf[..n]);
    }
    got
}

/// Urgent data arrives between normal data, and is received directly before the loop turns.
async fn read_behind_a_mark<S>(stream: &S, peer: impl AsFd)
where
    S: AsFd,
    for<'a> &'a S: futures::AsyncRead + Unpin,
{
    let nothing = timeout(MS, async { (&*stream).read(&mut [0; 8]).await }).await;
    assert!(nothing.is_err(), "the socket is registered");
    for (bytes, flags) in [
        (&b"abc"[..], SendFlags::empty()),
        (b"x", SendFlags::OOB),
        (b"def", SendFlags::empty()),
    ] {
        assert_eq!(send(&peer, bytes, flags).unwrap(), bytes.len());
    }
    let mut urgent = [0];
    while recv(stream, &mut urgent, RecvFlags::OOB).is_err() {
        std::thread::yield_now(); // TCP over loopback may take a moment
    }
    assert_eq!(urgent, *b"x");
    assert_eq!(read_to(stream, b"def").await, b"abcdef");
}

#[test]
fn tcp_reader_continues_after_urgent_data_was_taken() {
    run(async {
        let (stream, peer) = tcp().await;
        read_behind_a_mark(&stream, peer).await;
    });
}

#[test]
fn unix_reader_continues_after_urgent_data_was_taken() {
    run(async {
        let (stream, peer) = UnixStream::pair().unwrap();
        read_behind_a_mark(&stream, peer).await;
        // Receives the urgent data through a duplicate of the socket.
        let (socket, peer) = StdUnixStream::pair().unwrap();
        let duplicate = socket.try_clone().unwrap();
        let mut stream = UnixStream::try_from(socket).unwrap();
        assert!(timeout(MS, stream.read(&mut [0; 8])).await.is_err());
        send(&peer, b"abc", SendFlags::empty()).unwrap();
        send(&peer, b"x", SendFlags::OOB).unwrap();
        recv(&duplicate, &mut [0], RecvFlags::OOB).unwrap();
        send(&peer, b"def", SendFlags::empty()).unwrap();
        assert_eq!(read_to(&mut stream, b"def").await, b"abcdef");
    });
}

#[test]
fn priority_waits_for_urgent_data_only() {
    run(async {
        let (stream, mut peer) = tcp().await;
        let io = Async::new(stream.into_std().unwrap()).unwrap();
        peer.write_all(b"abc").unwrap();
        io.readable().await.unwrap();
        assert!(timeout(20 * MS, io.priority()).await.is_err());
        let (first, second, ()) = join!(io.priority(), io.priority(), async {
            sleep(MS).await; // both wait by now
            send(&peer, b"x", SendFlags::OOB).unwrap();
        });
        first.unwrap();
        second.unwrap();
        io.priority().await.unwrap(); // until it's taken
        let mut urgent = [0];
        recv(io.get_ref(), &mut urgent, RecvFlags::OOB).unwrap();
        assert_eq!(urgent, *b"x");
        assert!(timeout(20 * MS, io.priority()).await.is_err());
    });
}

#[test]
fn error_waits_until_a_pipe_has_no_readers() {
    run(async {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let writer = Async::new(writer).unwrap();
        assert!(timeout(20 * MS, writer.error()).await.is_err());
        let closing = async {
            sleep(MS).await;
            drop(reader);
        };
        let (ended, ()) = join!(writer.error(), closing);
        ended.unwrap();
        writer.error().await.unwrap();
        assert!(timeout(MS, writer.priority()).await.is_err());
    });
}

fn read_all(file: &File) -> String {
    let mut text = String::new();
    let mut file = file;
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn proc_file_is_readable_once_without_events() {
    for path in ["/proc/self/mountinfo", "/proc/swaps", "/proc/self/mounts"] {
        let mut reads = 0;
        run(async {
            let file = Async::new(File::open(path).unwrap()).unwrap();
            let reading = async {
                loop {
                    file.readable().await.unwrap();
                    read_all(file.get_ref());
                    reads += 1;
                }
            };
            let _: Result<(), _> = timeout(50 * MS, reading).await;
            assert!(timeout(MS, file.priority()).await.is_err());
        });
        assert_eq!(reads, 1, "{path}");
    }
}

#[test]
fn poll_readable_of_a_proc_file_does_not_spin() {
    let reactor = Reactor::current().unwrap();
    let file = Async::new(File::open("/proc/self/mountinfo").unwrap()).unwrap();
    let (counter, waker) = Counter::new();
    let mut cx = Context::from_waker(&waker);
    assert!(matches!(file.poll_readable(&mut cx), Poll::Ready(Ok(()))));
    for _ in 0..5 {
        assert!(file.poll_readable(&mut cx).is_pending());
        settle(&reactor);
    }
    assert!(counter.wakes() <= 1);
}

#[test]
fn pipe_with_unread_data_stays_readable() {
    run(async {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let reader: Async<OwnedFd> = Async::new(reader).unwrap();
        rustix::io::write(&writer, b"ab").unwrap();
        for _ in 0..3 {
            reader.readable().await.unwrap();
        }
    });
}

/// Changes the mounts of this thread. Returns false if the user lacks the permission.
fn mount() -> bool {
    let (none, dir) = (c"none".as_ptr(), c"/tmp".as_ptr());
    // SAFETY: the strings end with a zero byte, and the kernel only reads them.
    unsafe { libc::mount(none, dir, c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0 }
}

#[test]
fn change_of_mounts_wakes_all_waiters_once() {
    in_child("change_of_mounts_wakes_all_waiters_once", || {
        // SAFETY: the call accesses no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return; // only root may
        }
        let (root, none) = (c"/".as_ptr(), std::ptr::null());
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: as above, and `data` may be null.
        unsafe { libc::mount(none, root, none, private, none.cast()) };
        run(async {
            let file = Async::new(File::open("/proc/thread-self/mountinfo").unwrap()).unwrap();
            file.readable().await.unwrap();
            read_all(file.get_ref());
            for _ in 0..3 {
                let changing = async {
                    sleep(5 * MS).await;
                    assert!(mount());
                };
                let waits = (file.readable(), file.priority(), file.priority());
                let (a, b, c, d, ()) = join!(waits.0, waits.1, waits.2, file.error(), changing);
                assert!([a, b, c, d].iter().all(io::Result::is_ok));
                assert!(timeout(20 * MS, file.readable()).await.is_err());
                assert!(timeout(20 * MS, file.priority()).await.is_err());
            }
            // A condition that occurs while no task waits is kept, even after a turn has collected
            // its event.
            assert!(mount());
            sleep(5 * MS).await;
            file.priority().await.unwrap();
            let mut again = pin!(file.priority());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(again.as_mut().poll(&mut cx).is_pending());
        });
    });
}

#[test]
fn lasting_condition_does_not_starve_other_tasks() {
    Reactor::current().unwrap().block_on(async {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer = Async::new(writer).unwrap();
        drop(reader);
        let endless = async {
            for _ in 0..10_000_000 {
                writer.error().await.unwrap();
            }
        };
        assert!(timeout(MS, endless).await.is_err(), "the timer never fired");
    });
}
