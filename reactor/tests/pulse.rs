//! What other threads see of a reactor, the list of waits, and the idle hook.

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use windlass_reactor::net::{TcpListener, TcpStream};
use windlass_reactor::time::sleep;
use windlass_reactor::{LoopState, Reactor, ReactorPulse, WaitEvent, block_on};

/// Runs a loop on another thread that sleeps until the waker is called.
fn sleeping_loop() -> (thread::JoinHandle<()>, ReactorPulse, Waker) {
    let (send, received) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let reactor = Reactor::current().unwrap();
        let mut polls = 0;
        reactor.block_on(poll_fn(|cx| {
            polls += 1;
            let _ = send.send((reactor.pulse(), cx.waker().clone()));
            if polls == 1 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }));
    });
    let (pulse, waker) = received.recv().unwrap();
    wait_until(|| pulse.loop_state() == LoopState::Asleep);
    (thread, pulse, waker)
}

#[test]
fn another_thread_sees_whether_a_loop_sleeps() {
    let (thread, pulse, waker) = sleeping_loop();
    waker.wake();
    thread.join().unwrap();
    assert_eq!(pulse.loop_state(), LoopState::Detached);
}

static UNPARKS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_end_of_a_sleep_is_reported_once() {
    let (thread, pulse, waker) = sleeping_loop();
    pulse.report_unpark(|| {
        UNPARKS.fetch_add(1, SeqCst);
    });
    assert_eq!(pulse.loop_state(), LoopState::Asleep);
    waker.wake();
    thread.join().unwrap();
    assert_eq!(UNPARKS.load(SeqCst), 1);
}

#[test]
fn counters_count_timers_and_system_calls() {
    let reactor = Reactor::current().unwrap();
    let before = reactor.pulse().read();
    let mut sleeps = 0;
    // On a busy machine, a timer may be due before the loop sleeps.
    wait_until(|| {
        sleeps += 1;
        reactor.block_on(sleep(Duration::from_millis(5)));
        reactor.pulse().read().timer_settings > before.timer_settings
    });
    let after = reactor.pulse().read();
    assert_eq!(after.timers_set - before.timers_set, sleeps);
    assert_eq!(after.timers_fired - before.timers_fired, sleeps);
    assert!(after.turns != before.turns);
    assert!(after.max_lateness >= before.max_lateness);
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(
            reactor.pulse().read().sources,
            after.sources,
            "it has not waited"
        );
        let mut accept = pin!(listener.accept());
        assert!(poll_once(accept.as_mut()).is_pending());
        assert_eq!(reactor.pulse().read().sources, after.sources + 1);
        let connected = TcpStream::connect(listener.local_addr().unwrap()).await;
        drop(connected.unwrap());
        accept.await.unwrap();
    });
    let end = reactor.pulse().read();
    assert!(end.registrations > after.registrations);
    assert_eq!(end.sources, after.sources);
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[cfg(unix)]
#[test]
fn waits_are_listed_until_they_end() {
    use std::os::fd::AsRawFd;

    block_on(async {
        let reactor = Reactor::current().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fd = listener.as_raw_fd();
        let (counter, waker) = Counter::new();
        let listed = || {
            let waits = reactor.list_waits();
            let own = waits.iter().filter(|it| it.data == waker.data());
            own.map(|it| it.event).collect::<Vec<_>>()
        };
        {
            let mut accept = pin!(listener.accept());
            let mut sleep = pin!(sleep(Duration::from_secs(60)));
            let cx = &mut Context::from_waker(&waker);
            assert!(accept.as_mut().poll(cx).is_pending());
            assert!(sleep.as_mut().poll(cx).is_pending());
            let events = listed();
            assert_eq!(events.len(), 2);
            assert_eq!(events[0], WaitEvent::Readable(fd));
            assert!(matches!(events[1], WaitEvent::Deadline(Some(at)) if at > Instant::now()));
        }
        assert_eq!(listed(), [], "the waits were cancelled");
        assert_eq!(counter.wakes(), 0);
    });
}

thread_local!(static IDLE: Cell<usize> = const { Cell::new(0) });

#[test]
fn the_idle_hook_limits_a_wait_that_nothing_would_end() {
    let reactor = Reactor::current().unwrap();
    reactor.on_idle(
        0,
        Some(|| {
            IDLE.set(IDLE.get() + 1);
            if IDLE.get() == 3 {
                Reactor::current().unwrap().waker().wake();
            }
            Some(Duration::from_millis(1))
        }),
    );
    // The end of a limit does not end the turn.
    reactor.turn(None).unwrap();
    assert_eq!(IDLE.get(), 3);
    // A timer ends the wait, so the hook isn't called.
    block_on(sleep(Duration::from_millis(1)));
    assert_eq!(IDLE.get(), 3);
    // A source may end it.
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connecting = thread::spawn(move || std::net::TcpStream::connect(addr).unwrap());
        listener.accept().await.unwrap();
        connecting.join().unwrap();
    });
    assert_eq!(IDLE.get(), 3);
    reactor.on_idle(
        usize::MAX,
        Some(|| {
            IDLE.set(IDLE.get() + 1);
            None
        }),
    );
    let (waker, pulse) = (reactor.waker(), reactor.pulse());
    let thread = thread::spawn(move || {
        wait_until(|| pulse.loop_state() == LoopState::Asleep);
        waker.wake();
    });
    reactor.turn(None).unwrap();
    thread.join().unwrap();
    assert_eq!(IDLE.get(), 4);
}
