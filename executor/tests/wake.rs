//! The effects of a wake on the executor's own thread.

mod common;

use std::future::{pending, poll_fn};
use std::task::{Context, Poll, Waker};

use common::*;
use windlass_executor::{Executor, TickResult, block_on, yield_now};

#[test]
fn two_wakes_queue_a_task_once() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    settle(&executor);
    trace.is(&["poll a"]);
    kept(&waker).wake_by_ref();
    kept(&waker).wake_by_ref();
    kept(&waker).wake();
    settle(&executor);
    trace.is(&["poll a"]);
}

#[test]
fn waking_an_unpolled_task_does_not_queue_it_twice() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    executor.tick(Waker::noop(), 1);
    kept(&waker).wake();
    executor.spawn(traced(&trace, "b", idle())).detach();
    kept(&waker).wake();
    settle(&executor);
    trace.is(&["poll a", "poll a", "poll b"]);
}

#[test]
fn a_task_that_wakes_itself_twice_is_polled_once_more() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut first = true;
    let step = move |cx: &mut Context<'_>| {
        if std::mem::take(&mut first) {
            let copy = cx.waker().clone();
            cx.waker().wake_by_ref();
            copy.wake();
        }
        Poll::Pending::<()>
    };
    executor.spawn(traced(&trace, "a", step)).detach();
    settle(&executor);
    trace.is(&["poll a", "poll a"]);
}

#[test]
fn waking_a_finished_task_does_nothing() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let inner = waker.clone();
    let step = move |cx: &mut Context<'_>| {
        inner.replace(Some(cx.waker().clone()));
        Poll::Ready(5)
    };
    let task = executor.spawn(traced(&trace, "a", step));
    settle(&executor);
    trace.is(&["poll a", "drop a"]);

    kept(&waker).wake(); // its output is still there
    assert!(!executor.has_ready());
    assert_eq!(block_on(task), 5);
    kept(&waker).wake(); // its slot is free
    assert!(!executor.has_ready());
}

#[test]
fn a_task_that_wakes_itself_and_ends_is_not_polled_again() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let step = |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        Poll::Ready(5)
    };
    let task = executor.spawn(traced(&trace, "a", step));
    executor.spawn(traced(&trace, "b", step)).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b", "drop b"]);
    assert_eq!(block_on(task), 5);
}

#[test]
fn waking_a_cancelled_task_does_nothing() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let task = executor.spawn(traced(&trace, "a", keep(&waker)));
    settle(&executor);
    drop(task);
    kept(&waker).wake();
    assert!(!executor.has_ready());
    trace.is(&["poll a", "drop a"]);
}

#[test]
fn a_stale_waker_never_wakes_the_next_task_in_its_slot() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut stale = Vec::new();
    for round in 0..3 {
        let waker = Kept::default();
        let task = executor.spawn(traced(&trace, "a", keep(&waker)));
        settle(&executor);
        trace.is(&["poll a"]);
        for waker in &stale {
            Waker::wake_by_ref(waker);
        }
        assert!(!executor.has_ready(), "in round {round}");
        stale.push(kept(&waker));
        drop(task);
        trace.is(&["drop a"]);
    }
    assert!(!stale[0].will_wake(&stale[1]));
}

#[test]
fn a_slot_freed_in_the_queue_can_be_reused() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let first = executor.spawn(traced(&trace, "a", keep(&waker)));
    executor.spawn(traced(&trace, "b", idle())).detach();
    settle(&executor);
    kept(&waker).wake();
    drop(first); // it is in the queue
    executor.spawn(traced(&trace, "c", idle())).detach();
    kept(&waker).wake();
    executor.spawn(traced(&trace, "d", idle())).detach();
    settle(&executor);
    executor.spawn(traced(&trace, "e", idle())).detach();
    settle(&executor);
    trace.is(&["poll a", "poll b", "drop a", "poll c", "poll d", "poll e"]);
}

#[test]
fn a_waker_of_a_dropped_executor_never_wakes_the_next_one() {
    for _ in 0..1000 {
        let (executor, waker) = (Executor::new(), Kept::default());
        let name = format!("{executor:?}");
        executor
            .spawn(traced(&Trace::new(), "old", keep(&waker)))
            .detach();
        settle(&executor);
        drop(executor);
        let Some((executor, _others)) = executor_with_the_id_of(&name) else {
            continue;
        };
        executor.spawn(pending::<()>()).detach();
        settle(&executor);
        kept(&waker).wake();
        assert!(!executor.has_ready());
        return;
    }
    panic!("no executor got the id of the one before");
}

