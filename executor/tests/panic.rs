//! A panic stays in its task and propagates to the joiner. The loop continues.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::panic::panic_any;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use common::*;
use windlass_executor::{Executor, Task, block_on, spawn, yield_now};

#[test]
fn a_panic_resumes_where_the_task_is_awaited() {
    let executor = Executor::new();
    let task = executor.spawn(async {
        yield_now().await;
        panic!("{} ropes", 3)
    });
    assert_eq!(panic_of(|| block_on(executor.run(task))), "3 ropes");
}

#[test]
fn a_panic_can_be_caught_as_a_value() {
    block_on(Executor::new().run(async {
        let literal = spawn(async { panic!("torn") }).catch().await;
        let literal = literal.expect_err("it panicked");
        assert_eq!(literal.message(), Some("torn"));
        let shown = format!("{literal} {literal:?}");
        assert!(shown.starts_with("a task spawned at executor/tests/panic.rs:"));
        assert!(shown.ends_with(r#" panicked: torn Panic("torn")"#));
        assert_eq!(panic_of(|| literal.resume()), "torn");

        let text = spawn(async { panic!("{}", 1) }).catch().await;
        assert_eq!(text.expect_err("it panicked").message(), Some("1"));

        let value = spawn(async { panic_any(7_u8) }).catch().await;
        let value = value.expect_err("it panicked");
        assert_eq!(value.message(), None);
        assert!(value.to_string().ends_with(" panicked: (not with a text)"));
        assert_eq!(value.into_inner().downcast_ref(), Some(&7_u8));
    }));
}

#[test]
fn a_panicking_detached_task_ends_alone() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let step = |_: &mut Context<'_>| -> Poll<()> { panic!("alone") };
    executor.spawn(traced(&trace, "a", step)).detach();
    executor.spawn(traced(&trace, "b", ready(()))).detach();
    settle(&executor);
    trace.is(&["poll a", "drop a", "poll b", "drop b"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_task_that_woke_itself_and_panicked_is_not_polled_again() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let step = |cx: &mut Context<'_>| -> Poll<()> {
        cx.waker().wake_by_ref();
        panic!("once");
    };
    let task = executor.spawn(traced(&trace, "a", step));
    settle(&executor);
    trace.is(&["poll a", "drop a"]);
    assert_eq!(panic_of(|| block_on(task)), "once");
}

#[test]
fn a_panic_of_the_main_future_propagates_and_keeps_the_tasks() {
    let (executor, trace) = (Executor::new(), Trace::new());
    executor.spawn(traced(&trace, "task", idle())).detach();
    let main = async {
        yield_now().await;
        panic!("main")
    };
    assert_eq!(panic_of(|| block_on(executor.run(main))), "main");
    assert_eq!(executor.tasks(), 1);
    executor.spawn(traced(&trace, "next", idle())).detach();
    block_on(executor.run(async { trace.push("main again") }));
    trace.is(&["poll task", "poll next", "main again"]);
}

#[test]
fn a_panic_of_a_locals_drop_is_a_panic_of_the_task() {
    let executor = Executor::new();
    let task = executor.spawn(async {
        let _panics = panics_on_drop("dropped in the poll");
        5
    });
    settle(&executor);
    assert_eq!(panic_of(|| block_on(task)), "dropped in the poll");
}

#[test]
fn a_finished_future_that_panics_in_its_drop_ends_alone() {
    // The future panics when the executor drops it after its last poll. In an async block the poll
    // itself would panic.
    let (executor, trace) = (Executor::new(), Trace::new());
    let spawn_one = |name, result| {
        let panics = panics_on_drop("dropped after the poll");
        let output = Rc::new(records_drop(&trace, "output"));
        let step = move |_: &mut Context<'_>| {
            let _ = &panics;
            if result {
                Poll::Ready(output.clone())
            } else {
                panic!("in the poll")
            }
        };
        executor.spawn(traced(&trace, name, step))
    };
    let (ended, panicked, detached) = (
        spawn_one("a", true),
        spawn_one("b", false),
        spawn_one("c", true),
    );
    detached.detach();
    executor.spawn(traced(&trace, "d", idle())).detach();
    settle(&executor);
    trace.is(&[
        "poll a",
        "drop a",
        "drop output",
        "poll b",
        "drop b",
        "drop output",
        "poll c",
        "drop c",
        "drop output",
        "poll d",
    ]);
    for (task, message) in [(ended, "dropped after the poll"), (panicked, "in the poll")] {
        let panic = block_on(task.catch()).err().expect("it panicked");
        assert_eq!(panic.message(), Some(message));
    }
    assert_eq!(executor.tasks(), 1);
}

#[test]
fn a_panic_in_a_cancelled_future_propagates_to_the_canceller() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let [dropped, cancelled] = [(); 2].map(|()| executor.spawn(hold(panics_on_drop("splinter"))));
    executor.spawn(traced(&trace, "other", idle())).detach();
    settle(&executor);
    assert_eq!(panic_of(|| drop(dropped)), "splinter");
    assert_eq!(panic_of(|| block_on(cancelled.cancel())), "splinter");
    assert_eq!(executor.tasks(), 1);
    executor.spawn(traced(&trace, "next", idle())).detach();
    settle(&executor);
    trace.is(&["poll other", "poll next"]);
}

