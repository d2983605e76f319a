//! Order, outputs, failures and cancellation in groups of tasks.

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::common::*;
use futures::stream::FusedStream;
use futures::{StreamExt, select};
use windlass::task::{Spawner, TaskGroup};
use windlass_executor::{Executor, block_on, spawn, yield_now};

type Errors = TaskGroup<Result<u32, &'static str>>;

/// Runs a future and records a trace.
#[track_caller]
fn run<F: Future>(test: impl FnOnce(Trace) -> F) -> F::Output {
    block_on(Executor::new().run(test(Trace::new())))
}

#[test]
fn join_next_returns_outputs_in_completion_order() {
    run(async |_| {
        let mut group = TaskGroup::infallible();
        for times in [3, 1, 2, 0] {
            group.spawn(async move {
                yields(times).await;
                times
            });
        }
        let mut order = Vec::new();
        while let Some(times) = group.join_next().await {
            order.push(times);
        }
        assert_eq!(order, [0, 1, 2, 3]);
    });
}

#[test]
fn children_run_unjoined_and_their_outputs_are_kept() {
    run(async |_| {
        let mut group = TaskGroup::infallible();
        for number in 0..3 {
            group.spawn(async move { number });
        }
        assert_eq!(group.len(), 3);
        yield_now().await;
        assert!(group.is_empty());
        for number in 0..3 {
            assert_eq!(group.join_next().await, Some(number));
        }
        assert_eq!(group.join_next().await, None);
        group.spawn(async { 3 });
        assert_eq!(group.join_next().await, Some(3), "a group can be reused");
    });
}

#[test]
fn the_first_error_cancels_the_rest_and_is_returned() {
    run(async |trace| {
        let mut group = Errors::new();
        let (a, c) = (records_drop(&trace, "a"), records_drop(&trace, "c"));
        group.spawn(held_for_ever(a));
        group.spawn(async { Err("the rope broke") });
        group.spawn(held_for_ever(c));
        yield_now().await;
        trace.is(&["drop a", "drop c"]); // without a join
        assert_eq!(group.join_next().await, Some(Err("the rope broke")));
        assert_eq!(group.join_next().await, None);
    });
}

#[test]
fn the_first_panic_cancels_the_rest_and_resumes_in_join_next() {
    let panic = panic_of(|| {
        run(async |trace| {
            let mut group = TaskGroup::infallible();
            group.spawn(hold(records_drop(&trace, "a")));
            group.spawn(async { panic!("the rope broke") });
            yield_now().await;
            trace.is(&["drop a"]);
            group.join_next().await;
        })
    });
    assert_eq!(panic, "the rope broke");
}

#[test]
fn earlier_outputs_are_returned_before_the_failure() {
    run(async |_| {
        let mut group = Errors::new();
        group.spawn(async { Ok(1) });
        group.spawn(async { Err("broke") });
        group.spawn(async { Ok(2) });
        yield_now().await;
        assert_eq!(group.join_next().await, Some(Ok(1)));
        assert_eq!(group.join_next().await, Some(Err("broke")));
        assert_eq!(group.join_next().await, None);
    });
}

#[test]
fn errors_do_not_end_an_infallible_group() {
    run(async |_| {
        let mut group = TaskGroup::infallible();
        group.spawn(async { Err("broke") });
        group.spawn(async { Ok(2) });
        assert_eq!(group.join_next().await, Some(Err("broke")));
        assert_eq!(group.join_next().await, Some(Ok(2)));
    });
}

#[test]
fn close_of_an_infallible_group_returns_the_first_error() {
    run(async |trace| {
        let (group, words) = (TaskGroup::infallible(), trace.clone());
        group.spawn(async { Err("broke") });
        group.spawn(async { Ok(1) });
        group.spawn(async move {
            yields(2).await;
            words.push("goes on");
            Err("a later one")
        });
        assert_eq!(group.close().await, Err("broke"));
        trace.is(&["goes on"]);
    });
}

