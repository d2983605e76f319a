//! The order in which tasks are polled, and when the loop returns to its driver.

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::{Count, Kept, Trace, idle, keep, kept, poll, poll_with, ready, settle, traced};
use windlass_executor::{Executor, TickResult, block_on, spawn, yield_now};

#[test]
fn tasks_are_polled_in_the_order_of_spawning() {
    let (executor, trace) = (Executor::new(), Trace::new());
    for name in ["a", "b", "c"] {
        executor.spawn(traced(&trace, name, ready(()))).detach();
    }
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b", "drop b", "poll c", "drop c"]);
}

#[test]
fn tasks_in_reused_slots_are_polled_in_the_order_of_spawning() {
    let (executor, trace) = (Executor::new(), Trace::new());
    for name in ["a", "b", "c"] {
        executor.spawn(traced(&trace, name, ready(()))).detach();
    }
    settle(&executor);
    trace.take();
    for name in ["d", "e", "f", "g"] {
        executor.spawn(traced(&trace, name, idle())).detach();
    }
    settle(&executor);
    trace.is(&["poll d", "poll e", "poll f", "poll g"]);
}

#[test]
fn woken_tasks_are_polled_in_the_order_of_their_wakes() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let wakers: [Kept; 3] = Default::default();
    for (name, slot) in ["a", "b", "c"].into_iter().zip(&wakers) {
        executor.spawn(traced(&trace, name, keep(slot))).detach();
    }
    settle(&executor);
    trace.is(&["poll a", "poll b", "poll c"]);
    for i in [2, 0, 1] {
        kept(&wakers[i]).wake();
    }
    settle(&executor);
    trace.is(&["poll c", "poll a", "poll b"]);
}

#[test]
fn spawn_never_polls_at_once() {
    let (executor, trace) = (Executor::new(), Trace::new());
    executor.spawn(traced(&trace, "a", idle())).detach();
    trace.is(&[]);

    let entered = executor.enter();
    spawn(traced(&trace, "b", idle())).detach();
    drop(entered);
    trace.is(&[]);

    let inner = trace.clone();
    let spawning = move |_: &mut Context<'_>| {
        spawn(traced(&inner, "d", idle())).detach();
        inner.push("spawned d");
        Poll::Ready(())
    };
    executor.spawn(traced(&trace, "c", spawning)).detach();
    settle(&executor);
    trace.is(&[
        "poll a",
        "poll b",
        "poll c",
        "spawned d",
        "drop c",
        "poll d",
    ]);
}

#[test]
fn a_task_that_woke_itself_is_ready_before_its_poll_returns() {
    let executor = Rc::new(Executor::new());
    let (inner, seen) = (executor.clone(), Rc::new(Cell::new(None)));
    let result = seen.clone();
    let waking = poll_fn(move |cx| {
        let before = inner.has_ready();
        cx.waker().wake_by_ref();
        result.set(Some((before, inner.has_ready())));
        Poll::<()>::Pending
    });
    let task = executor.spawn(waking);
    executor.tick(Waker::noop(), 1);
    assert_eq!(seen.get(), Some((false, true)));
    drop(task); // with it goes its executor
}

#[test]
fn a_task_that_wakes_itself_is_polled_after_all_ready_ones() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut left = 2;
    let selfish = move |cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    };
    executor.spawn(traced(&trace, "selfish", selfish)).detach();
    executor.spawn(traced(&trace, "a", ready(()))).detach();
    let inner = trace.clone();
    let spawning = move |_: &mut Context<'_>| {
        spawn(traced(&inner, "c", idle())).detach();
        Poll::Pending::<()>
    };
    executor.spawn(traced(&trace, "b", spawning)).detach();
    settle(&executor);
    trace.is(&[
        "poll selfish",
        "poll a",
        "drop a",
        "poll b",
        "poll selfish",
        "poll c",
        "poll selfish",
        "drop selfish",
    ]);
}

#[test]
fn yield_now_lets_all_other_ready_tasks_run_once() {
    let (executor, trace) = (Executor::new(), Trace::new());
    for name in ["a", "b"] {
        let trace = trace.clone();
        let steps = async move {
            for step in 1..=3 {
                trace.push(format!("{name}{step}"));
                yield_now().await;
            }
        };
        executor.spawn(steps).detach();
    }
    settle(&executor);
    trace.is(&["a1", "b1", "a2", "b2", "a3", "b3"]);
}

#[test]
fn the_main_future_is_queued_like_a_task() {
    let (executor, trace) = (Executor::new(), Trace::new());
    executor.spawn(traced(&trace, "before", idle())).detach();
    let inner = trace.clone();
    block_on(executor.run(async {
        trace.push("main");
        spawn(traced(&inner, "after", idle())).detach();
        yield_now().await;
        trace.push("main again");
    }));
    trace.is(&["poll before", "main", "poll after", "main again"]);
}

