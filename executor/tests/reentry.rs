//! User code that calls the executor from a poll, a destructor or a waker function.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::*;
use windlass_executor::{Entered, Executor, Task, block_on, spawn, yield_now};

const IN_ITSELF: &str = "an executor can't be run from inside of one of its own tasks: `.await` \
                         the future there, or `spawn` it";
const IN_A_TASK: &str =
    "`block_on` inside a task would stop all other tasks: `.await` the future instead";
const TWO_RUNS: &str = "another `run` of this executor is unfinished: await it, or drop it";

/// An executor that tasks can reach. The tasks keep it alive until the test drops them.
fn reachable() -> (Rc<Executor>, Rc<Executor>) {
    let executor = Rc::new(Executor::new());
    (executor.clone(), executor)
}

#[test]
fn spawn_outside_of_an_executor_panics_with_a_message() {
    let expected = "`spawn` was called outside of a windlass runtime: call it from inside of \
                    `windlass::block_on`, hold the guard of `Runtime::enter`, or use \
                    `Runtime::spawn`";
    assert_eq!(panic_of(|| spawn(async {})), expected);
    block_on(Executor::new().run(async {}));
    assert_eq!(panic_of(|| spawn(async {})), expected);
}

#[test]
fn block_on_inside_of_a_task_panics_with_a_message() {
    block_on(Executor::new().run(async {
        assert_eq!(panic_of(|| block_on(async {})), IN_A_TASK);
        let task = spawn(async { block_on(async {}) });
        let panic = task.catch().await.expect_err("it panicked");
        assert_eq!(panic.message(), Some(IN_A_TASK));
    }));
    block_on(async {}); // outside of it again
}

#[test]
fn block_on_in_a_task_panics_whichever_executor_is_entered() {
    block_on(Executor::new().run(async {
        let other = Executor::new();
        let _entered = other.enter();
        assert_eq!(panic_of(|| block_on(async {})), IN_A_TASK);
    }));
}

#[test]
fn an_executor_runs_while_its_loop_is_on_the_stack() {
    let ((executor, inside), other) = (reachable(), Executor::new());
    assert!(!executor.is_running());
    let running = executor.run(async move { (inside.is_running(), other.is_running()) });
    assert_eq!(block_on(running), (true, false));
    assert!(!executor.is_running());
}

#[test]
fn block_on_beside_an_entered_executor_is_fine() {
    let executor = Executor::new();
    let _entered = executor.enter();
    assert_eq!(
        block_on(executor.run(async { spawn(async { 1 }).await })),
        1
    );
}

#[test]
fn running_an_executor_in_its_own_task_panics_with_a_message() {
    let (executor, inner) = reachable();
    let task = executor.spawn(async move {
        assert_eq!(panic_of(|| inner.tick(Waker::noop(), 1)), IN_ITSELF);
        inner.run(async {}).await;
    });
    let panic = block_on(executor.run(task.catch())).expect_err("it panicked");
    assert_eq!(panic.message(), Some(IN_ITSELF));
    assert_eq!(executor.tasks(), 0);
    block_on(executor.run(async {
        assert_eq!(panic_of(|| executor.tick(Waker::noop(), 1)), IN_ITSELF);
    }));
}

#[test]
fn a_task_may_drive_another_executor() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = trace.clone();
    let outer_task = executor.spawn(async move {
        let other = Executor::new();
        other
            .spawn(traced(&inner, "in the other", ready(())))
            .detach();
        let output = other.run(async { spawn(async { 5 }).await }).await;
        spawn(traced(&inner, "in the own", ready(()))).detach();
        assert_eq!(other.tasks(), 0);
        output
    });
    assert_eq!(block_on(executor.run(outer_task)), 5);
    settle(&executor);
    trace.is(&[
        "poll in the other",
        "drop in the other",
        "poll in the own",
        "drop in the own",
    ]);
}

