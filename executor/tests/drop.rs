//! Dropping an executor. Covers the values dropped, their order, and the calls that destructors may
//! make.

mod common;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use common::*;
use windlass_executor::{Executor, Task, block_on, spawn, yield_now};

#[test]
fn a_dropped_executor_drops_its_tasks_in_slot_order() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let a = executor.spawn(hold(records_drop(&trace, "a")));
    executor.spawn(hold(records_drop(&trace, "b"))).detach();
    let c = executor.spawn(hold(records_drop(&trace, "c")));
    executor.spawn(hold(records_drop(&trace, "d"))).detach();
    executor.tick(Waker::noop(), 2); // idle ones and queued ones
    drop(a);
    executor
        .spawn(hold(records_drop(&trace, "in the slot of a")))
        .detach();
    trace.is(&["drop a"]);
    drop(executor);
    trace.is(&["drop in the slot of a", "drop b", "drop c", "drop d"]);
    assert!(c.is_finished());
}

#[test]
fn outputs_with_a_handle_survive_the_executor() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let output = records_drop(&trace, "output");
    let task = executor.spawn(async move { output });
    settle(&executor);
    drop(executor);
    trace.is(&[]);
    drop(task);
    trace.is(&["drop output"]);
}

#[test]
fn tasks_spawned_while_the_executor_is_dropped_are_dropped() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = trace.clone();
    let spawns = on_drop(move || {
        let again = inner.clone();
        let late = on_drop(move || {
            again.push("drop late");
            spawn(traced(&again, "later", idle())).detach();
        });
        let task = spawn(hold(late));
        inner.push(format!("spawned, finished: {}", task.is_finished()));
        assert_eq!(block_on(task.cancel()), None);
    });
    executor.spawn(hold(spawns)).detach();
    executor.spawn(hold(records_drop(&trace, "other"))).detach();
    settle(&executor);
    drop(executor);
    trace.is(&[
        "drop late",
        "drop later",
        "spawned, finished: true",
        "drop other",
    ]);
}

#[test]
fn destructors_may_use_other_tasks_of_a_dropped_executor() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let done = executor.spawn(async { 5 });
    let awaited = executor
        .spawn(hold(records_drop(&trace, "awaited")))
        .named("awaited");
    let cancelled = executor.spawn(hold(records_drop(&trace, "cancelled")));
    let detached = executor.spawn(hold(records_drop(&trace, "detached")));
    let (waker_inside, inner_trace) = (waker.clone(), trace.clone());
    let busy = on_drop(move || {
        kept(&waker_inside).wake();
        drop(cancelled);
        detached.detach();
        inner_trace.push(format!("done: {}", block_on(done)));
        let message = panic_of(|| block_on(awaited));
        assert!(message.starts_with("task `awaited`, spawned at executor/tests/drop.rs:"));
        inner_trace.push(message.rsplit(", ").next().unwrap().to_owned());
    });
    let task = executor.spawn(hold(busy));
    executor
        .spawn(traced(&trace, "last", keep(&waker)))
        .detach();
    settle(&executor);
    trace.is(&["poll last"]);
    task.detach();
    drop(executor);
    trace.is(&[
        "drop awaited",
        "drop cancelled",
        "drop detached",
        "done: 5",
        "can't finish any more: its executor was dropped",
        "drop last",
    ]);
}

#[test]
fn destructors_may_cancel_later_tasks_of_a_dropped_executor() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let later: Rc<RefCell<Vec<Task<()>>>> = shared(Vec::new());
    let (inner, inner_trace) = (later.clone(), trace.clone());
    let cancels = on_drop(move || {
        inner_trace.push("drop first");
        for task in inner.take().into_iter().rev() {
            drop(task);
        }
    });
    executor.spawn(hold(cancels)).detach();
    for name in ["a", "b"] {
        let task = executor.spawn(hold(records_drop(&trace, name)));
        later.borrow_mut().push(task);
    }
    settle(&executor);
    drop(executor);
    trace.is(&["drop first", "drop b", "drop a"]);
}

#[test]
fn a_destructor_may_create_and_run_another_executor() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = trace.clone();
    let runs = on_drop(move || {
        let other = Executor::new();
        let output = block_on(other.run(async { spawn(async { "other" }).await }));
        inner.push(output);
        spawn(traced(&inner, "late", idle())).detach(); // means the dropped executor again
    });
    executor.spawn(hold(runs)).detach();
    settle(&executor);
    drop(executor);
    trace.is(&["other", "drop late"]);
}

#[test]
fn spawn_after_the_entered_executor_is_gone_drops_the_future() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let entered = executor.enter();
    drop(executor);
    let task = spawn(traced(&trace, "late", idle()));
    trace.is(&["drop late"]);
    assert!(task.is_finished());
    drop(entered);
    assert!(panic_of(|| spawn(async {})).starts_with("`spawn` was called outside"));
}

#[test]
fn tasks_that_hold_handles_of_each_other_are_dropped_once() {
    type Handles = Rc<RefCell<Vec<Task<()>>>>;
    let (executor, trace) = (Executor::new(), Trace::new());
    let all: Handles = shared(Vec::new());
    for name in ["a", "b", "c"] {
        let held: (Handles, _) = (all.clone(), records_drop(&trace, name));
        let task = executor.spawn(hold(held));
        all.borrow_mut().push(task);
    }
    settle(&executor);
    drop(executor);
    trace.is(&["drop a", "drop b", "drop c"]);
    all.take();
}

