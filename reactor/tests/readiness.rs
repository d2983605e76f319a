//! Waiting for readiness, with turns driven by the test.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::*;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{AsyncReadExt, AsyncWriteExt, join};
use windlass_reactor::{Async, Reactor, block_on, time::sleep};

fn pair() -> (Async<Socket>, Socket) {
    let (here, there) = socket_pair();
    (Async::new(here).unwrap(), there)
}

fn poll_byte(io: &Async<Socket>, waker: &Waker) -> Poll<io::Result<u8>> {
    let mut byte = [0];
    let mut cx = Context::from_waker(waker);
    io.poll_read_with(&mut cx, |mut io| io.read_exact(&mut byte).map(|()| byte[0]))
}

fn fill(io: &Async<Socket>) -> usize {
    let mut sent = 0;
    while let Ok(n) = io.try_write_with(|mut io| io.write(&[7; 4096])) {
        sent += n;
    }
    sent
}

#[test]
fn idle_turn_wakes_no_task() {
    let reactor = Reactor::current().unwrap();
    assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap().woken, 0);
    assert_eq!(
        reactor.turn(Some(Duration::from_millis(1))).unwrap().woken,
        0
    );
}

#[test]
fn waiter_is_woken_once_per_event() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let (counter, waker) = Counter::new();
    assert!(poll_byte(&io, &waker).is_pending());
    settle(&reactor);
    assert_eq!(counter.wakes(), 0);
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || counter.wakes() > 0);
    settle(&reactor);
    assert_eq!(counter.wakes(), 1);
    assert!(matches!(poll_byte(&io, &waker), Poll::Ready(Ok(b'x'))));
    assert!(poll_byte(&io, &waker).is_pending());
}

#[test]
fn waiters_with_shared_references_all_wake() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let ((one, first), (two, second)) = (Counter::new(), Counter::new());
    assert!(poll_byte(&io, &first).is_pending());
    assert!(poll_byte(&io, &second).is_pending());
    peer.write_all(b"xy").unwrap();
    turn_until(&reactor, || one.wakes() == 1 && two.wakes() == 1);
    assert!(matches!(poll_byte(&io, &second), Poll::Ready(Ok(b'x'))));
    assert!(matches!(poll_byte(&io, &first), Poll::Ready(Ok(b'y'))));
}

#[test]
fn waiters_with_clones_all_wake() {
    let (here, there) = run(tcp_pair());
    let mut clones = [here.clone(), here];
    let [first, second] = &mut clones;
    let (mut one, mut two) = ([0], [0]);
    let peer = async {
        sleep(Duration::ZERO).await; // both wait by now
        (&there).write_all(b"xy").await.unwrap();
    };
    let (a, b, ()) = run(async {
        join!(
            first.read_exact(&mut one),
            second.read_exact(&mut two),
            peer
        )
    });
    a.unwrap();
    b.unwrap();
    assert_eq!([one, two], [*b"x", *b"y"]);
}

#[test]
fn hundred_waiters_with_distinct_wakers_all_wake() {
    let (io, mut peer) = pair();
    let io = &io;
    run(async {
        let mut readers: FuturesUnordered<_> = (0..100)
            .map(|_| io.read_with(|mut io| io.read_exact(&mut [0])))
            .collect();
        let peer = async {
            for _ in 0..20 {
                sleep(Duration::ZERO).await;
            }
            peer.write_all(&[1; 100]).unwrap();
        };
        let readers = async {
            while let Some(read) = readers.next().await {
                read.unwrap();
            }
        };
        join!(readers, peer);
    });
}

