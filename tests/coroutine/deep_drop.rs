//! Long chains of tasks that own each other through coroutines drop on a small stack.

use std::future::pending;

use windlass::coroutine::{AsyncCoroutine, Coroutine};

use crate::common::hold;
use crate::deep::{LENGTH, chain, on_a_small_stack};

#[test]
fn dropping_tasks_in_coroutines_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = chain(&executor, |rest| {
            let guard = count.guard();
            let mut coroutine = Coroutine::new(async move |co, ()| {
                let _held = (rest, guard);
                co.yield_(1).await;
            });
            assert_eq!(coroutine.next(), Some(1));
            hold(coroutine)
        });
        drop(first);
        count.is(LENGTH);

        let first = chain(&executor, |rest| {
            let guard = count.guard();
            let mut coroutine = AsyncCoroutine::new(async move |co, ()| {
                let _held = (rest, guard);
                pending::<()>().await;
                co.yield_(1).await;
            });
            async move {
                coroutine.send(()).await;
            }
        });
        drop(first);
        count.is(LENGTH);
    });
}