#[test]
fn a_panic_of_an_independent_child_cancels_no_other() {
    run(async |trace| {
        let mut group = TaskGroup::independent().limit(2);
        group.spawn(async { panic!("on purpose") });
        group.spawn(traced(&trace, "a", ready(1)));
        group.spawn(traced(&trace, "waits for its turn", ready(2)));
        assert_eq!(group.join_next().await, Some(1));
        assert_eq!(group.join_next().await, Some(2));
        group.spawn(async { 3 });
        assert_eq!(
            group.join_next().await,
            Some(3),
            "it still accepts children"
        );
        trace.is(&[
            "poll a",
            "drop a",
            "poll waits for its turn",
            "drop waits for its turn",
        ]);
    });
}

#[test]
fn a_panic_of_the_last_independent_child_ends_the_join() {
    run(async |_| {
        let mut group = TaskGroup::<()>::independent();
        group.spawn(async {
            yield_now().await;
            panic!("on purpose")
        });
        assert_eq!(group.join_next().await, None);
        group.spawn(async { panic!("on purpose") });
        group.close().await;
    });
}

#[test]
fn the_payload_of_an_independent_child_may_panic_on_drop() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    run(async |_| {
        let mut group = TaskGroup::independent().limit(1);
        group.spawn(async { panic_any(Bad) });
        group.spawn(async { 7 });
        assert_eq!(group.join_next().await, Some(7));
    });
}

#[test]
fn close_waits_for_children_and_those_that_they_spawn() {
    run(async |trace| {
        let group = TaskGroup::infallible();
        let (inner, spawner) = (trace.clone(), group.spawner());
        group.spawn(async move {
            yields(2).await;
            inner.push("child");
            spawner.spawn(async move {
                yields(2).await;
                inner.push("grandchild");
            });
        });
        group.close().await;
        trace.is(&["child", "grandchild"]);
    });
}

#[test]
fn close_returns_the_first_error_after_all_drops() {
    run(async |trace| {
        let group = Errors::new();
        let held = records_drop(&trace, "held");
        group.spawn(held_for_ever(held));
        group.spawn(async { Ok(2) });
        group.spawn(async {
            yield_now().await;
            Err("broke")
        });
        assert_eq!(group.close().await, Err("broke"));
        trace.is(&["drop held"]);
    });
}

#[test]
fn a_child_is_dropped_before_its_end_is_reported() {
    run(async |trace| {
        let mut group = TaskGroup::infallible();
        group.spawn(traced(&trace, "child", ready(())));
        group.join_next().await;
        trace.push("joined");
        trace.is(&["poll child", "drop child", "joined"]);
    });
}

#[test]
fn a_panic_in_the_drop_of_a_child_is_its_failure() {
    let panic = panic_of(|| {
        run(async |_| {
            let group = TaskGroup::infallible();
            let broken = panics_on_drop("the drop broke");
            group.spawn(poll_fn(move |_| {
                let _held = &broken;
                Poll::Ready(())
            }));
            group.spawn(pending());
            group.close().await;
        })
    });
    assert_eq!(panic, "the drop broke");
}

#[test]
fn a_panicking_drop_of_a_cancelled_child_stops_no_other_drop() {
    run(async |trace| {
        let group = TaskGroup::infallible();
        group.spawn(hold(records_drop(&trace, "a")));
        group.spawn(hold(panics_on_drop("on purpose")));
        group.spawn(hold(records_drop(&trace, "c")));
        yield_now().await;
        drop(group);
        trace.is(&["drop a", "drop c"]);
    });
}

#[test]
fn a_limit_queues_further_children_in_order() {
    run(async |trace| {
        let group = TaskGroup::infallible().limit(2);
        for name in ["a", "b", "c", "d"] {
            let trace = trace.clone();
            group.spawn(async move {
                trace.push(format!("{name} begins"));
                yield_now().await;
                trace.push(format!("{name} ends"));
            });
        }
        assert_eq!(group.len(), 4);
        group.close().await;
        trace.is(&[
            "a begins", "b begins", "a ends", "b ends", // and the other pairs
            "c begins", "d begins", "c ends", "d ends",
        ]);
    });
}

