//! Aborting a task in each of its states.

mod common;

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::task::Waker;

use common::*;
use futures::future::FusedFuture;
use windlass_executor::{AbortHandle, Executor, block_on, spawn, yield_now};

#[test]
fn an_abort_drops_the_future_of_a_queued_or_idle_task_at_once() {
    for settled in [false, true] {
        let (executor, trace) = (Executor::new(), Trace::new());
        let mut task = executor.spawn(traced(&trace, "a", idle()));
        let handle = task.abort_handle();
        if settled {
            settle(&executor);
            trace.is(&["poll a"]);
        }
        assert!(!handle.is_finished());
        handle.abort();
        trace.is(&["drop a"]);
        assert!(handle.is_finished() && task.is_finished());
        assert_eq!(executor.tasks(), 0);
        settle(&executor); // the queue skips it
        handle.clone().abort(); // has no effect
        assert!(panic_of(|| poll(&mut task)).contains("was aborted by an `AbortHandle`"));
        assert!(task.is_terminated());
    }
}

#[test]
fn an_abort_during_the_poll_ends_the_task_after_it() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let own = Rc::new(RefCell::new(None::<AbortHandle>));
    let inner = own.clone();
    let guard = records_drop(&trace, "a");
    let task = executor.spawn(async move {
        let _guard = guard;
        let handle = inner.take().expect("the test has stored it");
        handle.abort();
        assert!(!handle.is_finished());
        pending::<()>().await;
    });
    own.replace(Some(task.abort_handle()));
    let panic = block_on(executor.run(task.catch())).expect_err("it was aborted");
    assert!(panic.is_aborted());
    trace.is(&["drop a"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn an_output_of_the_aborted_poll_wins() {
    let executor = Executor::new();
    let own = Rc::new(RefCell::new(None::<AbortHandle>));
    let inner = own.clone();
    let task = executor.spawn(async move {
        inner.take().expect("the test has stored it").abort();
        7
    });
    own.replace(Some(task.abort_handle()));
    assert_eq!(block_on(executor.run(task)), 7);
}

#[test]
fn a_finished_task_keeps_its_output() {
    let executor = Executor::new();
    let task = executor.spawn(async { 7 });
    let handle = task.abort_handle();
    settle(&executor);
    handle.abort();
    assert_eq!(block_on(executor.run(task)), 7);
    handle.abort();
    assert!(handle.is_finished());
}

#[test]
fn an_abort_wakes_the_joiner_on_the_same_executor() {
    block_on(Executor::new().run(async {
        let task = spawn(pending::<()>()).named("hauler");
        let handle = task.abort_handle();
        let joiner = spawn(task.catch());
        yield_now().await;
        assert!(!joiner.is_finished());
        handle.abort();
        let panic = joiner.await.expect_err("it was aborted");
        let text = panic.to_string();
        assert!(text.starts_with("task `hauler`, spawned at "), "{text}");
        assert!(text.ends_with("was aborted by an `AbortHandle`"), "{text}");
        assert!(panic_of(|| panic.resume()).starts_with(&text));
    }));
}

#[test]
fn an_abort_between_turns_wakes_the_driver_for_the_joiner() {
    let executor = Executor::new();
    let task = executor.spawn(pending::<()>());
    let handle = task.abort_handle();
    let joiner = executor.spawn(task.catch());
    settle(&executor);
    let (count, waker) = Count::new();
    executor.tick(&waker, 1);
    handle.abort();
    assert_eq!(count.take(), 1);
    settle(&executor);
    assert!(joiner.is_finished());
}

#[test]
fn an_abort_wakes_a_foreign_joiner_after_the_drop() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(hold(records_drop(&trace, "a")));
    let handle = task.abort_handle();
    settle(&executor);
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut task, &waker).is_pending());
    let inner = trace.clone();
    hooks.on_wake.set(move || inner.push("wake"));
    handle.abort();
    trace.is(&["drop a", "wake"]);
    assert!(panic_of(|| poll(&mut task)).contains("was aborted"));
}