#[test]
fn waiting_crowd_causes_no_further_wakes() {
    let reactor = Reactor::current().unwrap();
    let (io, _peer) = pair();
    let crowd: Vec<_> = (0..1000).map(|_| Counter::new()).collect();
    let mut seen = vec![usize::MAX; crowd.len()];
    let mut polls = 0;
    for _ in 0..30 {
        for ((counter, waker), seen) in crowd.iter().zip(&mut seen) {
            if std::mem::replace(seen, counter.wakes()) != counter.wakes() {
                assert!(poll_byte(&io, waker).is_pending());
                polls += 1;
            }
        }
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(
        crowd
            .iter()
            .zip(&seen)
            .all(|((counter, _), seen)| counter.wakes() == *seen)
    );
    assert!(polls < 20 * crowd.len(), "{polls}");
}

#[test]
fn reader_and_writer_wait_at_once() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let ((reads, reader), (writes, writer)) = (Counter::new(), Counter::new());
    let sent = fill(&io);
    assert!(poll_byte(&io, &reader).is_pending());
    assert!(
        io.poll_writable(&mut Context::from_waker(&writer))
            .is_pending()
    );
    settle(&reactor);
    assert_eq!((reads.wakes(), writes.wakes()), (0, 0));
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || reads.wakes() == 1);
    // A one-shot poller disarms both directions, so it wakes the writer to register again.
    let disarmed = usize::from(cfg!(windows));
    assert_eq!(writes.wakes(), disarmed);
    assert!(
        io.poll_writable(&mut Context::from_waker(&writer))
            .is_pending()
    );
    peer.read_exact(&mut vec![0; sent]).unwrap();
    turn_until(&reactor, || writes.wakes() == disarmed + 1);
}

#[test]
#[cfg(not(windows))] // where each event wakes both directions, which then arm the source again
fn one_task_waits_for_both_directions() {
    let reactor = Reactor::current().unwrap();
    for writes_first in [false, true] {
        let (io, mut peer) = pair();
        let (wakes, waker) = Counter::new();
        let sent = fill(&io);
        let cx = &mut Context::from_waker(&waker);
        assert!(!writes_first || io.poll_writable(cx).is_pending());
        assert!(poll_byte(&io, &waker).is_pending());
        assert!(writes_first || io.poll_writable(cx).is_pending());
        settle(&reactor);
        assert_eq!(wakes.wakes(), 0);
        peer.write_all(b"x").unwrap();
        turn_until(&reactor, || wakes.wakes() == 1);
        peer.read_exact(&mut vec![0; sent]).unwrap();
        turn_until(&reactor, || wakes.wakes() == 2);
    }
}

#[test]
fn readable_returns_while_data_is_there() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let (counter, waker) = Counter::new();
    peer.write_all(b"x").unwrap();
    assert!(matches!(
        poll(&mut io.readable(), &waker),
        Poll::Ready(Ok(()))
    ));
    assert!(matches!(
        poll(&mut io.readable(), &waker),
        Poll::Ready(Ok(()))
    ));
    assert!(matches!(poll_byte(&io, &waker), Poll::Ready(Ok(b'x'))));
    settle(&reactor);
    let mut readable = io.readable();
    assert!(poll(&mut readable, &waker).is_pending());
    assert!(poll(&mut readable, &waker).is_pending()); // by whatever it was woken
    peer.write_all(b"y").unwrap();
    turn_until(&reactor, || counter.wakes() > 0);
    assert!(poll(&mut readable, &waker).is_ready());
}

#[test]
fn readable_detects_data_taken_by_other_code() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    settle(&reactor);
    io.get_ref().read_exact(&mut [0]).unwrap();
    assert!(poll(&mut io.readable(), Waker::noop()).is_pending());
}

#[test]
fn always_ready_socket_starves_no_timer_or_socket() {
    let (busy, mut busy_peer) = pair();
    let (other, mut other_peer) = pair();
    busy_peer.write_all(b"x").unwrap();
    let (timer, socket) = (Cell::new(false), Cell::new(false));
    run(async {
        let always = async {
            while !(timer.get() && socket.get()) {
                busy.readable().await.unwrap();
            }
        };
        let slept = async {
            sleep(Duration::from_millis(1)).await;
            timer.set(true);
            other_peer.write_all(b"x").unwrap();
        };
        let read = async {
            other.readable().await.unwrap();
            socket.set(true);
        };
        join!(always, slept, read);
    });
}