#[test]
fn executors_may_drive_each_other_in_turns() {
    let (outer, trace) = (Executor::new(), Trace::new());
    let (a, b) = (Rc::new(Executor::new()), Rc::new(Executor::new()));
    for (name, executor) in [("a", &a), ("b", &b)] {
        let trace = trace.clone();
        let steps = async move {
            for _ in 0..2 {
                trace.push(name);
                yield_now().await;
            }
        };
        executor.spawn(steps).detach();
    }
    for executor in [a, b] {
        outer
            .spawn(poll_fn(move |cx| {
                if executor.tick(cx.waker(), 1).ready {
                    cx.waker().wake_by_ref();
                }
                if executor.tasks() == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }))
            .detach();
    }
    settle(&outer);
    trace.is(&["a", "b", "a", "b"]);
    assert_eq!(outer.tasks(), 0);
}

#[test]
fn entered_executors_nest() {
    let (a, b) = (Executor::new(), Executor::new());
    let entered = a.enter();
    {
        let _entered = b.enter();
        spawn(async {}).detach();
    }
    spawn(async {}).detach();
    block_on(b.run(async { spawn(pending::<()>()).detach() }));
    spawn(async {}).detach();
    drop(entered);
    assert_eq!((a.tasks(), b.tasks()), (2, 1));
}

#[test]
fn a_second_run_while_one_is_unfinished_panics_with_a_message() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut first = executor.run(traced(&trace, "first", idle()));
    assert!(poll(&mut first).is_pending());
    let mut second = executor.run(traced(&trace, "second", ready(())));
    assert_eq!(panic_of(|| poll(&mut second)), TWO_RUNS);
    trace.is(&["poll first"]);
    drop(first);
    assert!(poll(&mut second).is_ready());
    trace.is(&["drop first", "poll second"]);
}

#[test]
fn an_unpolled_run_does_not_block_another() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let idle_run = executor.run(records_drop_future(&trace));
    block_on(executor.run(async {}));
    drop(idle_run);
    trace.is(&["drop main"]);

    fn records_drop_future(trace: &Trace) -> impl Future<Output = ()> + use<> {
        hold(records_drop(trace, "main"))
    }
}

#[test]
fn a_finished_run_does_not_block_another() {
    let executor = Executor::new();
    let mut first = Box::pin(executor.run(async { 1 }));
    assert_eq!(poll(&mut first), Poll::Ready(1));
    assert_eq!(block_on(executor.run(async { 2 })), 2);
    drop(first);
    assert_eq!(block_on(executor.run(async { 3 })), 3);
}

#[test]
fn the_next_run_continues_the_tasks_of_a_dropped_one() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let waker = Kept::default();
    executor
        .spawn(traced(&trace, "task", keep(&waker)))
        .detach();
    for name in ["first", "second"] {
        let mut run = executor.run(traced(&trace, name, |cx| {
            cx.waker().wake_by_ref();
            Poll::Pending::<()>
        }));
        assert!(poll(&mut run).is_pending());
    }
    let words = trace.take();
    assert_eq!(words.iter().filter(|word| *word == "poll task").count(), 1);
    assert_eq!(
        words.iter().filter(|word| *word == "poll first").count(),
        255
    );
    assert_eq!(
        words.iter().filter(|word| *word == "poll second").count(),
        256
    );
    kept(&waker).wake();
    block_on(executor.run(async { trace.push("third") }));
    trace.is(&["poll task", "third"]);
}

#[test]
fn a_tick_during_an_unfinished_run_panics_and_changes_nothing() {
    let (executor, trace, for_main) = (Executor::new(), Trace::new(), Kept::default());
    let (wakes, driver) = Count::new();
    let mut run = executor.run(traced(&trace, "main", keep(&for_main)));
    assert!(poll_with(&mut run, &driver).is_pending());
    assert_eq!(panic_of(|| executor.tick(Waker::noop(), 9)), TWO_RUNS);
    kept(&for_main).wake();
    assert_eq!(wakes.take(), 1);
    drop(run);
    executor.spawn(traced(&trace, "task", ready(()))).detach();
    assert_eq!(executor.tick(Waker::noop(), 9).polled, 1);
    trace.is(&["poll main", "drop main", "poll task", "drop task"]);
}