#[test]
fn a_stale_waker_of_a_main_future_never_wakes_the_next_task() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let mut run = executor.run(traced(&trace, "main", keep(&waker)));
    assert!(poll(&mut run).is_pending());
    drop(run);
    executor.spawn(traced(&trace, "a", idle())).detach();
    settle(&executor);
    kept(&waker).wake();
    assert!(!executor.has_ready());
    trace.is(&["poll main", "drop main", "poll a"]);
}

#[test]
fn a_task_gets_an_equal_waker_at_each_poll() {
    let executor = Executor::new();
    let mut wakers = Vec::new();
    let task = executor.spawn(poll_fn(move |cx| {
        wakers.push(cx.waker().clone());
        cx.waker().wake_by_ref();
        match wakers.len() {
            3 => Poll::Ready(std::mem::take(&mut wakers)),
            _ => Poll::Pending,
        }
    }));
    settle(&executor);
    let wakers = block_on(task);
    assert!(wakers[0].will_wake(&wakers[1]) && wakers[1].will_wake(&wakers[2]));
}

#[test]
fn only_the_first_wake_wakes_a_parked_driver() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (a, b): (Kept, Kept) = Default::default();
    executor.spawn(traced(&trace, "a", keep(&a))).detach();
    executor.spawn(traced(&trace, "b", keep(&b))).detach();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    assert_eq!(wakes.take(), 0);
    kept(&a).wake();
    assert_eq!(wakes.take(), 1);
    kept(&a).wake();
    kept(&b).wake();
    assert_eq!(wakes.take(), 0);
    executor.tick(&driver, 9);
    kept(&b).wake();
    assert_eq!(wakes.take(), 1);
}

#[test]
fn a_spawn_wakes_a_parked_driver() {
    let executor = Executor::new();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    executor.spawn(async {}).detach();
    assert_eq!(wakes.take(), 1);
    executor.spawn(async {}).detach();
    assert_eq!(wakes.take(), 0);
}

#[test]
fn wakes_inside_of_a_task_do_not_wake_the_driver() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    let (wakes, driver) = Count::new();
    executor.tick(&driver, 9);
    let other = kept(&waker);
    executor.spawn(async move { other.wake() }).detach();
    wakes.take();
    let (polled, ready) = (2, false);
    assert_eq!(executor.tick(&driver, 9), TickResult { polled, ready });
    assert_eq!(wakes.take(), 0);
    trace.is(&["poll a", "poll a"]);
}

#[test]
fn only_the_latest_driver_is_woken() {
    let (executor, waker) = (Executor::new(), Kept::default());
    executor
        .spawn(traced(&Trace::new(), "a", keep(&waker)))
        .detach();
    let ((old_wakes, old), (new_wakes, new)) = (Count::new(), Count::new());
    executor.tick(&old, 9);
    executor.tick(&new, 9);
    kept(&waker).wake();
    assert_eq!((old_wakes.take(), new_wakes.take()), (0, 1));
}

#[test]
fn a_driver_that_stays_the_same_is_not_cloned_again() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (hooks, driver) = hooked();
    executor.tick(&driver, 9);
    let inner = trace.clone();
    hooks.on_clone.set(move || inner.push("clone"));
    executor.spawn(async {}).detach();
    executor.tick(&driver, 9);
    trace.is(&[]);
}

#[test]
fn a_wake_inside_another_executor_wakes_the_tasks_own_driver() {
    let (near, far, trace, waker) = (
        Executor::new(),
        Executor::new(),
        Trace::new(),
        Kept::default(),
    );
    far.spawn(traced(&trace, "far", keep(&waker))).detach();
    let (wakes, driver) = Count::new();
    far.tick(&driver, 9);
    let waker = kept(&waker);
    near.spawn(async move { waker.wake() }).detach();
    settle(&near);
    assert_eq!(wakes.take(), 1);
    far.tick(&driver, 9);
    trace.is(&["poll far", "poll far"]);
}

#[test]
fn others_ready_reports_ready_tasks_of_idle_executors() {
    let (one, other) = (Executor::new(), Executor::new());
    assert!(!one.others_ready() && !other.others_ready());
    let task = other.spawn(yield_now());
    assert!(one.others_ready() && !other.others_ready());
    drop(task);
    settle(&other);
    assert!(!one.others_ready());

    // A running executor polls its ready tasks itself.
    let one = std::rc::Rc::new(one);
    let inner = one.clone();
    let checked = other.spawn(async move { inner.others_ready() });
    let ready = other.spawn(yield_now());
    settle(&other);
    assert!(!block_on(checked));
    drop(ready);
}
