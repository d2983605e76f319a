//! Wakes from other threads. Each wake is delivered once, and a waker may outlive its executor.

mod common;

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use common::*;
use windlass_executor::{Executor, TickResult, block_on, spawn, yield_now};

/// Runs a closure on another thread and waits until it returns.
fn on_other_thread(code: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(code).join()).expect("no panic on the thread");
}

#[test]
fn a_remote_wake_wakes_the_driver_and_queues_the_task() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    let waker = kept(&waker);
    on_other_thread(|| waker.wake());
    assert_eq!(wakes.take(), 1);
    assert!(executor.has_ready());
    let (polled, ready) = (1, false);
    assert_eq!(executor.tick(&driver, 9), TickResult { polled, ready });
    trace.is(&["poll a", "poll a"]);
}

#[test]
fn many_remote_wakes_wake_the_driver_once() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (a, b): (Kept, Kept) = Default::default();
    executor.spawn(traced(&trace, "a", keep(&a))).detach();
    executor.spawn(traced(&trace, "b", keep(&b))).detach();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    trace.is(&["poll a", "poll b"]);
    for round in 0..3 {
        let (a, b) = (kept(&a), kept(&b));
        on_other_thread(|| {
            for _ in 0..100 {
                b.wake_by_ref();
                a.wake_by_ref();
            }
        });
        assert_eq!(wakes.take(), 1, "in round {round}");
        let (polled, ready) = (2, false);
        assert_eq!(executor.tick(&driver, 9), TickResult { polled, ready });
        trace.is(&["poll b", "poll a"]);
    }
}

#[test]
fn remote_wakes_reach_each_of_many_executors() {
    // One slot of one generation each, so their wakers differ in the id of the executor alone.
    let executors: Vec<_> = (0..130)
        .map(|_| {
            let (executor, waker) = (Executor::new(), Kept::default());
            executor
                .spawn(traced(&Trace::new(), "a", keep(&waker)))
                .detach();
            settle(&executor);
            (executor, kept(&waker))
        })
        .collect();
    for (woken, waker) in &executors {
        on_other_thread(|| waker.wake_by_ref());
        for (executor, _) in &executors {
            let is_woken = std::ptr::eq(executor, woken);
            assert_eq!(executor.has_ready(), is_woken);
        }
        let (polled, ready) = (1, false);
        assert_eq!(woken.tick(Waker::noop(), 9), TickResult { polled, ready });
    }
}

#[test]
fn a_task_woken_locally_and_remotely_is_polled_once() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    settle(&executor);
    let (here, there) = (kept(&waker), kept(&waker));
    here.wake();
    on_other_thread(|| there.wake());
    settle(&executor);
    trace.is(&["poll a", "poll a"]);
}

#[test]
fn a_remote_wake_while_its_task_runs_is_not_lost() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut first = true;
    let step = move |cx: &mut Context<'_>| {
        if std::mem::take(&mut first) {
            let waker = cx.waker().clone();
            on_other_thread(|| waker.wake());
        }
        Poll::Pending::<()>
    };
    executor.spawn(traced(&trace, "a", step)).detach();
    let (wakes, driver) = Count::new();
    let ticked = executor.tick(&driver, 9);
    assert!(ticked.ready && wakes.take() == 1);
    settle(&executor);
    trace.is(&["poll a", "poll a"]);
}

#[test]
fn a_remote_wake_during_a_run_polls_the_run_again() {
    let executor = Executor::new();
    let mut polls = 0;
    let main = poll_fn(|cx| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        on_other_thread(|| waker.wake());
        Poll::Pending
    });
    block_on(executor.run(main));
    assert_eq!(polls, 2);
}

#[test]
fn a_stale_remote_wake_never_wakes_the_next_task_in_the_slot() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let task = executor.spawn(traced(&trace, "a", keep(&waker)));
    settle(&executor);
    drop(task);
    let fresh = Kept::default();
    executor.spawn(traced(&trace, "b", keep(&fresh))).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b"]);
    let stale = kept(&waker);
    on_other_thread(|| stale.wake());
    settle(&executor);
    trace.is(&[]);

    // A fresh wake takes effect before or after a stale one.
    for fresh_first in [true, false] {
        let (stale, fresh) = (kept(&waker), kept(&fresh));
        on_other_thread(|| {
            let order = if fresh_first {
                [fresh, stale]
            } else {
                [stale, fresh]
            };
            order.into_iter().for_each(Waker::wake);
        });
        settle(&executor);
        trace.is(&["poll b"]);
    }
}