#[test]
fn a_destructor_outside_the_loop_may_run_the_executor() {
    let (executor, inner) = reachable();
    let trace = Trace::new();
    let inner_trace = trace.clone();
    let busy = on_drop(move || {
        let task = inner.spawn(traced(&inner_trace, "spawned", ready(3)));
        inner_trace.push(format!("{} tasks", inner.tasks()));
        inner_trace.push(format!("gave {}", block_on(inner.run(task))));
    });
    let task = executor.spawn(hold(busy));
    settle(&executor);
    drop(task);
    trace.is(&["1 tasks", "poll spawned", "drop spawned", "gave 3"]);
}

#[test]
fn a_destructor_inside_the_loop_may_spawn_wake_and_cancel() {
    let (executor, inner) = reachable();
    let (trace, waker) = (Trace::new(), Kept::default());
    let other = executor.spawn(hold(records_drop(&trace, "other")));
    executor
        .spawn(traced(&trace, "woken", keep(&waker)))
        .detach();
    let (waker_inside, inner_trace) = (waker.clone(), trace.clone());
    let busy = on_drop(move || {
        spawn(traced(&inner_trace, "spawned", idle())).detach();
        kept(&waker_inside).wake();
        drop(other);
        inner_trace.push(panic_of(|| inner.tick(Waker::noop(), 1)));
    });
    settle(&executor);
    trace.is(&["poll woken"]);
    executor.spawn(async move { busy }).detach(); // the loop drops its output
    settle(&executor);
    trace.is(&["drop other", IN_ITSELF, "poll spawned", "poll woken"]);
}

/// The body of a waker's clone, drop or wake. Makes every call that is allowed there.
fn busy(
    executor: &Rc<Executor>,
    trace: &Trace,
    other: Task<()>,
    waker: &Kept,
) -> impl FnOnce() + use<> {
    let (executor, trace, waker) = (executor.clone(), trace.clone(), waker.clone());
    move || {
        trace.push("waker");
        executor.spawn(traced(&trace, "spawned", idle())).detach();
        kept(&waker).wake();
        drop(other);
        settle(&executor);
    }
}

#[test]
fn a_waker_may_call_anything_in_its_clone_and_drop() {
    for hook in ["clone", "drop"] {
        let (executor, trace) = (Rc::new(Executor::new()), Trace::new());
        let waker = Kept::default();
        executor
            .spawn(traced(&trace, "woken", keep(&waker)))
            .detach();
        let other = executor.spawn(hold(records_drop(&trace, "other")));
        let (hooks, joiner) = hooked();
        let mut polls = 0;
        let mut task = executor.spawn(poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(1)
            }
        }));
        executor.tick(Waker::noop(), 3);
        trace.is(&["poll woken"]);
        let busy = busy(&executor, &trace, other, &waker);
        if hook == "clone" {
            hooks.on_clone.set(busy); // in it, the task ends
            assert_eq!(poll_with(&mut task, &joiner), Poll::Ready(1));
        } else {
            assert!(poll_with(&mut task, &joiner).is_pending());
            hooks.on_drop.set(busy); // when another takes its place
            assert_eq!(poll(&mut task), Poll::Ready(1));
        }
        trace.is(&["waker", "drop other", "poll spawned", "poll woken"]);
        drop(joiner);
        assert_eq!(Rc::strong_count(&hooks), 1);
    }
}