#[test]
fn a_self_cancelled_future_that_panics_in_its_drop_ends_alone() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let own = shared(None::<Task<()>>);
    let inner = own.clone();
    let task = executor.spawn(async move {
        let _panics = panics_on_drop("splinter");
        inner.take().expect("the test has stored it").cancel().await;
    });
    own.replace(Some(task));
    executor.spawn(traced(&trace, "other", idle())).detach();
    settle(&executor);
    trace.is(&["poll other"]);
    assert_eq!(executor.tasks(), 1);
}

#[test]
fn a_detached_output_that_panics_in_its_drop_is_discarded() {
    let (executor, trace) = (Executor::new(), Trace::new());
    executor.spawn(async { panics_on_drop("output") }).detach();
    executor.spawn(traced(&trace, "other", idle())).detach();
    settle(&executor);
    trace.is(&["poll other"]);
    assert_eq!(executor.tasks(), 1);
}

#[test]
fn an_output_that_panics_in_its_drop_panics_at_the_handle() {
    let executor = Executor::new();
    let [dropped, detached] = [(); 2].map(|()| executor.spawn(async { panics_on_drop("output") }));
    settle(&executor);
    assert_eq!(panic_of(|| drop(dropped)), "output");
    assert_eq!(panic_of(|| detached.detach()), "output");
}

#[test]
fn a_payload_that_panics_in_its_drop_is_discarded() {
    struct Payload(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Send>);
    let (executor, trace) = (Executor::new(), Trace::new());
    // The drop of a payload panics with a second payload, which the executor leaks. The second one
    // is `()`, which takes no memory.
    let payload = || Payload(Box::new(on_drop(|| panic_any(()))));
    executor.spawn(async move { panic_any(payload()) }).detach();
    let at_drop = on_drop(move || panic_any(payload()));
    executor.spawn(async move { at_drop }).detach();
    executor
        .spawn(hold(on_drop(move || panic_any(payload()))))
        .detach();
    executor.spawn(traced(&trace, "other", idle())).detach();
    settle(&executor);
    trace.is(&["poll other"]);
    assert_eq!(executor.tasks(), 2);
    drop(executor);
    trace.is(&["drop other"]);
}

#[test]
fn a_joiners_waker_that_panics_is_discarded() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(async { 1 });
    executor.spawn(traced(&trace, "other", idle())).detach();
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut task, &waker).is_pending());
    hooks.on_wake.set(|| panic!("joiner"));
    settle(&executor);
    trace.is(&["poll other"]);
    assert_eq!(poll(&mut task), Poll::Ready(1));
}

