//! The code of "Coming from tokio".

use std::cell::Cell;
use std::rc::Rc;

use windlass::{block_on, spawn, yield_now};

// ANCHOR: drop
#[test]
fn a_dropped_task_is_cancelled() {
    block_on(async {
        let total = Rc::new(Cell::new(0));
        let add = |number| {
            let total = total.clone();
            async move { total.set(total.get() + number) }
        };
        drop(spawn(add(1))); // cancelled before its first poll
        spawn(add(10)).detach(); // runs on by itself
        yield_now().await;
        assert_eq!(total.get(), 10);
    });
}
// ANCHOR_END: drop

// ANCHOR: output
#[test]
fn a_task_returns_its_output() {
    block_on(async {
        let seven = spawn(async { 7 });
        assert_eq!(seven.await, 7);

        let broken = spawn(async { panic!("a bug") });
        let panic = broken.catch().await.unwrap_err();
        assert_eq!(panic.message(), Some("a bug"));
    });
}
// ANCHOR_END: output

// ANCHOR: local
#[test]
fn a_borrow_may_cross_an_await() {
    block_on(async {
        // Neither the `Rc` nor a reference to a `Cell` is `Send`.
        let total = Rc::new(Cell::new(0));
        let task = spawn({
            let total = total.clone();
            async move {
                let inside = &*total;
                yield_now().await;
                inside.set(7);
            }
        });
        task.await;
        assert_eq!(total.get(), 7);
    });
}
// ANCHOR_END: local
