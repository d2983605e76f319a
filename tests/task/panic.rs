//! Children that panic when they are polled and dropped.

use std::future::Future;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use windlass::task::{TaskGroup, scope};
use windlass_executor::{Executor, block_on};

use crate::common::{Bomb, panic_of, settle, yields};

/// A future that panics when it is polled and dropped, with a payload that panics when dropped.
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
fn a_panicking_poll_takes_precedence_over_drops() {
    let executor = Executor::new();
    let _entered = executor.enter();
    let group = TaskGroup::infallible();
    group.spawn(Explosive);
    settle(&executor);
    assert_eq!(panic_of(|| block_on(group.close())), "the poll");

    let mut group = TaskGroup::independent();
    group.spawn(Explosive);
    group.spawn(yields(2));
    settle(&executor);
    assert_eq!(block_on(group.join_next()), Some(()));
    assert_eq!(block_on(group.join_next()), None);

    let scoped = scope(async |s| s.spawn(Explosive));
    assert_eq!(panic_of(|| block_on(scoped)), "the poll");
}

#[test]
fn a_lock_guard_in_a_panicking_child_poisons_its_mutex() {
    /// The guard is a field, so unwinding out of the poll does not drop it.
    struct Holds<'a>(#[expect(dead_code, reason = "it is held")] Option<MutexGuard<'a, ()>>);
    impl Future for Holds<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("adrift")
        }
    }
    let executor = Executor::new();
    static LOCKS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
    let locks = LOCKS.each_ref();
    let holds = |mutex: &'static Mutex<()>| Holds(mutex.lock().ok());
    let _entered = executor.enter();
    let group = TaskGroup::independent();
    group.spawn(holds(locks[0]));
    settle(&executor);
    panic_of(|| block_on(scope(async |s| s.spawn(holds(locks[1])))));
    assert!(locks.iter().all(|mutex| mutex.is_poisoned()));
    assert!(group.is_empty());
}