#[test]
fn a_failure_drops_queued_children() {
    run(async |trace| {
        let group = Errors::new().limit(1);
        group.spawn(async { Err("broke") });
        let waiting = records_drop(&trace, "waiting");
        group.spawn(held_for_ever(waiting));
        assert_eq!(group.close().await, Err("broke"));
        trace.is(&["drop waiting"]);
    });
}

#[test]
fn room_waits_for_a_child_to_end() {
    run(async |_| {
        let mut group = TaskGroup::infallible().limit(2);
        group.room().await;
        group.spawn(yields(3));
        group.room().await;
        group.spawn(pending());
        assert_eq!(group.len(), 2);
        group.room().await;
        assert_eq!(group.len(), 1);
    });
}

#[test]
fn a_limit_of_zero_panics() {
    let zero = panic_of(|| Errors::new().limit(0));
    assert_eq!(zero, "the limit of a group must be at least 1");
}

#[test]
fn a_higher_limit_starts_queued_children() {
    run(async |trace| {
        let group = TaskGroup::infallible().limit(1);
        for name in ["a", "b", "c"] {
            group.spawn(traced(&trace, name, idle()));
        }
        let group = group.limit(2);
        yield_now().await;
        trace.is(&["poll a", "poll b"]);
        drop(group);
    });
}

#[test]
fn a_failed_group_drops_new_children() {
    run(async |trace| {
        let mut group = Errors::new();
        group.spawn(async { Err("broke") });
        yield_now().await;
        let late = records_drop(&trace, "late");
        group.spawn(held_for_ever(late));
        trace.is(&["drop late"]);
        assert_eq!(group.join_next().await, Some(Err("broke")));
        assert_eq!(group.join_next().await, None);
    });
}

#[test]
fn dropping_a_group_drops_children_in_order_and_outputs() {
    run(async |trace| {
        let group = TaskGroup::infallible().limit(3);
        let output = records_drop(&trace, "output");
        group.spawn(async move { Some(output) });
        for name in ["a", "b", "c", "waiting"] {
            let held = records_drop(&trace, name);
            group.spawn(async {
                hold(held).await;
                None
            });
        }
        yield_now().await;
        drop(group);
        trace.is(&["drop a", "drop b", "drop c", "drop waiting", "drop output"]);
    });
}

#[test]
fn dropping_close_at_any_await_cancels_all() {
    for polls in 0..3 {
        let (executor, trace) = (Executor::new(), Trace::new());
        let _entered = executor.enter();
        let group = Errors::new();
        let held = records_drop(&trace, "held");
        group.spawn(held_for_ever(held));
        for times in 0..2 {
            group.spawn(async move {
                yields(times).await;
                Ok(1)
            });
        }
        let mut closing = Box::pin(group.close());
        for _ in 0..polls {
            assert!(poll(&mut closing).is_pending());
            executor.tick(Waker::noop(), 3);
        }
        trace.is(&[]);
        drop(closing);
        trace.is(&["drop held"]);
        settle(&executor);
        assert_eq!(executor.tasks(), 0);
    }
}

#[test]
fn dropping_join_next_at_any_await_loses_nothing() {
    for polls in 0..3 {
        run(async |_| {
            let mut group = TaskGroup::infallible();
            for number in 0..3 {
                group.spawn(async move {
                    yields(number).await;
                    number
                });
            }
            let mut joined = Vec::new();
            for _ in 0..polls {
                if let Poll::Ready(next) = poll(&mut pin!(group.join_next())) {
                    joined.extend(next);
                }
                yield_now().await;
            }
            while let Some(next) = group.join_next().await {
                joined.push(next);
            }
            assert_eq!(joined, [0, 1, 2]);
        });
    }
}

