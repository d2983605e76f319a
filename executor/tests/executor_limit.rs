//! The limit of executors per process. Runs in its own process because it creates that many.

use std::panic::catch_unwind;

use windlass_executor::{Executor, block_on};

#[test]
fn one_executor_too_many_panics_with_the_limit() {
    let limit = if cfg!(target_pointer_width = "64") {
        16_384
    } else {
        256
    };
    let mut executors: Vec<Executor> = (0..limit).map(|_| Executor::new()).collect();
    let payload = catch_unwind(Executor::new).unwrap_err();
    let expected = format!("more than {limit} executors at once");
    assert_eq!(payload.downcast_ref::<String>(), Some(&expected));

    drop(executors.swap_remove(limit / 2));
    let executor = Executor::new();
    assert_eq!(block_on(executor.run(async { 7 })), 7);

    // Dropped executors free their ids, each id its own.
    drop((executor, executors));
    let executors: Vec<Executor> = (0..limit).map(|_| Executor::new()).collect();
    assert!(catch_unwind(Executor::new).is_err());
    drop(executors);
}
