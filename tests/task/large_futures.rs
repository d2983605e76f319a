//! The stack that spawning a large child takes, also in debug builds, which copy arguments that are
//! passed by value.

use windlass::task::{TaskGroup, scope};
use windlass::{task_local, yield_now};
use windlass_executor::{Executor, block_on};

use crate::large::{Large, SIZE, with_stack_for};

#[test]
fn a_large_child_of_a_group_or_scope_is_copied_at_most_twice() {
    with_stack_for(4, || {
        let executor = Executor::new();
        let _entered = executor.enter();
        let mut group = TaskGroup::infallible();
        group.spawn(Large::new());
        assert_eq!(block_on(executor.run(group.join_next())), Some(7));
    });
    with_stack_for(4, || {
        let group = TaskGroup::infallible();
        let spawner = group.spawner();
        let executor = Executor::new();
        let _entered = executor.enter();
        spawner.spawn(Large::new());
        drop(group);
    });
    with_stack_for(4, || {
        block_on(scope(async |s| {
            s.spawn(async {
                let local = [7_u8; SIZE];
                yield_now().await;
                assert_eq!(local[SIZE / 2], 7);
            });
        }));
    });
}

#[test]
fn a_large_future_in_a_task_local_scope_is_copied_at_most_twice() {
    task_local!(static NUMBER: u32);
    with_stack_for(4, || assert_eq!(block_on(NUMBER.scope(1, Large::new())), 7));
}