#[test]
fn the_owner_is_woken_once_per_poll() {
    let executor = Executor::new();
    let _entered = executor.enter();
    let mut group = TaskGroup::infallible();
    (0..3).for_each(|_| group.spawn(async {}));
    let (count, waker) = Count::new();
    {
        let mut joining = pin!(group.join_next());
        assert!(poll_with(&mut joining, &waker).is_pending());
        assert!(poll_with(&mut joining, &waker).is_pending());
        settle(&executor);
        assert_eq!(count.take(), 1);
    }
    for _ in 0..3 {
        assert_eq!(poll(&mut pin!(group.join_next())), Poll::Ready(Some(())));
    }
}

/// A group that its own child can reach.
type Own = Rc<RefCell<Option<Errors>>>;

#[test]
fn a_child_that_drops_its_group_ends_at_its_next_await() {
    run(async |trace| {
        let own: Own = Rc::default();
        let group = Errors::new();
        let (theirs, words) = (own.clone(), trace.clone());
        let held = records_drop(&trace, "self");
        group.spawn(async move {
            let _held = held;
            drop(theirs.take());
            words.push("dropped the group");
            yield_now().await;
            words.push("goes on");
            Ok(1)
        });
        let other = records_drop(&trace, "other");
        group.spawn(held_for_ever(other));
        own.replace(Some(group));
        yields(3).await;
        trace.is(&["drop other", "dropped the group", "drop self"]);
    });
}

#[test]
fn a_child_that_drops_its_group_and_fails_wakes_no_owner() {
    for panics in [false, true] {
        let executor = Executor::new();
        let _entered = executor.enter();
        let own: Own = Rc::default();
        let (theirs, group) = (own.clone(), Errors::new());
        group.spawn(async move {
            drop(theirs.take());
            assert!(!panics, "on purpose");
            Err("nobody hears of it")
        });
        own.replace(Some(group));
        settle(&executor);
        assert_eq!(executor.tasks(), 0);
    }
}