#[test]
fn exhausted_budget_makes_the_next_deadline_now() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    settle(&reactor);
    let (counter, waker) = Counter::new();
    let share = (0..1000).take_while(|_| poll(&mut io.readable(), &waker).is_ready());
    assert!(share.count() < 1000);
    assert!(reactor.next_deadline().is_some());
    #[cfg(unix)]
    assert!(descriptor_is_ready(&reactor, false));
    reactor.turn(None).unwrap();
    assert_eq!(counter.wakes(), 1);
    assert!(poll(&mut io.readable(), &waker).is_ready());
}

/// The reference count of the `Arc` counts its wakers.
struct Held(#[allow(dead_code)] Arc<()>);

impl Wake for Held {
    fn wake(self: Arc<Self>) {}
}

/// Waits repeatedly on a silent socket, each time with a new waker, while a hundred other waiters
/// stay. Returns the maximum number of wakers that were kept.
fn wakers_kept(waits: usize, turn_every: usize) -> usize {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let mut live: Vec<_> = (0..100)
        .map(|_| (Counter::new(), io.readable(), true))
        .collect();
    let poll_woken = |live: &mut Vec<((Arc<Counter>, Waker), _, bool)>| {
        let mut left = 0;
        for ((counter, waker), readable, waits) in live {
            if *waits && (counter.wakes() > 0 || Arc::strong_count(counter) == 2) {
                *waits = poll(readable, waker).is_pending();
            }
            left += usize::from(*waits);
        }
        left
    };
    poll_woken(&mut live);
    let shared = Arc::new(());
    let mut most = 0;
    for i in 0..waits {
        let waker = Waker::from(Arc::new(Held(shared.clone())));
        assert!(poll(&mut io.readable(), &waker).is_pending());
        drop(waker);
        most = most.max(Arc::strong_count(&shared) - 1);
        if i % turn_every == 0 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            poll_woken(&mut live);
        }
    }
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || poll_woken(&mut live) == 0);
    assert_eq!(
        Arc::strong_count(&shared),
        1,
        "the event has dropped all wakers"
    );
    most
}

#[test]
fn wakers_of_dropped_futures_do_not_accumulate() {
    let kept = [
        wakers_kept(100_000, usize::MAX),
        wakers_kept(5_000, 1),
        wakers_kept(100_000, 30),
    ];
    assert!(kept.iter().all(|&kept| kept <= 1000), "{kept:?}");
}

/// Leaves `new` wakers with a silent socket through a poll method, while the wakers of `stay` tasks
/// wait for it. Returns the maximum number of new wakers that the socket kept, and how often it
/// woke the tasks.
fn wakers_left(new: usize, stay: usize, turn_every: usize) -> [usize; 2] {
    let reactor = Reactor::current().unwrap();
    let (io, _peer) = pair();
    let tasks: Vec<_> = (0..stay).map(|_| Counter::new()).collect();
    let mut seen = vec![usize::MAX; stay];
    let mut poll_woken = || {
        for ((counter, waker), seen) in tasks.iter().zip(&mut seen) {
            if std::mem::replace(seen, counter.wakes()) != counter.wakes() {
                assert!(poll_byte(&io, waker).is_pending());
            }
        }
    };
    let shared = Arc::new(());
    let mut most = 0;
    for i in 0..new {
        if i % turn_every == 0 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            poll_woken();
        }
        let waker = Waker::from(Arc::new(Held(shared.clone())));
        assert!(poll_byte(&io, &waker).is_pending());
        drop(waker);
        most = most.max(Arc::strong_count(&shared) - 1);
    }
    let wakes = tasks.iter().map(|(counter, _)| counter.wakes()).sum();
    [most, wakes]
}

