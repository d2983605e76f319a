//! Cancelling a task in each of its states.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::*;
use futures::future::select;
use windlass_executor::{Executor, Task, block_on, spawn, yield_now};

/// A slot where a task finds its own handle.
type Own<T> = Rc<RefCell<Option<Task<T>>>>;

fn own<T>(own: &Own<T>) -> Task<T> {
    own.take().expect("the test has stored it")
}

#[test]
fn dropping_the_handle_of_a_queued_task_drops_its_future() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(traced(&trace, "a", idle()));
    drop(task);
    trace.is(&["drop a"]);
    settle(&executor);
    trace.is(&[]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn dropping_the_handle_of_an_idle_task_drops_its_future() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(traced(&trace, "a", idle()));
    settle(&executor);
    trace.is(&["poll a"]);
    drop(task);
    trace.is(&["drop a"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn dropping_the_handle_of_a_finished_task_drops_its_output() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let output = records_drop(&trace, "output");
    let task = executor.spawn(async move { output });
    settle(&executor);
    trace.is(&[]);
    drop(task);
    trace.is(&["drop output"]);
}

#[test]
fn cancel_returns_none_after_the_future_is_dropped() {
    for settled in [false, true] {
        let (executor, trace) = (Executor::new(), Trace::new());
        let task = executor.spawn(traced(&trace, "a", idle()));
        if settled {
            settle(&executor);
            trace.is(&["poll a"]);
        }
        let mut cancelling = pin!(task.cancel());
        trace.is(&[]);
        assert_eq!(poll(&mut cancelling), Poll::Ready(None));
        trace.is(&["drop a"]);
    }
}

#[test]
fn cancel_of_a_finished_task_returns_its_output() {
    let executor = Executor::new();
    let task = executor.spawn(async { 9 });
    settle(&executor);
    assert_eq!(poll(&mut pin!(task.cancel())), Poll::Ready(Some(9)));
}

#[test]
fn cancel_of_a_panicked_task_resumes_its_panic() {
    let executor = Executor::new();
    let task = executor.spawn(async { panic!("too heavy") });
    settle(&executor);
    assert_eq!(panic_of(|| block_on(task.cancel())), "too heavy");
}

#[test]
fn dropping_an_unpolled_cancel_cancels_the_task() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(traced(&trace, "a", idle()));
    drop(task.cancel());
    trace.is(&["drop a"]);
}

#[test]
fn dropping_a_catch_cancels_the_task() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(traced(&trace, "a", idle()));
    let mut catching = Box::pin(task.catch());
    assert!(poll(&mut catching).is_pending());
    trace.is(&[]);
    drop(catching);
    trace.is(&["drop a"]);
}

#[test]
fn a_task_that_drops_its_own_handle_runs_until_its_poll_returns() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::default());
    let (inner, inner_trace) = (handle.clone(), trace.clone());
    let step = move |_: &mut Context<'_>| {
        drop(own(&inner));
        inner_trace.push("dropped the handle");
        Poll::Pending::<()>
    };
    handle.replace(Some(executor.spawn(traced(&trace, "a", step))));
    executor.spawn(traced(&trace, "b", ready(()))).detach();
    settle(&executor);
    trace.is(&["poll a", "dropped the handle", "drop a", "poll b", "drop b"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_self_cancelled_task_that_woke_itself_is_not_polled_again() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::default());
    let inner = handle.clone();
    let step = move |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        drop(own(&inner));
        cx.waker().wake_by_ref();
        Poll::Pending::<()>
    };
    handle.replace(Some(executor.spawn(traced(&trace, "a", step))));
    settle(&executor);
    executor.spawn(traced(&trace, "b", idle())).detach();
    executor.spawn(traced(&trace, "c", idle())).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b", "poll c"]);
}

#[test]
fn a_self_cancelled_task_that_ends_drops_its_output() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::default());
    let (inner, output) = (handle.clone(), records_drop(&trace, "output"));
    let task = executor.spawn(async move {
        drop(own(&inner));
        output
    });
    handle.replace(Some(task));
    settle(&executor);
    trace.is(&["drop output"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_self_cancelled_task_that_panics_ends_alone() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::default());
    let inner = handle.clone();
    let step = move |_: &mut Context<'_>| -> Poll<()> {
        drop(own(&inner));
        panic!("no handle, no hold");
    };
    handle.replace(Some(executor.spawn(traced(&trace, "a", step))));
    executor.spawn(traced(&trace, "b", idle())).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b"]);
    assert_eq!(executor.tasks(), 1);
}

