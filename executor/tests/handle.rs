//! Handles to an executor, and the executor that `spawn` falls back to.

mod common;

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use common::*;
use windlass_executor::{Executor, Fallback, Handle, block_on, spawn};

const OUTSIDE: &str = "`spawn` was called outside of a windlass runtime: call it from inside of \
    `windlass::block_on`, hold the guard of `Runtime::enter`, or use `Runtime::spawn`";

fn spawn_one() {
    spawn(pending::<()>()).detach();
}

#[test]
fn spawn_uses_the_newest_guard_while_no_executor_is_entered() {
    let (a, b) = (Executor::new(), Executor::new());
    let first = a.handle().fall_back();
    spawn_one();
    let second = b.handle().fall_back();
    let third = b.handle().fall_back();
    spawn_one();
    drop(second);
    spawn_one();
    drop(third);
    spawn_one();
    drop(first);
    assert_eq!((a.tasks(), b.tasks()), (2, 2));
    assert_eq!(panic_of(spawn_one), OUTSIDE);
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    let (a, b) = (Executor::new(), Executor::new());
    let first = a.handle().fall_back();
    let second = b.handle().fall_back();
    drop(first);
    spawn_one();
    assert_eq!((a.tasks(), b.tasks()), (0, 1));
    drop(second);
    assert_eq!(panic_of(spawn_one), OUTSIDE);
}

#[test]
fn an_entered_executor_and_a_loop_take_precedence() {
    let (a, b) = (Executor::new(), Executor::new());
    let _fallback = a.handle().fall_back();
    {
        let _entered = b.enter();
        spawn_one();
    }
    block_on(b.run(async { spawn_one() }));
    assert_eq!((a.tasks(), b.tasks()), (0, 2));
}

#[test]
fn a_guard_of_a_task_outlives_the_loop() {
    let (a, b) = (Executor::new(), Executor::new());
    let guard = block_on(a.run(async { b.handle().fall_back() }));
    spawn_one();
    drop(guard);
    assert_eq!((a.tasks(), b.tasks()), (0, 1));
    assert_eq!(panic_of(spawn_one), OUTSIDE);
}

#[test]
fn the_guard_of_a_dropped_executor_has_no_effect() {
    let a = Executor::new();
    let _older = a.handle().fall_back();
    let b = Executor::new();
    let handle = b.handle();
    let _newer = handle.fall_back();
    drop(b);
    spawn_one();
    assert_eq!(a.tasks(), 1);
    assert!(handle.is_closed() && handle.fall_back().is_none());
    drop(a);
    assert_eq!(panic_of(spawn_one), OUTSIDE);
}

#[test]
fn a_spawn_by_a_guard_wakes_the_driver() {
    let executor = Executor::new();
    let (count, waker) = Count::new();
    executor.tick(&waker, 1);
    let _fallback = executor.handle().fall_back();
    spawn_one();
    assert_eq!(count.take(), 1);
}

#[test]
fn a_failed_spawn_drops_its_future() {
    let dropped = flag();
    let set = dropped.clone();
    let guard = on_drop(move || set.set(true));
    panic_of(|| spawn(hold(guard)).detach());
    assert!(dropped.get());
}

#[test]
fn current_is_the_executor_that_spawn_uses() {
    assert!(Handle::current().is_none());
    let (a, b) = (Executor::new(), Executor::new());
    let _fallback = a.handle().fall_back();
    assert!(Handle::current().is_some_and(|it| it.is_same(&a.handle())));
    block_on(b.run(async {
        assert!(Handle::current().is_some_and(|it| it.is_same(&b.handle())));
    }));
}

#[test]
fn a_handle_of_a_dropped_executor_drops_futures_at_once() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let handle = executor.handle();
    drop(executor);
    let mut task = handle.spawn(hold(records_drop(&trace, "a")));
    trace.is(&["drop a"]);
    assert!(task.is_finished());
    assert!(panic_of(|| poll(&mut task)).contains("its executor was dropped"));
}

#[test]
fn an_executor_is_freed_while_handles_exist() {
    let freed = Rc::new(());
    let executor = Executor::new();
    let handle = executor.handle();
    handle.set_extension(freed.clone());
    handle.set_extension(Rc::new(7)); // it has one
    assert!(handle.extension().is_some_and(|it| it.is::<()>()));
    drop(executor);
    assert_eq!(Rc::strong_count(&freed), 1);
    assert!(handle.extension().is_none());
}

#[test]
fn a_guard_may_be_dropped_while_the_thread_ends() {
    thread_local!(static GUARD: Cell<Option<Fallback>> = const { Cell::new(None) });
    let thread = std::thread::spawn(|| {
        GUARD.set(None); // its destructor runs after those of later thread-locals
        let executor = Executor::new();
        GUARD.set(executor.handle().fall_back());
    });
    thread.join().unwrap();
}