#[test]
fn wakers_left_by_poll_methods_do_not_accumulate() {
    for (new, stay, turn_every) in [(50_000, 0, 1), (50_000, 0, 3), (10_000, 100, 1)] {
        let [most, wakes] = wakers_left(new, stay, turn_every);
        assert!(most <= 1000, "{most} of {new} wakers kept beside {stay}");
        assert!(wakes <= new, "{wakes} wakes for {new} new waiters");
    }
}

#[test]
fn panicking_waker_does_not_stop_other_wakes() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let panics = Waker::from(Arc::new(OnWake(|what| {
        assert_ne!(what, "wake", "on purpose")
    })));
    let counters: Vec<_> = (0..9).map(|_| Counter::new()).collect();
    for (i, (_, waker)) in counters.iter().enumerate() {
        assert!(poll_byte(&io, waker).is_pending());
        if i % 3 == 0 {
            let panics = Waker::from(Arc::new(OnWake(|what| {
                assert_ne!(what, "wake", "on purpose")
            })));
            assert!(poll_byte(&io, &panics).is_pending());
        }
    }
    assert!(poll_byte(&io, &panics).is_pending());
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || {
        counters.iter().all(|(counter, _)| counter.wakes() == 1)
    });
    assert!(matches!(
        poll_byte(&io, Waker::noop()),
        Poll::Ready(Ok(b'x'))
    ));
}

#[test]
fn panics_of_checked_wakers_do_not_reach_the_caller() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    for _ in 0..100 {
        let panics = Waker::from(Arc::new(OnWake(|what| {
            assert_ne!(what, "wake", "on purpose")
        })));
        assert!(poll_byte(&io, &panics).is_pending());
    }
    let (counter, waker) = Counter::new();
    assert!(poll_byte(&io, &waker).is_pending());
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || counter.wakes() == 1);
}

#[test]
fn event_during_a_waker_clone_is_not_lost() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    assert!(poll_byte(&io, Waker::noop()).is_pending());
    settle(&reactor);
    peer.write_all(b"x").unwrap();
    hook(move |what| {
        if what == "clone" {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    });
    assert!(matches!(poll_byte(&io, &hooked()), Poll::Ready(Ok(b'x'))));
    unhook();
}

#[test]
fn waker_can_turn_and_use_the_reactor() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let io = Rc::new(RefCell::new(Some(io)));
    let waker = hooked();
    assert!(poll_byte(io.borrow().as_ref().unwrap(), &waker).is_pending());
    let calls = Rc::new(RefCell::new(Vec::new()));
    let (trace, inner) = (calls.clone(), io.clone());
    hook(move |what| {
        trace.borrow_mut().push(what);
        let reactor = Reactor::current().unwrap();
        let (other, mut other_peer) = pair();
        let (counter, waker) = Counter::new();
        assert!(poll_byte(&other, &waker).is_pending());
        other_peer.write_all(b"y").unwrap();
        let mut nap = sleep(Duration::ZERO);
        assert!(poll(&mut nap, &waker).is_pending());
        drop(sleep(Duration::from_secs(9)));
        inner.take(); // the very socket that it waits for
        turn_until(&reactor, || counter.wakes() == 2);
    });
    peer.write_all(b"x").unwrap();
    settle(&reactor);
    drop(waker.clone());
    drop(waker);
    unhook();
    for what in ["wake", "clone", "drop"] {
        assert!(calls.borrow().contains(&what), "{what}");
    }
}

#[test]
fn waker_can_drop_its_socket() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let io = Rc::new(Cell::new(Some(io)));
    let waker = hooked();
    let held = io.take().unwrap();
    assert!(poll_byte(&held, &waker).is_pending());
    io.set(Some(held));
    settle(&reactor);
    let (inner, inside) = (io.clone(), reactor.clone());
    hook(move |what| {
        if what == "wake" {
            inner.take();
            inside.turn(Some(Duration::ZERO)).unwrap();
        }
    });
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || {
        let gone = io.take();
        let done = gone.is_none();
        io.set(gone);
        done
    });
    unhook();
}