#[test]
fn a_waker_that_panics_in_clone_or_drop_keeps_the_task_intact() {
    let executor = Executor::new();
    let (hooks, waker) = hooked();
    let mut task = executor.spawn(async { 1 });
    hooks.on_clone.set(|| panic!("clone"));
    assert_eq!(panic_of(|| poll_with(&mut task, &waker)), "clone");
    assert!(poll_with(&mut task, &waker).is_pending());
    hooks.on_drop.set(|| panic!("drop"));
    assert_eq!(panic_of(|| poll(&mut task)), "drop");
    settle(&executor);
    assert_eq!(poll(&mut task), Poll::Ready(1));
}

#[test]
fn a_driver_waker_may_panic_in_its_clone_or_wake() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let (hooks, driver) = hooked();
    hooks.on_clone.set(|| panic!("clone"));
    assert_eq!(panic_of(|| executor.tick(&driver, 9)), "clone");
    executor.tick(&driver, 9);
    hooks.on_wake.set(|| panic!("wake"));
    let spawn = |name| executor.spawn(traced(&trace, name, idle())).detach();
    assert_eq!(panic_of(|| spawn("a")), "wake");
    spawn("b");
    settle(&executor);
    trace.is(&["poll a", "poll b"]);
    drop(driver);
    assert_eq!(Rc::strong_count(&hooks), 1);
}

#[test]
fn a_driver_waker_may_panic_in_its_drop() {
    for copy in 0..2 {
        let (executor, trace) = (Executor::new(), Trace::new());
        executor.spawn(traced(&trace, "a", idle())).detach();
        let (hooks, driver) = hooked();
        executor.tick(&driver, 0);
        // The executor holds the driver's waker twice, for local and for remote wakes. Each drop
        // may panic.
        let again = Rc::downgrade(&hooks);
        hooks.on_drop.set(move || match copy {
            0 => panic!("drop"),
            _ => {
                let hooks = again.upgrade().expect("the test holds it");
                hooks.on_drop.set(|| panic!("drop"));
            }
        });
        assert_eq!(panic_of(|| executor.tick(Waker::noop(), 0)), "drop");
        assert_eq!(Rc::strong_count(&hooks), 2, "the test and the driver");
        let outside = panic_of(|| spawn(async {}));
        assert!(
            outside.starts_with("`spawn` was called outside"),
            "{outside}"
        );
        settle(&executor);
        trace.is(&["poll a"]);
    }
}

#[test]
fn a_panicking_destructor_does_not_stop_the_executors_drop() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let task = executor.spawn(hold(records_drop(&trace, "a")));
    executor.spawn(hold(panics_on_drop("splinter"))).detach();
    let joined = executor.spawn(hold(records_drop(&trace, "b")));
    executor.spawn(hold(panics_on_drop("splinter"))).detach();
    executor.spawn(hold(records_drop(&trace, "c"))).detach();
    let mut joined = joined;
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut joined, &waker).is_pending());
    hooks.on_wake.set(|| panic!("joiner"));
    settle(&executor);
    let (driver_hooks, driver) = hooked();
    executor.tick(&driver, 0);
    drop(driver);
    driver_hooks.on_drop.set(|| panic!("driver"));
    drop(executor);
    trace.is(&["drop a", "drop b", "drop c"]);
    assert_eq!(Rc::strong_count(&driver_hooks), 1);
    drop((task, joined));
}

#[test]
fn an_executor_may_be_dropped_while_its_thread_panics() {
    let trace = Trace::new();
    let inner = trace.clone();
    let text = panic_of(move || {
        let executor = Executor::new();
        executor.spawn(hold(records_drop(&inner, "a"))).detach();
        executor.spawn(hold(panics_on_drop("splinter"))).detach();
        executor.spawn(hold(records_drop(&inner, "b"))).detach();
        settle(&executor);
        panic!("adrift");
    });
    assert_eq!(text, "adrift");
    trace.is(&["drop a", "drop b"]);
}