#[test]
fn a_posted_wake_of_a_cancelled_task_does_not_wake_the_next_one() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let task = executor.spawn(traced(&trace, "a", keep(&waker)));
    settle(&executor);
    let waker = kept(&waker);
    on_other_thread(|| waker.wake());
    drop(task);
    executor.spawn(traced(&trace, "b", idle())).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b"]);
}

#[test]
fn a_wake_after_the_executor_is_gone_does_nothing() {
    let waker = Kept::default();
    let executor = Executor::new();
    executor
        .spawn(traced(&Trace::new(), "a", keep(&waker)))
        .detach();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    drop(executor);
    let waker = kept(&waker);
    on_other_thread(|| {
        let copy = waker.clone();
        waker.wake_by_ref();
        copy.wake();
    });
    waker.wake();
    assert_eq!(wakes.take(), 0);
}

#[test]
fn a_wake_after_the_executors_thread_is_gone_does_nothing() {
    let (wakes, driver) = Count::new();
    let home = thread::spawn(move || {
        let (executor, waker) = (Executor::new(), Kept::default());
        executor
            .spawn(traced(&Trace::new(), "a", keep(&waker)))
            .detach();
        executor.tick(&driver, 9);
        kept(&waker)
    });
    let waker = home.join().expect("no panic on the thread");
    waker.wake_by_ref();
    waker.wake();
    assert_eq!(wakes.take(), 0);
}

#[test]
fn a_stale_wake_never_reaches_the_next_executor_with_its_id() {
    for _ in 0..1000 {
        let (executor, waker) = (Executor::new(), Kept::default());
        let name = format!("{executor:?}");
        executor
            .spawn(traced(&Trace::new(), "a", keep(&waker)))
            .detach();
        settle(&executor);
        drop(executor);
        let (sender, receiver) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let next = thread::spawn(move || {
            let found = executor_with_the_id_of(&name);
            let Some((executor, _others)) = found else {
                sender.send(false).expect("the test waits");
                return true;
            };
            executor.spawn(pending::<()>()).detach();
            let (wakes, driver) = Count::new();
            executor.tick(&driver, 9);
            sender.send(true).expect("the test waits");
            wait.recv().expect("the test wakes");
            wakes.take() == 0 && !executor.has_ready()
        });
        let is_same = receiver.recv().expect("no panic on the thread");
        if is_same {
            kept(&waker).wake();
            go.send(()).expect("the other thread waits");
        }
        assert!(next.join().expect("no panic on the thread"));
        if is_same {
            return;
        }
    }
    panic!("no executor got the id of the one before");
}

#[test]
fn wakers_work_on_any_thread_and_the_future_stays_on_its_own() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let executor = Executor::new();
    let (send, wakers) = mpsc::channel::<Waker>();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let other = thread::spawn(move || {
        for waker in wakers {
            let copy = waker.clone();
            drop(waker);
            copy.wake_by_ref();
            copy.wake();
        }
        stopped.store(true, SeqCst);
    });
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (send, canary, mut polls) = (send.clone(), Canary::new(&dropped), 0);
            executor.spawn(poll_fn(move |cx| {
                canary.sing();
                polls += 1;
                if polls == 100 {
                    return Poll::Ready(());
                }
                send.send(cx.waker().clone())
                    .expect("the other thread receives");
                Poll::Pending
            }))
        })
        .collect();
    drop(send);
    block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    other.join().expect("no panic on the thread");
    assert!(stop.load(SeqCst));
    assert_eq!(dropped.load(SeqCst), 10);
}

#[test]
fn no_wake_is_lost_between_two_threads_that_alternate() {
    const ROUNDS: usize = 20_000;
    let (sender, wakers) = mpsc::sync_channel::<Waker>(1);
    let answered = Arc::new(AtomicUsize::new(0));
    let answers = answered.clone();
    let other = thread::spawn(move || {
        for waker in wakers {
            answers.fetch_add(1, SeqCst);
            waker.wake();
        }
    });
    let rounds = answered.clone();
    let (mut sent, mut polls) = (0, 0);
    let alternating = poll_fn(move |cx| {
        polls += 1;
        if rounds.load(SeqCst) < sent {
            return Poll::Pending; // a spurious poll
        }
        if sent == ROUNDS {
            return Poll::Ready(polls);
        }
        sent += 1;
        sender
            .send(cx.waker().clone())
            .expect("the other thread receives");
        Poll::Pending
    });
    let polls = block_on(Executor::new().run(async { spawn(alternating).await }));
    other.join().expect("no panic on the thread");
    assert_eq!(answered.load(SeqCst), ROUNDS);
    assert!(
        polls <= 2 * ROUNDS + 1,
        "{polls} polls: some were for nothing"
    );
}

