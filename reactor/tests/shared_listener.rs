//! Several loops accept from one TCP listener.

// On Windows a listener cannot be shared between loops, and `share` has no effect.
#![cfg(unix)]

mod common;

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::sync::mpsc::{self, Sender};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::*;
use futures::{AsyncWriteExt, StreamExt, join};
use windlass_reactor::net::TcpListener;
use windlass_reactor::time::{sleep, timeout};
use windlass_reactor::{Reactor, block_on};

const MS: Duration = Duration::from_millis(1);

struct Shared {
    socket: net::TcpListener,
    addr: SocketAddr,
}

/// A loop on its own thread, which runs until this is dropped.
struct Loop {
    end: Option<windlass::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn new() -> Shared {
        let socket = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        Shared { socket, addr }
    }

    /// Starts a loop that runs `body` to completion. Returns once the body is pending.
    fn start(&self, body: impl AsyncFn(TcpListener) + Send + 'static) -> Loop {
        let socket = self.socket.try_clone().unwrap();
        let (sender, receiver) = mpsc::channel();
        let (mut reader, writer) = windlass::io::pipe().unwrap();
        let reader_fd = reader_fd(&mut reader);
        let thread = thread::spawn(move || {
            block_on(async {
                let listener = TcpListener::try_from(socket).unwrap();
                listener.share();
                let end = windlass_reactor::Async::new(reader_fd).unwrap();
                let mut body = pin!(body(listener));
                let mut sender = Some(sender);
                let until_pending = poll_fn(|cx| {
                    let polled = body.as_mut().poll(cx);
                    sender.take().map(|sender: Sender<()>| sender.send(()));
                    polled
                });
                futures::future::select(pin!(until_pending), pin!(end.readable())).await;
            });
        });
        receiver.recv().unwrap();
        Loop {
            end: Some(writer),
            thread: Some(thread),
        }
    }

    /// A loop that only accepts and answers.
    fn start_idle(&self) -> Loop {
        self.start(async |listener| {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"k").await.unwrap();
            }
        })
    }

    /// A client that any loop may serve.
    fn visit(&self) {
        let mut client = net::TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        match client.read_exact(&mut [0]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("not served"),
            Err(error) => panic!("{error}"),
        }
        let _ = client.write_all(b"bye");
    }
}

fn reader_fd(reader: &mut windlass::io::PipeReader) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    reader.as_fd().try_clone_to_owned().unwrap()
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

async fn forever() {
    std::future::pending::<()>().await;
}

#[test]
fn serving_loop_leaves_connections_to_others() {
    let shared = Shared::new();
    let _busy = shared.start(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"k").await.unwrap();
        forever().await;
    });
    let _idle = shared.start_idle();
    (0..20).for_each(|_| shared.visit());
}

#[test]
fn dropped_accept_leaves_connections_to_others() {
    let shared = Shared::new();
    let _other = shared.start(async |listener| {
        assert!(timeout(MS, listener.accept()).await.is_err());
        forever().await;
    });
    thread::sleep(20 * MS); // more than the time limit: otherwise the test proves less
    let _idle = shared.start_idle();
    (0..20).for_each(|_| shared.visit());
}

#[test]
fn dropped_incoming_leaves_connections_to_others() {
    let shared = Shared::new();
    let _other = shared.start(async |listener| {
        let mut incoming = listener.incoming();
        assert!(timeout(MS, incoming.next()).await.is_err());
        drop(incoming);
        forever().await;
    });
    thread::sleep(20 * MS); // as above
    let _idle = shared.start_idle();
    (0..20).for_each(|_| shared.visit());
}