#[test]
fn a_woken_joiner_may_call_anything_but_the_loop() {
    let (executor, inner) = reachable();
    let (trace, waker) = (Trace::new(), Kept::default());
    executor
        .spawn(traced(&trace, "woken", keep(&waker)))
        .detach();
    settle(&executor);
    trace.is(&["poll woken"]);
    let other = executor.spawn(hold(records_drop(&trace, "other")));
    let task = shared(Some(executor.spawn(async { 1 })));
    let (hooks, joiner) = hooked();
    let pending = poll_with(task.borrow_mut().as_mut().expect("has a task"), &joiner);
    assert!(pending.is_pending());
    let (own, inner_trace, waker_inside) = (task.clone(), trace.clone(), waker.clone());
    hooks.on_wake.set(move || {
        spawn(traced(&inner_trace, "spawned", idle())).detach();
        kept(&waker_inside).wake();
        drop(other);
        let mut own = own.take().expect("has a task");
        inner_trace.push(format!("{:?}", poll(&mut own)));
        inner_trace.push(panic_of(|| inner.tick(Waker::noop(), 1)));
    });
    settle(&executor);
    trace.is(&[
        "drop other",
        "Ready(1)",
        IN_ITSELF,
        "poll spawned",
        "poll woken",
    ]);
}

#[test]
fn a_waker_may_spawn_while_the_executor_is_dropped() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(pending::<()>());
    let (hooks, joiner) = hooked();
    assert!(poll_with(&mut task, &joiner).is_pending());
    let inner = trace.clone();
    hooks
        .on_wake
        .set(move || spawn(traced(&inner, "late", idle())).detach());
    executor.spawn(hold(records_drop(&trace, "next"))).detach();
    drop(executor);
    trace.is(&["drop late", "drop next"]);
}

#[test]
fn a_waker_may_drop_the_executor_in_its_clone() {
    let executor = Executor::new();
    let mut task = executor.spawn(pending::<()>());
    let (hooks, joiner) = hooked();
    hooks.on_clone.set(move || drop(executor));
    let message = panic_of(|| poll_with(&mut task, &joiner));
    assert!(message.ends_with("can't finish any more: its executor was dropped"));
    drop(joiner);
    assert_eq!(Rc::strong_count(&hooks), 1);
}

#[test]
fn a_driver_may_call_anything_when_it_is_woken() {
    let (executor, trace) = (Rc::new(Executor::new()), Trace::new());
    let waker = Kept::default();
    executor
        .spawn(traced(&trace, "woken", keep(&waker)))
        .detach();
    let other = executor.spawn(hold(records_drop(&trace, "other")));
    let (hooks, driver) = hooked();
    executor.tick(&driver, 9);
    trace.is(&["poll woken"]);
    hooks.on_wake.set(busy(&executor, &trace, other, &waker));
    let (wakes, next_driver) = Count::new();
    let (inner, next) = (executor.clone(), next_driver.clone());
    executor.spawn(async move { drop((inner, next)) }).detach();
    trace.is(&["waker", "drop other", "poll spawned", "poll woken"]);

    // From now on, wakes go to the driver that was stored in the meantime.
    executor.tick(&next_driver, 9);
    let (inner, next) = (executor.clone(), next_driver.clone());
    let (hooks, driver) = hooked();
    executor.tick(&driver, 9);
    hooks.on_wake.set(move || {
        inner.tick(&next, 9);
    });
    kept(&waker).wake();
    trace.is(&["poll woken"]);
    kept(&waker).wake();
    assert_eq!(wakes.take(), 1);
}

#[test]
fn a_driver_may_drop_the_executor_when_it_is_woken() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    executor.spawn(traced(&trace, "a", keep(&waker))).detach();
    let (hooks, driver) = hooked();
    executor.tick(&driver, 9);
    hooks.on_wake.set(move || drop(executor));
    kept(&waker).wake();
    kept(&waker).wake();
    trace.is(&["poll a", "drop a"]);
    drop(driver);
    assert_eq!(Rc::strong_count(&hooks), 1);
}

