//! When and on which thread reactors, sources and wakers are dropped.

mod common;

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass_reactor::net::TcpStream;
use windlass_reactor::time::{Sleep, sleep};
use windlass_reactor::{Async, Reactor};

thread_local! {
    static SOCKET: RefCell<Option<Async<Socket>>> = const { RefCell::new(None) };
    static STREAM: RefCell<Option<TcpStream>> = const { RefCell::new(None) };
    static NAP: RefCell<Option<Sleep>> = const { RefCell::new(None) };
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// Stores a socket, a stream, a sleep and a reactor in thread-locals, which are created in the
/// given order.
fn leave_behind(order: [u8; 4]) {
    let make = |what| match what {
        0 => SOCKET.with(|it| assert!(it.borrow().is_none())),
        1 => STREAM.with(|it| assert!(it.borrow().is_none())),
        2 => NAP.with(|it| assert!(it.borrow().is_none())),
        _ => REACTOR.with(|it| assert!(it.borrow().is_none())),
    };
    // Half of them are created before the reactor's own thread-local, half after it. The
    // destructors therefore run in either order.
    order[..2].iter().copied().for_each(make);
    let reactor = Reactor::current().unwrap();
    order[2..].iter().copied().for_each(make);
    let (here, there) = socket_pair();
    let here = Async::new(here).unwrap();
    let mut nap = sleep(Duration::from_secs(60));
    assert!(poll(&mut here.readable(), Waker::noop()).is_pending());
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    let (stream, peer) = run(tcp_pair());
    assert!(poll(&mut stream.readable(), Waker::noop()).is_pending());
    SOCKET.set(Some(here));
    STREAM.set(Some(stream));
    NAP.set(Some(nap));
    REACTOR.set(Some(reactor));
    drop((there, peer));
}

#[test]
fn thread_locals_may_hold_sockets_sleeps_and_reactors() {
    for order in [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [1, 0, 3, 2],
        [0, 3, 1, 2],
    ] {
        thread::spawn(move || leave_behind(order)).join().unwrap();
    }
}

#[test]
fn an_ending_thread_may_request_its_reactor() {
    struct Asks;
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = Reactor::current().map(|reactor| reactor.turn(Some(Duration::ZERO)));
            let (here, _there) = socket_pair();
            let _ = Async::new(here).map(|it| poll(&mut it.readable(), Waker::noop()).is_ready());
        }
    }
    thread_local! {
        static ASKS: Asks = const { Asks };
    }
    for first in [true, false] {
        let thread = thread::spawn(move || {
            if first {
                ASKS.with(|_| ());
            }
            run(sleep(Duration::ZERO));
            ASKS.with(|_| ());
        });
        thread.join().unwrap();
    }
}

#[test]
fn dropping_a_socket_drops_its_wakers() {
    let _reactor = Reactor::current().unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let (here, _there) = socket_pair();
    let here = Async::new(here).unwrap();
    for _ in 0..10 {
        let drops = drops.clone();
        let counted = OnWake(move |what| {
            drops.fetch_add(usize::from(what == "drop"), SeqCst);
        });
        let waker = Waker::from(Arc::new(counted));
        let mut cx = Context::from_waker(&waker);
        assert!(here.poll_readable(&mut cx).is_pending());
    }
    assert_eq!(drops.load(SeqCst), 0);
    drop(here);
    assert_eq!(drops.load(SeqCst), 10);
}

#[test]
fn the_drop_of_a_waker_may_use_the_reactor() {
    let reactor = Reactor::current().unwrap();
    let use_it = |_: &str| {
        let reactor = Reactor::current().unwrap();
        let (here, mut there) = socket_pair();
        let here = Async::new(here).unwrap();
        let (counter, waker) = Counter::new();
        assert!(poll(&mut here.readable(), &waker).is_pending());
        let mut nap = sleep(Duration::from_secs(60));
        assert!(poll(&mut nap, &waker).is_pending());
        there.write_all(b"x").unwrap();
        turn_until(&reactor, || counter.wakes() == 1);
    };
    let waker = || Waker::from(Arc::new(OnWake(use_it)));
    // Dropped with a socket, with a sleep, and when another waker replaces it.
    let (here, mut there) = socket_pair();
    let here = Async::new(here).unwrap();
    assert!(poll(&mut here.readable(), &waker()).is_pending());
    drop(here);
    let mut nap = sleep(Duration::from_secs(60));
    assert!(poll(&mut nap, &waker()).is_pending());
    assert!(poll(&mut nap, &waker()).is_pending());
    nap.reset(Instant::now());
    assert!(poll(&mut nap, &waker()).is_pending());
    turn_until(&reactor, || poll(&mut nap, Waker::noop()).is_ready());
    drop(nap);
    // Called by a wake, and by the drop after it.
    let (here, mut peer) = socket_pair();
    let here = Async::new(here).unwrap();
    assert!(poll(&mut here.readable(), &waker()).is_pending());
    peer.write_all(b"x").unwrap();
    settle(&reactor);
    assert!(
        matches!(there.read(&mut [0]), Ok(0) | Err(_)),
        "the socket is closed"
    );
}

#[test]
fn a_read_that_is_dropped_while_it_waits_loses_no_data() {
    run(async {
        let (mut here, mut there) = tcp_pair().await;
        let mut received = Vec::new();
        for i in 0..100_u8 {
            let mut buffer = [0; 4];
            let mut read = here.read(&mut buffer);
            assert!(poll(&mut read, Waker::noop()).is_pending());
            there.write_all(&[i]).await.unwrap();
            let n = here.read(&mut buffer).await.unwrap();
            received.extend_from_slice(&buffer[..n]);
        }
        assert!(received.into_iter().eq(0..100));
    });
}

#[test]
fn a_leaked_sleep_is_harmless() {
    let reactor = Reactor::current().unwrap();
    let (counter, waker) = Counter::new();
    let mut nap = sleep(Duration::from_millis(1));
    assert!(poll(&mut nap, &waker).is_pending());
    std::mem::forget(nap);
    turn_until(&reactor, || counter.wakes() == 1);
}

/// A timer that was moved to another thread expires, with its waker, when the first thread ends.
#[test]
fn a_thread_ends_despite_wakers_that_panic_when_dropped() {
    in_child(
        "a_thread_ends_despite_wakers_that_panic_when_dropped",
        || {
            thread::spawn(|| {
                let _reactor = Reactor::current().unwrap();
                for _ in 0..2 {
                    let panics = |what: &str| assert_ne!(what, "drop", "a planned panic");
                    let waker = Waker::from(Arc::new(OnWake(panics)));
                    let mut nap = sleep(Duration::MAX / 4);
                    assert!(poll(&mut nap, &waker).is_pending());
                    std::mem::forget(nap);
                }
            })
            .join()
            .unwrap();
        },
    );
}
