//! Wakes from other threads, and sleeping loops.

mod common;

use std::future::poll_fn;
#[cfg(unix)]
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::*;
use futures::channel::oneshot;
use futures::join;
#[cfg(unix)]
use windlass_reactor::Async;
use windlass_reactor::{Reactor, block_on, time::sleep};

#[test]
fn a_wake_before_the_turn_keeps_it_from_waiting() {
    let reactor = Reactor::current().unwrap();
    for _ in 0..100 {
        reactor.waker().wake();
        reactor.turn(None).unwrap();
    }
}

#[test]
fn a_wake_from_a_thread_ends_the_wait() {
    let reactor = Reactor::current().unwrap();
    for _ in 0..100 {
        let (waker, called) = (reactor.waker(), Arc::new(AtomicBool::new(false)));
        let flag = called.clone();
        let thread = thread::spawn(move || {
            flag.store(true, SeqCst);
            waker.wake();
        });
        while !called.load(SeqCst) {
            reactor.turn(None).unwrap();
        }
        thread.join().unwrap();
    }
}

#[test]
fn wakes_coalesce() {
    let reactor = Reactor::current().unwrap();
    let waker = reactor.waker();
    for _ in 0..1000 {
        waker.wake_by_ref();
    }
    reactor.turn(None).unwrap();
    #[cfg(unix)]
    assert!(
        !descriptor_is_ready(&reactor, false),
        "one turn has consumed all wakes"
    );
}

#[test]
#[cfg(unix)] // on Windows there is no descriptor to watch
fn a_wake_makes_the_descriptor_readable_between_turns() {
    let reactor = Reactor::current().unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!descriptor_is_ready(&reactor, false));
    let waker = reactor.waker();
    thread::spawn(move || waker.wake()).join().unwrap();
    wait_for_descriptor(&reactor);
    reactor.turn(None).unwrap();
    assert!(!descriptor_is_ready(&reactor, false));
}

#[test]
#[cfg(unix)] // on Windows there is no descriptor to watch
fn a_wake_after_the_last_turn_is_reported_when_the_guard_drops() {
    let reactor = Reactor::current().unwrap();
    {
        let _awake = reactor.awake();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        reactor.waker().wake();
    }
    wait_for_descriptor(&reactor);
    {
        let _awake = reactor.awake();
        reactor.turn(None).unwrap();
    }
    assert!(!descriptor_is_ready(&reactor, false), "consumed");
}

#[test]
#[cfg(unix)] // on Windows there is no descriptor to watch
fn a_wake_made_by_the_turn_is_not_reported_again() {
    let reactor = Reactor::current().unwrap();
    let (mut peer, here) = socket_pair();
    let here = Async::new(here).unwrap();
    {
        let _awake = reactor.awake();
        assert!(poll(&mut here.readable(), &reactor.waker()).is_pending());
        peer.write_all(b"x").unwrap();
        while reactor.turn(None).unwrap().woken == 0 {}
    }
    assert!(
        !descriptor_is_ready(&reactor, false),
        "no event is left for the next turn"
    );
}

#[test]
fn no_wake_of_many_threads_is_lost() {
    const THREADS: usize = 8;
    const WAKES: usize = 2_000;
    let count = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(THREADS));
    let mut threads = Vec::new();
    let mut seen = 0;
    run(poll_fn(|cx| {
        while threads.len() < THREADS {
            let (waker, count) = (cx.waker().clone(), count.clone());
            let barrier = barrier.clone();
            threads.push(thread::spawn(move || {
                barrier.wait();
                for _ in 0..WAKES {
                    count.fetch_add(1, SeqCst);
                    waker.wake_by_ref();
                }
            }));
        }
        seen = count.load(SeqCst);
        if seen == THREADS * WAKES {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    assert_eq!(seen, THREADS * WAKES);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_ping_pong_between_two_threads_completes() {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let (ping, pong) = oneshot::channel::<()>();
        here.push(ping);
        there.push(pong);
    }
    // Pairs with even numbers send the pings, odd ones return them.
    let mut back = Vec::new();
    let mut go = Vec::new();
    for (i, pair) in here.into_iter().zip(there).enumerate() {
        if i % 2 == 0 {
            go.push(pair)
        } else {
            back.push(pair)
        }
    }
    let (go_senders, go_receivers): (Vec<_>, Vec<_>) = go.into_iter().unzip();
    let (back_senders, back_receivers): (Vec<_>, Vec<_>) = back.into_iter().unzip();
    let thread = thread::spawn(move || {
        for (receiver, sender) in go_receivers.into_iter().zip(back_senders) {
            run(receiver).unwrap();
            sender.send(()).unwrap();
        }
    });
    for (sender, receiver) in go_senders.into_iter().zip(back_receivers) {
        sender.send(()).unwrap();
        run(receiver).unwrap();
    }
    thread.join().unwrap();
}

#[test]
fn a_waker_outlives_its_reactor_and_its_thread() {
    let waker = thread::spawn(|| Reactor::current().unwrap().waker())
        .join()
        .unwrap();
    waker.wake_by_ref();
    let clone = waker.clone();
    clone.wake();
}

#[test]
fn a_waker_of_block_on_outlives_it() {
    let waker = thread::spawn(|| block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone()))));
    waker.join().unwrap().wake();
    let here = block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    here.wake_by_ref();
    run(sleep(Duration::ZERO));
}

#[test]
fn a_future_is_polled_only_when_it_was_woken() {
    let mut polls = 0;
    run(async {
        let counted = poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        let naps = async {
            for _ in 0..10 {
                sleep(Duration::ZERO).await;
            }
        };
        futures::future::select(counted, Box::pin(naps)).await;
    });
    assert!(polls <= 12, "{polls}");
}

#[test]
fn a_wake_during_a_poll_causes_another_poll() {
    let mut polls = 0;
    let woken = poll_fn(|cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        if polls == 1000 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    run(async { join!(woken) });
    assert_eq!(polls, 1000);
}