#[test]
fn interrupted_operation_is_retried() {
    let _reactor = Reactor::current().unwrap();
    let (io, _peer) = pair();
    let mut tries = 0;
    let done = io.try_read_with(|_| {
        tries += 1;
        if tries < 3 {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Ok(tries)
        }
    });
    assert_eq!(done.unwrap(), 3);
}

#[test]
fn event_during_an_operation_is_kept() {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    settle(&reactor);
    let mut tries = 0;
    let mut operation = pin!(io.read_with(|mut io| {
        tries += 1;
        let read = io.read(&mut [0; 8]);
        if tries == 1 {
            peer.write_all(b"x").unwrap();
            reactor.turn(None).unwrap();
        }
        read
    }));
    let polled = operation
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(1))));
}

#[test]
fn error_without_a_running_reactor_says_what_to_call() {
    let (io, _peer) = pair();
    let error = futures::executor::block_on(io.readable())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("block_on") && error.contains("Reactor"),
        "{error}"
    );
    let error = futures::executor::block_on(io.read_with(|mut io| io.read(&mut [0])));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("block_on") && error.contains("Reactor"),
        "{error}"
    );
}

#[test]
fn ready_operations_succeed_without_a_running_reactor() {
    let (io, mut peer) = pair();
    peer.write_all(b"x").unwrap();
    futures::executor::block_on(io.readable()).unwrap();
    assert!(matches!(
        poll_byte(&io, Waker::noop()),
        Poll::Ready(Ok(b'x'))
    ));
}

#[test]
fn other_executors_work_beside_a_reactor_thread() {
    let (io, mut peer) = pair();
    let thread = std::thread::spawn(move || peer.write_all(b"x"));
    let read = block_on(io.read_with(|mut io| io.read(&mut [0; 8])));
    assert_eq!(read.unwrap(), 1);
    thread.join().unwrap().unwrap();
}

/// Wakes by pushing a number onto the run queue, as an executor does.
struct Queued(
    usize,
    Arc<std::sync::Mutex<std::collections::VecDeque<usize>>>,
);

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push_back(self.0);
    }
}

/// Counts the polls of `n` tasks that wait for a silent source, at 64 polls per turn, and their
/// polls after an event. Each task stores its waker through a poll method.
fn polls_of_a_crowd(n: usize) -> [usize; 2] {
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let queue = Arc::new(std::sync::Mutex::new((0..n).collect()));
    let wakers: Vec<_> = (0..n)
        .map(|i| Waker::from(Arc::new(Queued(i, queue.clone()))))
        .collect();
    let come_to_rest = |mut is_done: Box<dyn FnMut(usize) -> bool + '_>| {
        let mut polls = 0;
        while !is_done(polls) {
            for _ in 0..64 {
                let Some(task) = queue.lock().unwrap().pop_front() else {
                    break;
                };
                polls += 1;
                assert!(poll_byte(&io, &wakers[task]).is_pending());
            }
            assert!(
                polls < 10 * n + 1000,
                "the wakes never stop with {n} waiters"
            );
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        polls
    };
    let is_empty = |_| queue.lock().unwrap().is_empty();
    let silent = come_to_rest(Box::new(is_empty));
    // The event wakes all tasks, but a faster reader has taken the byte.
    peer.write_all(b"x").unwrap();
    reactor.turn(None).unwrap();
    assert!(matches!(
        poll_byte(&io, Waker::noop()),
        Poll::Ready(Ok(b'x'))
    ));
    let after_event = come_to_rest(Box::new(|polls| polls >= n && is_empty(polls)));
    [silent, after_event]
}