#[test]
fn a_task_that_awaits_its_own_cancel_never_resumes() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::<()>::default());
    let (inner, inner_trace) = (handle.clone(), trace.clone());
    let at_drop = records_drop(&trace, "future");
    let task = executor.spawn(async move {
        let _at_drop = at_drop;
        inner_trace.push("cancels");
        own(&inner).cancel().await;
        inner_trace.push("came back");
    });
    handle.replace(Some(task));
    settle(&executor);
    trace.is(&["cancels", "drop future"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_cancelled_running_task_that_ends_returns_its_output() {
    // A task drives a nested executor. A task of the nested one cancels the outer task during its
    // poll.
    let (executor, handle) = (Executor::new(), Own::<u8>::default());
    let got = shared(None);
    let (inner, give) = (handle.clone(), got.clone());
    let task = executor.spawn(async move {
        let nested = Executor::new();
        let canceller = nested.spawn(async move { own(&inner).cancel().await });
        nested.tick(Waker::noop(), 9);
        assert!(!canceller.is_finished(), "it waits for the poll's end");
        give.replace(Some((nested, canceller)));
        11
    });
    handle.replace(Some(task));
    settle(&executor);
    let (nested, canceller) = got.take().expect("the task has run");
    settle(&nested);
    assert_eq!(block_on(canceller), Some(11));
}

#[test]
fn a_cancelled_running_task_is_dropped_and_wakes_its_canceller() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::<()>::default());
    let got = shared(None);
    let (inner, give) = (handle.clone(), got.clone());
    let at_drop = records_drop(&trace, "future");
    let task = executor.spawn(async move {
        let _at_drop = at_drop;
        let nested = Executor::new();
        let canceller = nested.spawn(async move { own(&inner).cancel().await });
        nested.tick(Waker::noop(), 9);
        give.replace(Some((nested, canceller)));
        yield_now().await;
        unreachable!("it was cancelled");
    });
    handle.replace(Some(task));
    settle(&executor);
    trace.is(&["drop future"]);
    let (nested, canceller) = got.take().expect("the task has run");
    assert!(nested.has_ready());
    settle(&nested);
    assert_eq!(block_on(canceller), None);
}

#[test]
fn dropping_a_pending_cancel_leaves_the_task_cancelled() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::<()>::default());
    let inner = handle.clone();
    let step = move |cx: &mut Context<'_>| {
        let mut cancelling = Box::pin(own(&inner).cancel());
        assert!(cancelling.as_mut().poll(cx).is_pending());
        drop(cancelling);
        cx.waker().wake_by_ref();
        Poll::Pending
    };
    handle.replace(Some(executor.spawn(traced(&trace, "a", step))));
    settle(&executor);
    trace.is(&["poll a", "drop a"]);
}

#[test]
fn dropping_a_task_drops_the_tasks_whose_handles_it_holds() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let grandchild = executor.spawn(hold(records_drop(&trace, "grandchild")));
    let child = executor.spawn(hold((records_drop(&trace, "child"), grandchild)));
    let parent = executor.spawn(hold((records_drop(&trace, "parent"), child)));
    settle(&executor);
    drop(parent);
    trace.is(&["drop parent", "drop child", "drop grandchild"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_task_may_cancel_any_other_from_its_poll() {
    let (executor, trace, waker) = (Executor::new(), Trace::new(), Kept::default());
    let idle_task = executor.spawn(traced(&trace, "idle", keep(&waker)));
    settle(&executor);
    trace.is(&["poll idle"]);
    let queued = shared(None::<Task<()>>);
    let (inner, inner_trace) = (queued.clone(), trace.clone());
    executor
        .spawn(async move {
            drop(idle_task);
            let queued = inner.take().expect("the test has stored it");
            assert_eq!(queued.cancel().await, None);
            inner_trace.push("cancelled both");
        })
        .detach();
    queued.replace(Some(executor.spawn(traced(&trace, "queued", idle()))));
    settle(&executor);
    trace.is(&["drop idle", "drop queued", "cancelled both"]);
}

#[test]
fn a_task_dropped_by_its_own_destructor_is_dropped_once() {
    // The destructor of the task's future drops the task's own handle.
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::<()>::default());
    let (inner, inner_trace) = (handle.clone(), trace.clone());
    let at_drop = on_drop(move || {
        inner_trace.push("drop");
        drop(inner.take());
    });
    handle.replace(Some(executor.spawn(hold(at_drop))));
    settle(&executor);
    drop(executor);
    trace.is(&["drop"]);
    assert!(handle.borrow().is_none());
}

#[test]
fn the_destructor_of_a_finished_future_may_drop_its_own_handle() {
    let (executor, trace, handle) = (Executor::new(), Trace::new(), Own::default());
    let (inner, inner_trace) = (handle.clone(), trace.clone());
    let at_drop = on_drop(move || {
        inner_trace.push("drop future");
        drop(inner.take());
    });
    let output = records_drop(&trace, "output");
    let task = executor.spawn(async move {
        let _at_drop = at_drop;
        output
    });
    handle.replace(Some(task));
    settle(&executor);
    trace.is(&["drop future", "drop output"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_cancelled_task_is_gone_when_its_destructor_runs() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let executor = Rc::new(executor);
    let (inner, inner_trace) = (executor.clone(), trace.clone());
    let at_drop = on_drop(move || inner_trace.push(format!("{} left", inner.tasks())));
    let task = executor.spawn(hold(at_drop));
    executor.spawn(pending::<()>()).detach();
    drop(task);
    trace.is(&["1 left"]);
}

#[test]
fn a_task_that_loses_a_select_is_cancelled() {
    let trace = Trace::new();
    let slow = traced(&trace, "slow", idle());
    block_on(Executor::new().run(async {
        let (slow, quick) = (spawn(slow), spawn(async { 1 }));
        drop(select(slow, quick).await);
        trace.push("selected");
    }));
    trace.is(&["poll slow", "drop slow", "selected"]);
}