#[test]
fn the_drop_of_a_child_may_use_the_group() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let _entered = executor.enter();
    let own: Own = Rc::default();
    let group = Errors::new();
    let (theirs, words, spawner) = (own.clone(), trace.clone(), group.spawner());
    let held = on_drop(move || {
        let late = records_drop(&words, "late");
        spawner.spawn(held_for_ever(late));
        let mut group = theirs.take().expect("taken once");
        assert!(format!("{group:?}").contains("running: 0"));
        words.push(format!("{:?}", poll(&mut pin!(group.join_next()))));
        drop(group);
        words.push("dropped the group");
    });
    group.spawn(held_for_ever(held));
    group.spawn(async { Err("broke") });
    own.replace(Some(group));
    settle(&executor);
    trace.is(&[
        "drop late",
        r#"Ready(Some(Err("broke")))"#,
        "dropped the group",
    ]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn the_owners_waker_may_use_the_group() {
    let executor = Executor::new();
    let _entered = executor.enter();
    let mut group = Errors::new();
    let (hooks, waker) = hooked();
    let on_clone = group.spawner();
    hooks.on_clone.set(move || on_clone.spawn(async { Ok(1) }));
    let on_wake = group.spawner();
    hooks.on_wake.set(move || on_wake.spawn(async { Ok(2) }));
    let on_drop = group.spawner();
    hooks.on_drop.set(move || on_drop.spawn(async { Ok(3) }));
    group.spawn(pending());
    assert!(poll_with(&mut pin!(group.join_next()), &waker).is_pending());
    assert!(poll(&mut pin!(group.join_next())).is_pending()); // drops the clone
    assert!(poll_with(&mut pin!(group.join_next()), &waker).is_pending());
    settle(&executor);
    let mut numbers = [1, 2, 3].map(|_| poll(&mut pin!(group.join_next())));
    numbers.sort();
    assert_eq!(
        numbers,
        [1, 2, 3].map(|number| Poll::Ready(Some(Ok(number))))
    );
}

#[test]
fn an_end_during_the_clone_of_the_owners_waker_is_seen() {
    let executor = Rc::new(Executor::new());
    let _entered = executor.enter();
    let mut group = TaskGroup::infallible();
    group.spawn(async { 7 });
    let (hooks, waker) = hooked();
    let theirs = executor.clone();
    hooks.on_clone.set(move || settle(&theirs));
    let joined = poll_with(&mut pin!(group.join_next()), &waker);
    assert_eq!(joined, Poll::Ready(Some(7)));
}

/// A parked executor, and the hooks of its driver's waker, which the next spawn calls.
fn parked() -> (Rc<Executor>, Rc<Hooks>) {
    let executor = Rc::new(Executor::new());
    let (hooks, waker) = hooked();
    executor.tick(&waker, 1);
    (executor, hooks)
}

#[test]
fn a_child_that_ends_while_it_is_spawned_is_joined() {
    for panics in [false, true] {
        let (executor, hooks) = parked();
        let _entered = executor.enter();
        let theirs = executor.clone();
        hooks.on_wake.set(move || settle(&theirs));
        let mut group = TaskGroup::infallible();
        group.spawn(async move {
            assert!(!panics, "while it was spawned");
            7
        });
        let mut joined = || poll(&mut pin!(group.join_next()));
        match panics {
            false => assert_eq!(joined(), Poll::Ready(Some(7))),
            true => assert_eq!(panic_of(joined), "while it was spawned"),
        }
        assert!(group.is_empty());
    }
}

#[test]
fn a_group_dropped_during_a_spawn_leaves_no_child() {
    for turns in [false, true] {
        let (executor, hooks) = parked();
        let _entered = executor.enter();
        let (trace, group) = (Trace::new(), TaskGroup::infallible());
        let (spawner, theirs) = (group.spawner(), executor.clone());
        hooks.on_wake.set(move || {
            if turns {
                settle(&theirs);
            }
            drop(group);
        });
        spawner.spawn(hold(records_drop(&trace, "child")));
        trace.is(&["drop child"]);
        assert_eq!(executor.tasks(), 0);
    }
}

#[test]
fn children_spawned_during_a_spawn_are_counted() {
    let (executor, hooks) = parked();
    let _entered = executor.enter();
    let (trace, group) = (Trace::new(), TaskGroup::infallible().limit(1));
    let (spawner, inner) = (group.spawner(), traced(&trace, "inner", idle()));
    hooks.on_wake.set(move || spawner.spawn(inner));
    group.spawn(traced(&trace, "outer", idle()));
    settle(&executor);
    trace.is(&["poll outer"]);
}

#[test]
fn a_child_whose_spawn_has_panicked_is_joined_if_it_runs() {
    let (executor, hooks) = parked();
    let _entered = executor.enter();
    hooks.on_wake.set(|| panic!("a bad waker"));
    let mut group = TaskGroup::infallible();
    assert_eq!(panic_of(|| group.spawn(async { 7 })), "a bad waker");
    settle(&executor);
    assert_eq!(poll(&mut pin!(group.join_next())), Poll::Ready(Some(7)));
}

#[test]
fn a_child_that_cannot_be_spawned_leaves_no_trace() {
    let mut group = TaskGroup::infallible();
    assert!(panic_of(|| group.spawn(async { 7 })).starts_with("`spawn` was called outside"));
    assert_eq!(block_on(group.join_next()), None);
    block_on(Executor::new().run(async {
        group.spawn(async { 8 });
        assert_eq!(group.join_next().await, Some(8));
    }));
}

#[test]
fn a_panic_while_a_queued_child_starts_fails_the_group() {
    let executor = Executor::new();
    let _entered = executor.enter();
    let (other, hooks) = parked();
    hooks.on_wake.set(|| panic!("a bad waker"));
    let mut group = TaskGroup::infallible().limit(1);
    let guard = shared(None);
    let (kept, theirs) = (guard.clone(), other.clone());
    // Later spawns go to that executor.
    group.spawn(async move { drop(kept.replace(Some(theirs.enter()))) });
    group.spawn(pending());
    let (count, waker) = Count::new();
    assert!(poll_with(&mut pin!(group.join_next()), &waker).is_pending());
    settle(&executor);
    assert_eq!(count.take(), 1);
    assert_eq!(poll(&mut pin!(group.join_next())), Poll::Ready(Some(())));
    assert_eq!(
        panic_of(|| poll(&mut pin!(group.join_next()))),
        "a bad waker"
    );
}

#[test]
fn joining_after_the_executor_is_dropped_panics() {
    for mut group in [TaskGroup::infallible(), TaskGroup::independent()] {
        let (executor, trace) = (Executor::new(), Trace::new());
        let entered = executor.enter();
        group.spawn(hold(records_drop(&trace, "child")));
        group.spawn(pending());
        let (hooks, waker) = hooked();
        let words = trace.clone();
        hooks.on_wake.set(move || words.push("woken"));
        assert!(poll_with(&mut pin!(group.join_next()), &waker).is_pending());
        drop(entered);
        drop(executor);
        trace.is(&["drop child", "woken"]);
        let message = "the children of this group cannot end, because their runtime was dropped";
        assert_eq!(panic_of(|| block_on(group.join_next())), message);
        assert_eq!(block_on(group.join_next()), None);
    }
}

#[test]
fn a_child_spawned_while_its_executor_drops_fails_the_group() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let entered = executor.enter();
    let mut group = Errors::new();
    let (spawner, words) = (group.spawner(), trace.clone());
    let held = on_drop(move || {
        let late = records_drop(&words, "late");
        spawner.spawn(held_for_ever(late));
    });
    spawn(hold(held)).detach();
    settle(&executor);
    drop(entered);
    drop(executor);
    trace.is(&["drop late"]);
    assert!(group.is_empty());
    let message = "the children of this group cannot end, because their runtime was dropped";
    assert_eq!(panic_of(|| block_on(group.join_next())), message);
}

