//! Stack usage of spawning a large future, also in debug builds, which copy by-value arguments on
//! the stack.

#[path = "common/large.rs"]
mod large;

use large::{Large, with_stack_for};
use windlass_executor::{Executor, block_on, spawn, spawn_at};

#[test]
fn spawning_a_large_future_copies_it_at_most_twice() {
    with_stack_for(4, || {
        let executor = Executor::new();
        let task = executor.spawn(Large::new());
        assert_eq!(block_on(executor.run(task)), 7);
    });
    with_stack_for(4, || {
        let executor = Executor::new();
        let _entered = executor.enter();
        let task = spawn(Large::new());
        assert_eq!(block_on(executor.run(task)), 7);
    });
    with_stack_for(4, || {
        let executor = Executor::new();
        let _entered = executor.enter();
        let task = spawn_at(std::panic::Location::caller(), Large::new());
        assert_eq!(block_on(executor.run(task)), 7);
    });
}