#[test]
fn tasks_that_park_and_unpark_their_thread_lose_no_wake() {
    const ROUNDS: usize = 200;
    let (sender, wakers) = mpsc::sync_channel::<Waker>(1);
    let other = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
    let mut polls = 0;
    let greedy = poll_fn(move |cx| {
        polls += 1;
        if polls > ROUNDS {
            return Poll::Ready(polls);
        }
        sender
            .send(cx.waker().clone())
            .expect("the other thread receives");
        // Consumes the thread's park token, if there is one.
        thread::current().unpark();
        thread::park();
        Poll::Pending
    });
    let polls = block_on(Executor::new().run(async { spawn(greedy).await }));
    other.join().expect("no panic on the thread");
    assert_eq!(polls, ROUNDS + 1);
}

#[test]
fn a_driver_waker_that_panics_does_not_lose_the_wake() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("no driver");
        }
    }
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    executor.tick(&Waker::from(Arc::new(Panics)), 9);
    let waker = kept(&waker);
    on_other_thread(|| assert_eq!(panic_of(|| waker.wake_by_ref()), "no driver"));
    settle(&executor);
    trace.is(&["poll a", "poll a"]);

    executor.tick(&Waker::from(Arc::new(Panics)), 9);
    assert_eq!(panic_of(|| waker.wake_by_ref()), "no driver");
    settle(&executor);
    trace.is(&["poll a"]);
    on_other_thread(|| waker.wake());
    settle(&executor);
    trace.is(&["poll a"]);
}

/// Wakers that other threads wake in a tight loop.
struct Storm {
    wakers: Mutex<Vec<Waker>>,
    is_over: AtomicBool,
}

impl Storm {
    fn blow(&self) {
        while !self.is_over.load(SeqCst) {
            let wakers = self.wakers.lock().expect("it isn't poisoned").clone();
            for waker in wakers {
                waker.wake();
            }
        }
    }

    fn around(code: impl FnOnce(&Arc<Storm>)) {
        let storm = Arc::new(Storm {
            wakers: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| storm.blow());
            }
            let ended = catch_unwind(AssertUnwindSafe(|| code(&storm)));
            storm.is_over.store(true, SeqCst);
            ended.expect("the code did not panic");
        });
    }
}

#[test]
fn executors_may_be_dropped_during_remote_wakes() {
    let dropped = Arc::new(AtomicUsize::new(0));
    Storm::around(|storm| {
        for round in 0..1000 {
            let executor = Executor::new();
            for _ in 0..8 {
                let (waker, canary) = (Kept::default(), Canary::new(&dropped));
                let inner = waker.clone();
                let waiting = poll_fn(move |cx| {
                    canary.sing();
                    inner.replace(Some(cx.waker().clone()));
                    Poll::Pending::<()>
                });
                executor.spawn(waiting).detach();
                executor.tick(Waker::noop(), 20);
                let mut wakers = storm.wakers.lock().expect("it isn't poisoned");
                wakers.truncate(40); // those of executors before stay for a while
                let place = round % (wakers.len() + 1);
                wakers.insert(place, kept(&waker));
            }
            executor.tick(Waker::noop(), 20);
        }
    });
    assert_eq!(dropped.load(SeqCst), 8000);
}

#[test]
fn remote_wakes_find_their_tasks_while_slots_are_reused() {
    Storm::around(|storm| {
        let storm = storm.clone();
        block_on(Executor::new().run(async {
            for _ in 0..300 {
                let tasks: Vec<_> = (0..10).map(|_| spawn(two_wakes(storm.clone()))).collect();
                let cancelled = spawn(two_wakes(storm.clone()));
                yield_now().await;
                drop(cancelled);
                for task in tasks {
                    task.await;
                }
                let mut wakers = storm.wakers.lock().expect("it isn't poisoned");
                wakers.truncate(20); // stale ones go on for a while
            }
        }));
    });

    /// Waits for two wakes, which come only from the storm.
    async fn two_wakes(storm: Arc<Storm>) {
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            let mut wakers = storm.wakers.lock().expect("it isn't poisoned");
            wakers.insert(0, cx.waker().clone());
            if polls > 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

#[test]
fn a_busy_loop_checks_its_inbox_within_the_budget() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    settle(&executor);
    let inner = trace.clone();
    let main = async {
        let waker = kept(&waker);
        on_other_thread(|| waker.wake());
        for _ in 0..32 {
            yield_now().await;
        }
        inner.push("main ends");
    };
    assert!(poll(&mut std::pin::pin!(executor.run(main))).is_ready());
    trace.is(&["poll a", "poll a", "main ends"]);
}
