//! Long chains of tasks that own each other through groups and scopes drop on a small stack.

use std::future::pending;

use windlass::task::{TaskGroup, scope};
use windlass_executor::block_on;

use crate::common::{held_for_ever, hold, settle};
use crate::deep::{LENGTH, chain, on_a_small_stack, pending_chain};

#[test]
fn dropping_a_chain_of_groups_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let _entered = executor.enter();
        let mut rest = None::<TaskGroup<()>>;
        for _ in 0..LENGTH {
            let group = TaskGroup::infallible();
            group.spawn(hold((rest, count.guard())));
            rest = Some(group);
        }
        settle(&executor);
        drop(rest);
        count.is(LENGTH);

        // Queued children are not tasks yet.
        let mut rest = None::<TaskGroup<()>>;
        for _ in 0..LENGTH {
            let group = TaskGroup::infallible().limit(1);
            group.spawn(pending());
            group.spawn(hold((rest, count.guard())));
            rest = Some(group);
        }
        settle(&executor);
        drop(rest);
        count.is(LENGTH);

        // The group keeps the outputs of children.
        struct Node<G>(
            #[expect(dead_code, reason = "to be dropped")] Option<TaskGroup<Self>>,
            G,
        )
        where
            Self: 'static;
        let mut rest = None;
        for _ in 0..LENGTH {
            let (group, guard) = (TaskGroup::infallible(), count.guard());
            group.spawn(async move { Node(rest, guard) });
            rest = Some(group);
            settle(&executor);
        }
        drop(rest);
        count.is(LENGTH);
    });
}

#[test]
fn a_failure_that_cancels_a_chain_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = pending_chain(&executor, &count);
        let _entered = executor.enter();
        let group = TaskGroup::new();
        group.spawn(held_for_ever::<_, Result<(), &str>>(first));
        group.spawn(async { Err("the rope broke") });
        settle(&executor);
        count.is(LENGTH);
        assert_eq!(block_on(group.close()), Err("the rope broke"));
    });
}

#[test]
fn dropping_scopes_whose_children_hold_tasks_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = chain(&executor, |rest| {
            let guard = count.guard();
            async move {
                let held = (rest, guard);
                scope(async |s| {
                    s.spawn(async {
                        let _borrowed = &held;
                        pending().await
                    });
                })
                .await
            }
        });
        drop(first);
        count.is(LENGTH);
    });
}