#[test]
fn accept_dropped_after_its_wake_wakes_others() {
    let shared = Shared::new();
    for _ in 0..10 {
        let woken = shared.start(async |listener| {
            let (counter, waker) = Counter::new();
            let mut accept = Box::pin(listener.accept());
            let first = accept.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(first.is_pending());
            // The event wakes this loop, and the other one keeps sleeping.
            poll_fn(|cx| {
                if counter.wakes() == 0 {
                    let mut tick = pin!(sleep(MS));
                    assert!(tick.as_mut().poll(cx).is_pending());
                    let reactor = Reactor::current().unwrap();
                    reactor.turn(None).unwrap();
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            drop(accept);
            forever().await;
        });
        let _idle = shared.start_idle();
        shared.visit();
        drop(woken);
    }
}

#[test]
fn loop_in_a_long_turn_leaves_connections_to_others() {
    let shared = Shared::new();
    let (busy, is_busy) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let busy = std::sync::Mutex::new(Some(busy));
    let goes_on = std::sync::Mutex::new(Some(goes_on));
    let long = shared.start(async move |listener| {
        let accepting = async {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"k").await.unwrap();
            }
        };
        let blocking = async {
            sleep(MS).await;
            let (busy, goes_on) = (busy.lock().unwrap().take(), goes_on.lock().unwrap().take());
            busy.unwrap().send(()).unwrap();
            let _ = goes_on.unwrap().recv();
        };
        join!(accepting, blocking);
    });
    let _idle = shared.start_idle();
    is_busy.recv().unwrap();
    (0..20).for_each(|_| shared.visit());
    drop(go_on);
    drop(long);
}

#[test]
fn concurrent_accepts_on_a_shared_listener_both_succeed() {
    let shared = Shared::new();
    let (served, serves) = mpsc::channel();
    let _two = shared.start(async move |listener| {
        let accept = async |number: usize| {
            while let Ok((mut stream, _)) = listener.accept().await {
                served.send(number).unwrap();
                stream.write_all(b"k").await.unwrap();
                sleep(MS).await;
            }
        };
        join!(accept(0), accept(1));
    });
    (0..50).for_each(|_| shared.visit());
    let numbers: Vec<_> = serves.try_iter().collect();
    assert_eq!(numbers.len(), 50);
}

#[test]
fn accepts_that_exhaust_the_budget_all_succeed() {
    let shared = Shared::new();
    // All connections are in the queue, so the listener is not registered until the task yields.
    let clients: Vec<_> = (0..100)
        .map(|_| net::TcpStream::connect(shared.addr).unwrap())
        .collect();
    block_on(async {
        let listener = TcpListener::try_from(shared.socket).unwrap();
        listener.share();
        for _ in &clients {
            listener.accept().await.unwrap();
        }
    });
}

#[test]
fn one_of_two_concurrent_accepts_can_be_dropped() {
    let shared = Shared::new();
    let _two = shared.start(async |listener| {
        let accepting = async {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"k").await.unwrap();
            }
        };
        let dropping = async {
            for _ in 0..1000 {
                let _ = timeout(MS / 2, async {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    stream.write_all(b"k").await.unwrap();
                })
                .await;
            }
        };
        join!(accepting, dropping);
    });
    (0..200).for_each(|_| shared.visit());
}

/// The limit on descriptors applies per descriptor table, and a thread may have its own table.
#[cfg(target_os = "linux")]
#[test]
fn loop_without_descriptors_leaves_connections_to_others() {
    in_child(
        "loop_without_descriptors_leaves_connections_to_others",
        || {
            use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
            let limit = Rlimit {
                current: Some(100),
                ..getrlimit(Resource::Nofile)
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let shared = Shared::new();
            let (full, is_full) = mpsc::channel();
            let full = shared.start(async move |listener| {
                // SAFETY: the call accesses no memory. From now on the thread has its own
                // descriptor table.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
                let accepting = async {
                    loop {
                        assert!(listener.accept().await.is_err());
                    }
                };
                let hoarding = async {
                    sleep(MS).await; // the accept waits by now
                    let open = || std::fs::File::open("/dev/null").ok();
                    let _hoard: Vec<_> = std::iter::from_fn(open).collect();
                    full.send(()).unwrap();
                    forever().await;
                };
                join!(accepting, hoarding);
            });
            std::mem::forget(full); // it has a descriptor of its own of what would end it
            is_full.recv().unwrap();
            let idle = shared.start_idle();
            (0..20).for_each(|_| shared.visit());
            drop(idle);
        },
    );
}