#[test]
fn a_driver_may_spawn_and_wake_when_it_is_cloned_or_dropped() {
    let (executor, trace) = (Rc::new(Executor::new()), Trace::new());
    let (hooks, driver) = hooked();
    let spawns = |name| {
        let (executor, trace) = (executor.clone(), trace.clone());
        move || executor.spawn(traced(&trace, name, idle())).detach()
    };
    hooks.on_clone.set(spawns("by clone"));
    assert_eq!(executor.tick(&driver, 9).polled, 1);
    trace.is(&["poll by clone"]);
    hooks.on_drop.set(spawns("by drop"));
    assert_eq!(executor.tick(Waker::noop(), 9).polled, 1);
    trace.is(&["poll by drop"]);
}

#[test]
fn a_driver_waker_that_runs_the_executor_keeps_the_driver() {
    for hook in ["clone", "drop"] {
        let (executor, inner) = reachable();
        let ((wakes, mine), (hooks, theirs)) = (Count::new(), hooked());
        let runs = move || {
            let text = panic_of(|| inner.tick(Waker::noop(), 9));
            assert_eq!(text, IN_ITSELF);
        };
        if hook == "clone" {
            hooks.on_clone.set(runs);
            executor.tick(&theirs, 9);
        } else {
            executor.tick(&theirs, 9);
            hooks.on_drop.set(runs);
        }
        executor.tick(&mine, 9);
        executor.spawn(async {}).detach();
        assert_eq!(wakes.take(), 1, "{hook}");
    }
}

#[test]
fn the_table_may_grow_during_a_poll() {
    let executor = Executor::new();
    let count = Rc::new(RefCell::new(0));
    let inner = count.clone();
    executor
        .spawn(async move {
            for _ in 0..10_000 {
                let count = inner.clone();
                spawn(async move { *count.borrow_mut() += 1 }).detach();
            }
            yield_now().await;
            *inner.borrow_mut() += 1;
        })
        .detach();
    settle(&executor);
    assert_eq!(*count.borrow(), 10_001);
}

#[test]
fn a_future_may_poll_a_run_of_its_own_kind_by_hand() {
    let executor = Executor::new();
    let mut run = pin!(executor.run(async {
        let other = Executor::new();
        let mut nested = pin!(other.run(async { spawn(async { 3 }).await }));
        poll_fn(|cx| nested.as_mut().poll(cx)).await
    }));
    let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(3));
}

#[test]
fn a_joiners_drop_finds_the_cancelled_task_gone() {
    let (executor, trace) = (Rc::new(Executor::new()), Trace::new());
    let mut task = executor.spawn(traced(&trace, "cancelled", idle())); // queued
    let (hooks, joiner) = hooked();
    assert!(poll_with(&mut task, &joiner).is_pending());
    drop(joiner);
    let (inner, inner_trace) = (executor.clone(), trace.clone());
    hooks.on_drop.set(move || {
        inner.spawn(traced(&inner_trace, "next", idle())).detach(); // perhaps in the same slot
        settle(&inner);
    });
    drop(task);
    settle(&executor);
    trace.is(&["drop cancelled", "poll next"]);
    assert_eq!(executor.tasks(), 1);
}

#[test]
fn a_spawn_outside_an_executor_drops_its_future() {
    thread_local!(static GUARD: RefCell<Option<Entered>> = const { RefCell::new(None) });
    let executor = Rc::new(Executor::new());
    let inner = executor.clone();
    let enters = on_drop(move || drop(GUARD.replace(Some(inner.enter()))));
    assert!(panic_of(|| spawn(hold(enters))).starts_with("`spawn` was called outside"));
    spawn(async {}).detach(); // what its drop has entered is still entered
    assert_eq!(executor.tasks(), 1);
    drop(GUARD.take());
}

#[test]
fn a_guard_that_outlives_its_executor_takes_no_other_wakes() {
    let (first, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let (name, entered) = (format!("{first:?}"), first.enter());
    drop(first);
    let Some((next, _others)) = executor_with_the_id_of(&name) else {
        return; // a test on another thread has it
    };
    next.spawn(traced(&trace, "a", keep(&waker))).detach();
    settle(&next);
    kept(&waker).wake();
    settle(&next);
    trace.is(&["poll a", "poll a"]);
    drop(entered);
}