#[test]
fn a_panic_in_one_of_a_thousand_tasks_reaches_its_joiner_only() {
    let results = block_on(Executor::new().run(async {
        let tasks: Vec<_> = (0..1000)
            .map(|i| {
                spawn(async move {
                    yield_now().await;
                    assert_ne!(i, 500, "this one");
                    i
                })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.catch().await.ok());
        }
        results
    }));
    let expected: Vec<_> = (0..1000).map(|i| (i != 500).then_some(i)).collect();
    assert_eq!(results, expected);
}

#[test]
fn a_task_that_resumes_the_panic_of_another_passes_it_on() {
    let executor = Executor::new();
    let inner = executor.spawn(async { panic!("from within") });
    let outer = executor.spawn(inner);
    let caught = Rc::new(RefCell::new(String::new()));
    let message = caught.clone();
    let main = async move {
        let panic = outer.catch().await.expect_err("it panicked");
        message
            .borrow_mut()
            .push_str(panic.message().expect("a text"));
    };
    block_on(executor.run(main));
    assert_eq!(*caught.borrow(), "from within");
    executor.spawn(pending::<()>()).detach();
    settle(&executor);
}

#[test]
#[cfg_attr(target_pointer_width = "64", ignore = "takes 16 million tasks, 1.5 GB")]
fn a_spawn_into_a_full_table_panics_and_drops_the_future() {
    let (executor, trace) = (Rc::new(Executor::new()), Trace::new());
    let most = if cfg!(target_pointer_width = "64") {
        1 << 24
    } else {
        1 << 14
    };
    for _ in 0..most {
        executor.spawn(pending::<()>()).detach();
    }
    let (inner, inner_trace) = (executor.clone(), trace.clone());
    let at_drop = on_drop(move || inner_trace.push(format!("{} tasks", inner.tasks())));
    let text = panic_of(|| executor.spawn(hold(at_drop)));
    assert_eq!(
        text,
        format!("more than {most} tasks at once on one executor")
    );
    trace.is(&[&format!("{most} tasks")]);
    let text = panic_of(|| block_on(executor.run(async {})));
    assert!(text.starts_with("more than"), "{text}");
    assert_eq!(executor.tasks(), most);
}

#[test]
fn a_joiner_that_panics_in_its_drop_does_not_undo_a_cancel() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(hold(records_drop(&trace, "task")));
    let (hooks, joiner) = hooked();
    assert!(poll_with(&mut task, &joiner).is_pending());
    drop(joiner);
    hooks.on_drop.set(|| panic!("joiner"));
    assert_eq!(panic_of(|| drop(task)), "joiner");
    trace.is(&["drop task"]);
    settle(&executor);
    assert_eq!(executor.tasks(), 0);
}

/// Its poll and its drop panic, and so does the drop of the panic's payload.
struct Explosive;

impl Future for Explosive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("the poll")
    }
}

impl Drop for Explosive {
    fn drop(&mut self) {
        panic_any(Bomb(3));
    }
}

#[test]
fn a_panic_of_the_poll_wins_over_panics_of_drops() {
    let executor = Executor::new();
    let task = executor.spawn(Explosive);
    settle(&executor);
    assert_eq!(panic_of(|| block_on(task)), "the poll");
}

#[test]
fn endless_payloads_that_panic_in_their_drop_are_leaked() {
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            panic_any(Endless);
        }
    }
    let executor = Executor::new();
    executor.spawn(async { panic_any(Endless) }).detach();
    settle(&executor);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_panicking_poll_poisons_the_mutexes_it_holds() {
    /// The guard is a field, so unwinding out of the poll keeps it.
    struct Holds<'a>(#[expect(dead_code, reason = "it is held")] Option<MutexGuard<'a, ()>>);
    impl Future for Holds<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("adrift")
        }
    }
    let executor = Executor::new();
    static LOCK: Mutex<()> = Mutex::new(());
    let task = executor.spawn(Holds(LOCK.lock().ok()));
    settle(&executor);
    assert!(LOCK.is_poisoned() && task.is_finished());
}