#[test]
fn a_thousand_generations_of_children_end_with_their_group() {
    fn generation(left: u32, group: Spawner<u32>) {
        let next = group.clone();
        let child: Pin<Box<dyn Future<Output = u32>>> = Box::pin(async move {
            if left > 0 {
                generation(left - 1, next);
            }
            left
        });
        group.spawn(child);
    }
    run(async |_| {
        let mut group = TaskGroup::infallible().limit(1);
        generation(1000, group.spawner());
        let mut count = 0;
        while group.join_next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 1001);
    });
}

#[test]
fn a_group_is_a_stream_of_outputs_in_completion_order() {
    run(async |_| {
        let group = TaskGroup::infallible();
        for times in [2, 0, 1] {
            group.spawn(async move {
                yields(times).await;
                times
            });
        }
        assert_eq!(group.collect::<Vec<_>>().await, [0, 1, 2]);
    });
}

#[test]
fn a_stream_ends_once_and_continues_with_the_next_child() {
    run(async |_| {
        let mut group = TaskGroup::infallible();
        assert!(
            !group.is_terminated(),
            "an empty group reports its end once"
        );
        assert_eq!(group.next().await, None);
        assert!(group.is_terminated());
        group.spawn(async { 1 });
        assert!(!group.is_terminated());
        assert_eq!(group.next().await, Some(1));
        assert!(!group.is_terminated());
        assert_eq!(group.next().await, None);
        assert!(group.is_terminated());
    });
}