#[test]
fn polls_per_waiter_are_constant_up_to_20_000() {
    for n in [1, 2, 16, 17, 18, 64, 66, 100, 512, 600, 1000, 5000, 20_000] {
        let [silent, after_event] = polls_of_a_crowd(n);
        assert!(silent <= 2 * n, "{silent} polls of {n} waiters");
        assert_eq!(after_event, n, "after an event of {n} waiters");
    }
}

#[test]
fn dropped_futures_leave_at_most_one_waker() {
    let _reactor = Reactor::current().unwrap();
    let (io, _peer) = pair();
    let shared = Arc::new(());
    let held = || Waker::from(Arc::new(Held(shared.clone())));
    for n in [1, 2, 3, 20, 1000] {
        let mut waits: Vec<_> = (0..n)
            .map(|_| {
                let read = Box::pin(io.read_with(|mut io| io.read(&mut [0])));
                (io.readable(), read)
            })
            .collect();
        for (readable, read) in &mut waits {
            assert!(poll(readable, &held()).is_pending());
            assert!(poll(read, &held()).is_pending());
        }
        let kept = Arc::strong_count(&shared);
        assert_eq!(kept, 2 * n + 1, "each waiter has its own waker");
        drop(waits.split_off(n / 2));
        assert!(Arc::strong_count(&shared) <= 2 * (n / 2) + 2);
        drop(waits);
        assert!(Arc::strong_count(&shared) <= 2, "of {n}");
    }
}

#[test]
fn waker_stays_while_another_future_of_its_task_waits() {
    let reactor = Reactor::current().unwrap();
    for others in [0, 1, 40] {
        let (io, mut peer) = pair();
        for _ in 0..others {
            assert!(poll_byte(&io, &Counter::new().1).is_pending());
        }
        let (counter, waker) = Counter::new();
        let mut futures: Vec<_> = (0..3).map(|_| io.readable()).collect();
        for readable in &mut futures {
            assert!(poll(readable, &waker).is_pending());
            assert!(poll(readable, &waker).is_pending());
        }
        futures.truncate(1);
        let (polled, by_method) = Counter::new();
        let mut dropped = io.readable();
        assert!(poll(&mut dropped, &by_method).is_pending());
        assert!(poll_byte(&io, &by_method).is_pending());
        drop(dropped);
        peer.write_all(b"x").unwrap();
        turn_until(&reactor, || counter.wakes() == 1 && polled.wakes() == 1);
    }
}

#[test]
fn panicking_panic_payload_loses_no_wakes() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, by a payload");
        }
    }
    let bomb = || {
        Waker::from(Arc::new(OnWake(|what| {
            if what == "wake" {
                std::panic::panic_any(Bomb);
            }
        })))
    };
    let reactor = Reactor::current().unwrap();
    let (io, mut peer) = pair();
    let counters: Vec<_> = (0..9).map(|_| Counter::new()).collect();
    let mut sleeps: Vec<_> = (0..18).map(|_| sleep(Duration::ZERO)).collect();
    for (i, (_, waker)) in counters.iter().enumerate() {
        assert!(poll_byte(&io, &bomb()).is_pending());
        assert!(poll_byte(&io, waker).is_pending());
        assert!(poll(&mut sleeps[2 * i], &bomb()).is_pending());
        assert!(poll(&mut sleeps[2 * i + 1], waker).is_pending());
    }
    peer.write_all(b"x").unwrap();
    turn_until(&reactor, || counters.iter().all(|(it, _)| it.wakes() == 2));
}

#[test]
fn panics_of_dropped_wakers_do_not_abort() {
    let reactor = Reactor::current().unwrap();
    let (io, _peer) = pair();
    for _ in 0..40 {
        let panics = Waker::from(Arc::new(OnWake(|what| {
            assert_ne!(what, "drop", "on purpose")
        })));
        assert!(poll_byte(&io, &panics).is_pending());
    }
    drop(io);
    settle(&reactor);
}