#[test]
fn an_executor_may_be_dropped_in_a_task_of_another() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = Executor::new();
    inner
        .spawn(hold(records_drop(&trace, "inner task")))
        .detach();
    settle(&inner);
    let inner_trace = trace.clone();
    executor
        .spawn(async move {
            drop(inner);
            inner_trace.push("dropped inner");
            spawn(traced(&inner_trace, "next", ready(()))).detach();
        })
        .detach();
    settle(&executor);
    trace.is(&["drop inner task", "dropped inner", "poll next", "drop next"]);
}

#[test]
fn a_dropped_executor_drops_its_driver_waker() {
    let (hooks, driver) = hooked();
    let executor = Executor::new();
    let task = executor.spawn(pending::<()>());
    executor.tick(&driver, 9);
    drop(driver);
    drop(executor);
    assert_eq!(Rc::strong_count(&hooks), 1);
    drop(task);
}

#[test]
fn many_executors_work_at_once_and_in_sequence() {
    let many: Vec<Executor> = (0..200).map(|_| Executor::new()).collect();
    for (i, executor) in many.iter().enumerate() {
        assert_eq!(
            block_on(executor.run(async { spawn(async move { i }).await })),
            i
        );
    }
    drop(many);
    for i in 0..20_000 {
        let executor = Executor::new();
        assert_eq!(
            block_on(executor.run(async { spawn(async move { i }).await })),
            i
        );
    }
}

/// Values in a thread-local, which are dropped when the thread ends.
struct AtExit(RefCell<Vec<Box<dyn std::any::Any>>>);

thread_local! {
    static FIRST_USED: AtExit = const { AtExit(RefCell::new(Vec::new())) };
    static LAST_USED: AtExit = const { AtExit(RefCell::new(Vec::new())) };
}

/// Runs `set_up` on a new thread and drops its results when the thread ends. One is dropped before
/// the crate's own thread-locals, one after them.
fn at_thread_exit<T: 'static>(set_up: impl Fn(&'static str) -> T + Send + 'static) {
    let thread = thread::spawn(move || {
        // Thread-locals are destroyed in the reverse order of their first use.
        FIRST_USED.with(|_| {});
        drop(Executor::new());
        drop(catch_unwind(|| spawn(async {}))); // looks for the entered executor
        LAST_USED.with(|at_exit| at_exit.0.borrow_mut().push(Box::new(set_up("first"))));
        FIRST_USED.with(|at_exit| at_exit.0.borrow_mut().push(Box::new(set_up("last"))));
    });
    thread.join().expect("no destructor panics");
}

#[test]
fn an_executor_in_a_thread_local_drops_its_tasks_at_thread_end() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    at_thread_exit(move |_| {
        let executor = Executor::new();
        for _ in 0..3 {
            executor.spawn(hold(Canary::new(&count))).detach();
        }
        settle(&executor);
        executor.spawn(hold(Canary::new(&count))).detach();
        executor
    });
    assert_eq!(dropped.load(SeqCst), 8);
}

#[test]
fn thread_local_destructors_may_wake_poll_and_await_tasks() {
    let (send, words) = mpsc::channel();
    at_thread_exit(move |name| {
        let executor = Executor::new();
        let mut polls = 0;
        let waker = Kept::default();
        let inner = waker.clone();
        let task = executor.spawn(poll_fn(move |cx| {
            polls += 1;
            inner.replace(Some(cx.waker().clone()));
            if polls == 2 {
                Poll::Ready(6)
            } else {
                Poll::Pending
            }
        }));
        let (wakes, driver) = Count::new();
        executor.tick(&driver, 9);
        let send = send.clone();
        on_drop(move || {
            kept(&waker).wake();
            let output = block_on(executor.run(task));
            let word = format!("{name}: {output}, driver woken {} times", wakes.take());
            send.send(word).expect("the test listens");
        })
    });
    let words: Vec<_> = words.into_iter().collect();
    assert_eq!(
        words,
        [
            "first: 6, driver woken 1 times",
            "last: 6, driver woken 1 times"
        ]
    );
}

#[test]
fn thread_local_destructors_may_use_stale_wakers_and_handles() {
    let (send, words) = mpsc::channel();
    at_thread_exit(move |name| {
        let (executor, waker) = (Executor::new(), Kept::default());
        let done = executor.spawn(async { 7 });
        let gone = executor.spawn(traced(&Trace::new(), "a", keep(&waker)));
        settle(&executor);
        drop(executor);
        let send = send.clone();
        on_drop(move || {
            kept(&waker).wake();
            let word = format!("{name}: {}, {}", block_on(done), gone.is_finished());
            send.send(word).expect("the test listens");
        })
    });
    let words: Vec<_> = words.into_iter().collect();
    assert_eq!(words, ["first: 7, true", "last: 7, true"]);
}

#[test]
fn thread_local_destructors_may_create_and_drop_executors() {
    let (send, words) = mpsc::channel();
    at_thread_exit(move |name| {
        let send = send.clone();
        on_drop(move || {
            let executor = Executor::new();
            executor.spawn(pending::<()>()).detach();
            let task = executor.spawn(async {
                yield_now().await;
                yield_now().await;
                8
            });
            let output = block_on(executor.run(task));
            let word = format!("{name}: {output}, {} left", executor.tasks());
            send.send(word).expect("the test listens");
        })
    });
    let words: Vec<_> = words.into_iter().collect();
    assert_eq!(words, ["first: 8, 1 left", "last: 8, 1 left"]);
}