#[test]
fn select_over_a_group_sees_the_end() {
    run(async |_| {
        let mut group = TaskGroup::infallible();
        let mut other = spawn(yields(5));
        group.spawn(async { 1 });
        let (mut outputs, mut ends, mut others) = (0, 0, 0);
        loop {
            select! {
                output = group.next() => match output {
                    Some(output) => outputs += output,
                    None => ends += 1,
                },
                () = other => others += 1,
                complete => break,
            }
        }
        assert_eq!((outputs, ends, others), (1, 1, 1));
    });
}

#[test]
fn a_failure_is_the_last_item_of_the_stream() {
    let group = TaskGroup::infallible();
    let message = panic_of(|| {
        run(async move |_| {
            group.spawn(async { 1 });
            group.spawn(async { panic!("planned") });
            let mut group = group;
            assert_eq!(group.next().await, Some(1));
            group.next().await
        })
    });
    assert_eq!(message, "planned");
}

#[test]
fn try_join_next_returns_outputs_and_failures_without_waiting() {
    run(async |_| {
        let mut group: Errors = TaskGroup::new();
        assert_eq!(group.try_join_next(), None);
        group.spawn(async { Ok(1) });
        group.spawn(async { Err("planned") });
        group.spawn(pending());
        assert_eq!(group.try_join_next(), None);
        yield_now().await;
        assert_eq!(group.try_join_next(), Some(Ok(1)));
        assert_eq!(group.try_join_next(), Some(Err("planned")));
        assert_eq!(group.try_join_next(), None);

        let mut group = TaskGroup::infallible();
        group.spawn(async { panic!("planned") });
        yield_now().await;
        assert_eq!(panic_of(|| group.try_join_next()), "planned");
    });
}

#[test]
fn cancel_all_drops_all_children_and_keeps_outputs() {
    run(async |trace| {
        let mut group = TaskGroup::infallible().limit(2);
        group.spawn(async { 1 });
        group.spawn(held_for_ever(records_drop(&trace, "running")));
        yield_now().await;
        group.spawn(held_for_ever(records_drop(&trace, "running, too")));
        group.spawn(held_for_ever(records_drop(&trace, "waiting")));
        assert_eq!(group.len(), 3);
        group.cancel_all();
        trace.is(&["drop running", "drop running, too", "drop waiting"]);
        assert!(group.is_empty());
        assert_eq!(group.join_next().await, Some(1));
        assert_eq!(group.join_next().await, None);
        group.spawn(async { 2 });
        assert_eq!(group.join_next().await, Some(2));
    });
}

#[test]
fn cancel_all_wakes_the_task_that_joins() {
    run(async |_| {
        let group = Rc::new(RefCell::new(TaskGroup::<()>::infallible()));
        group.borrow().spawn(pending());
        let joined = group.clone();
        let joiner = spawn(poll_fn(move |cx| joined.borrow_mut().poll_join_next(cx)));
        yield_now().await;
        group.borrow().cancel_all();
        assert_eq!(joiner.await, None);
    });
}

#[test]
fn a_child_that_cancels_all_ends_with_its_poll() {
    run(async |trace| {
        let group = Rc::new(RefCell::new(TaskGroup::<()>::infallible()));
        let (inner, guard) = (group.clone(), records_drop(&trace, "child"));
        let then = trace.clone();
        group.borrow().spawn(async move {
            let _guard = guard;
            inner.borrow().cancel_all();
            then.push("goes on");
            pending().await
        });
        yield_now().await;
        trace.is(&["goes on", "drop child"]);
        let next = group.borrow_mut().try_join_next();
        assert!(next.is_none() && group.borrow().is_empty());
    });
}

#[test]
fn a_destructor_that_panics_does_not_stop_cancel_all() {
    run(async |trace| {
        let group = TaskGroup::<()>::infallible();
        group.spawn(held_for_ever(panics_on_drop("planned")));
        group.spawn(held_for_ever(records_drop(&trace, "second")));
        group.cancel_all();
        trace.is(&["drop second"]);
        group.close().await;
    });
}