#[test]
fn cancel_of_an_aborted_task_returns_none() {
    block_on(Executor::new().run(async {
        let task = spawn(pending::<()>());
        task.abort_handle().abort();
        assert_eq!(task.cancel().await, None);
    }));
}

#[test]
fn a_detached_task_can_be_aborted() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(hold(records_drop(&trace, "a"))).named("a");
    let handle = task.abort_handle();
    task.detach();
    settle(&executor);
    assert_eq!(executor.tasks(), 1);
    handle.abort();
    trace.is(&["drop a"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_destructor_that_panics_or_aborts_again_does_no_harm() {
    let executor = Executor::new();
    let task = executor.spawn(hold(panics_on_drop("on purpose")));
    let handle = task.abort_handle();
    settle(&executor);
    handle.abort();
    let panic = block_on(executor.run(task.catch())).expect_err("it was aborted");
    assert!(panic.is_aborted());

    let own = Rc::new(RefCell::new(None::<AbortHandle>));
    let inner = own.clone();
    let again = on_drop(move || inner.take().expect("the test has stored it").abort());
    let task = executor.spawn(hold(again));
    own.replace(Some(task.abort_handle()));
    settle(&executor);
    task.abort_handle().abort();
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_handle_that_outlives_its_task_or_executor_does_nothing() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let dropped = executor.spawn(hold(records_drop(&trace, "a")));
    let handle = dropped.abort_handle();
    drop(dropped);
    trace.is(&["drop a"]);
    assert!(handle.is_finished());
    handle.abort();

    let left = executor.spawn(hold(records_drop(&trace, "b")));
    let handle = left.abort_handle();
    drop(executor);
    trace.is(&["drop b"]);
    assert!(handle.is_finished());
    handle.abort();
    let gone = panic_of(|| poll(&mut { left }));
    assert!(gone.contains("its executor was dropped"), "{gone}");
}

#[test]
fn destructors_abort_siblings_while_the_executor_is_dropped() {
    let executor = Executor::new();
    let handles = Rc::new(RefCell::new(Vec::<AbortHandle>::new()));
    for _ in 0..3 {
        let all = handles.clone();
        let task = executor.spawn(hold(on_drop(move || {
            let all = all.borrow().clone();
            all.iter().for_each(AbortHandle::abort);
        })));
        handles.borrow_mut().push(task.abort_handle());
        task.detach();
    }
    settle(&executor);
    drop(executor);
    assert!(handles.take().iter().all(AbortHandle::is_finished));
}

#[test]
fn a_handle_of_a_taken_output_is_finished() {
    let executor = Executor::new();
    let mut task = executor.spawn(async {});
    settle(&executor);
    assert!(!task.is_terminated());
    assert!(poll(&mut task).is_ready());
    assert!(task.is_terminated());
    let handle = task.abort_handle();
    handle.abort();
    assert!(handle.is_finished() && handle.id().is_none());
}

#[test]
fn an_aborted_task_does_not_disturb_the_next_one_in_its_slot() {
    let executor = Executor::new();
    let first = executor.spawn(pending::<()>());
    let handle = first.abort_handle();
    handle.abort();
    let second = executor.spawn(async { 2 });
    handle.abort();
    assert_eq!(block_on(executor.run(second)), 2);
    drop(first);
}

#[test]
fn clones_are_unlimited_and_handles_are_limited() {
    let executor = Executor::new();
    let task = executor.spawn(pending::<()>());
    let handle = task.abort_handle();
    let clones: Vec<_> = (0..100_000).map(|_| handle.clone()).collect();
    let mut handles = Vec::new();
    let message = panic_of(|| {
        loop {
            handles.push(task.abort_handle());
        }
    });
    assert!(message.contains("clone one of them"), "{message}");
    assert!(handles.len() > 32_000);
    executor.tick(Waker::noop(), 1);
    handles[0].abort();
    assert!(clones[0].is_finished());
}
