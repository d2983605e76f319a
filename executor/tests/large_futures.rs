//! How much stack it takes to spawn a large future, also in debug builds, which copy on the stack
//! what a function takes by value.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use windlass_executor::coroutine::{AsyncCoroutine, Co, Coroutine, State};
use windlass_executor::{
    Executor, TaskGroup, block_on, scope, spawn, spawn_at, task_local, yield_now,
};

const SIZE: usize = 256 * 1024;

/// A future that is as large as it looks.
struct Large([u8; SIZE]);

impl Large {
    #[inline(never)]
    fn new() -> Self {
        Large([7; SIZE])
    }
}

impl Future for Large {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(self.0[SIZE / 2])
    }
}

/// Runs the test on a stack for so many copies of the future. Of these the test itself has two: it
/// makes the future, and passes it by value. Each step of a test is a function of its own, since a
/// debug build has all temporaries of a function in its frame.
fn with_stack_for(copies: usize, test: fn()) {
    let stack = copies * SIZE + 64 * 1024;
    let thread = thread::Builder::new().stack_size(stack).spawn(test);
    thread.unwrap().join().expect("the test passes");
}

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

#[test]
fn a_coroutine_with_a_large_body_takes_few_copies_of_it() {
    fn new() -> Coroutine<'static, (), u8, u8> {
        let large = Large::new();
        Coroutine::new(async move |co: &mut Co<'_, (), u8>, ()| {
            co.yield_(large.0[0]).await;
            large.0[1]
        })
    }
    fn new_async() -> AsyncCoroutine<'static, (), u8, u8> {
        let large = Large::new();
        AsyncCoroutine::new(async move |co: &mut Co<'_, (), u8>, ()| {
            co.yield_(large.0[0]).await;
            large.0[1]
        })
    }
    with_stack_for(5, || assert_eq!(new().resume(()), State::Yielded(7)));
    with_stack_for(6, || {
        assert_eq!(block_on(new_async().send(())), State::Yielded(7))
    });
}