#[test]
fn the_main_future_is_polled_only_when_it_is_woken() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (for_task, for_main): (Kept, Kept) = Default::default();
    executor
        .spawn(traced(&trace, "task", keep(&for_task)))
        .detach();
    let mut run = executor.run(traced(&trace, "main", keep(&for_main)));
    assert!(poll(&mut run).is_pending());
    trace.is(&["poll task", "poll main"]);
    assert!(poll(&mut run).is_pending());
    trace.is(&[]);
    kept(&for_task).wake();
    assert!(poll(&mut run).is_pending());
    trace.is(&["poll task"]);
    kept(&for_main).wake();
    assert!(poll(&mut run).is_pending());
    trace.is(&["poll main"]);
}

#[test]
fn run_yields_to_its_driver_after_256_polls() {
    let executor = Executor::new();
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    let busy = poll_fn(move |cx| {
        counted.set(counted.get() + 1);
        cx.waker().wake_by_ref();
        Poll::Pending::<()>
    });
    executor.spawn(busy).detach();
    let (wakes, waker) = Count::new();
    let mut run = executor.run(pending::<()>());
    for _ in 0..3 {
        assert!(poll_with(&mut run, &waker).is_pending());
        assert_eq!(wakes.take(), 1);
    }
    assert_eq!(polls.get(), 3 * 256 - 1, "one of the polls was main's");
}

#[test]
fn run_does_not_wake_its_waker_when_nothing_is_ready() {
    let executor = Executor::new();
    for _ in 0..255 {
        executor.spawn(async {}).detach();
    }
    let (wakes, waker) = Count::new();
    let mut run = executor.run(pending::<()>());
    assert!(poll_with(&mut run, &waker).is_pending());
    assert_eq!((executor.tasks(), wakes.take()), (0, 0));
}

#[test]
fn a_main_future_that_wakes_itself_does_not_starve_the_driver() {
    let executor = Executor::new();
    let (wakes, waker) = Count::new();
    let mut polls = 0;
    {
        let mut run = pin!(executor.run(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::Pending::<()>
        })));
        let polled = run.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    assert_eq!((polls, wakes.take()), (256, 1));
}

#[test]
fn tick_polls_at_most_its_budget_and_reports_ready_tasks() {
    let (executor, trace) = (Executor::new(), Trace::new());
    for name in ["a", "b", "c"] {
        executor.spawn(traced(&trace, name, idle())).detach();
    }
    let tick = |budget| executor.tick(Waker::noop(), budget);
    let (polled, ready) = (2, true);
    assert_eq!(tick(2), TickResult { polled, ready });
    trace.is(&["poll a", "poll b"]);
    let (polled, ready) = (1, false);
    assert_eq!(tick(2), TickResult { polled, ready });
    trace.is(&["poll c"]);
    let (polled, ready) = (0, false);
    assert_eq!(tick(2), TickResult { polled, ready });
}

#[test]
fn a_tick_without_budget_only_reports_ready_tasks() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (polled, ready) = (0, false);
    assert_eq!(
        executor.tick(Waker::noop(), 0),
        TickResult { polled, ready }
    );
    executor.spawn(traced(&trace, "a", idle())).detach();
    let (polled, ready) = (0, true);
    assert_eq!(
        executor.tick(Waker::noop(), 0),
        TickResult { polled, ready }
    );
    assert!(executor.has_ready());
    trace.is(&[]);
}

#[test]
fn a_cancelled_task_in_the_queue_costs_no_budget() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let cancelled = executor.spawn(traced(&trace, "a", idle()));
    executor.spawn(traced(&trace, "b", idle())).detach();
    drop(cancelled);
    let (polled, ready) = (1, false);
    assert_eq!(
        executor.tick(Waker::noop(), 1),
        TickResult { polled, ready }
    );
    trace.is(&["drop a", "poll b"]);
}

#[test]
fn unfinished_tasks_continue_in_the_next_run() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = trace.clone();
    block_on(executor.run(async move {
        let steps = inner.clone();
        spawn(async move {
            steps.push("task 1");
            yield_now().await;
            steps.push("task 2");
        })
        .detach();
        yield_now().await;
        inner.push("main 1 ends");
    }));
    assert_eq!(executor.tasks(), 1);
    block_on(executor.run(async { trace.push("main 2") }));
    trace.is(&["task 1", "main 1 ends", "task 2", "main 2"]);
}

#[test]
fn tasks_counts_unfinished_tasks() {
    let executor = Executor::new();
    assert_eq!(executor.tasks(), 0);
    let quick = executor.spawn(async { 1 });
    let endless = executor.spawn(pending::<()>());
    assert_eq!(executor.tasks(), 2);
    settle(&executor);
    assert_eq!(executor.tasks(), 1);
    drop(endless);
    assert_eq!(executor.tasks(), 0);
    assert_eq!(block_on(quick), 1);
    assert_eq!(block_on(executor.run(async { executor.tasks() })), 0);
}
