//! Task-local values.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::thread;

use crate::common::*;
use windlass::task::scope;
use windlass::task_local;
use windlass_executor::{Executor, block_on, spawn, yield_now};

task_local! {
    static NAME: &'static str;
    static COUNT: Cell<u32>;
    static HELD: Rc<dyn Fn()>;
}

fn name() -> Option<&'static str> {
    NAME.try_with(|name| *name)
}

#[test]
fn only_the_future_and_its_calls_see_the_value() {
    block_on(Executor::new().run(async {
        let tasks = ["a", "b"].map(|own| {
            spawn(NAME.scope(own, async move {
                for _ in 0..3 {
                    assert_eq!(name(), Some(own));
                    yield_now().await;
                }
            }))
        });
        for task in tasks {
            assert_eq!(name(), None);
            task.await;
        }
    }));
}

#[test]
fn with_panics_without_a_value_and_names_the_local() {
    let expected = "the task-local `NAME` has no value here: wrap the future in `NAME.scope(value, \
                    future)`, also that of a spawned task, which does not inherit the value";
    assert_eq!(panic_of(|| NAME.with(|_| ())), expected);
    assert_eq!(format!("{NAME:?}"), r#"TaskLocal("NAME")"#);
}

#[test]
fn scope_children_inherit_the_value_and_tasks_do_not() {
    block_on(Executor::new().run(NAME.scope("parent", async {
        assert_eq!(spawn(async { name() }).await, None);
        let seen = Cell::new(None);
        scope(async |s| s.spawn(async { seen.set(name()) })).await;
        assert_eq!(seen.get(), Some("parent"));
    })));
}

#[test]
fn the_innermost_scope_is_in_effect() {
    block_on(NAME.scope("outer", async {
        let inner = NAME.scope("inner", async {
            yield_now().await;
            name()
        });
        assert_eq!(inner.await, Some("inner"));
        assert_eq!(name(), Some("outer"));
    }));
    assert_eq!(name(), None);
}

#[test]
fn a_cell_keeps_its_value_between_polls() {
    block_on(COUNT.scope(Cell::new(0), async {
        for expected in 0..3 {
            COUNT.with(|count| assert_eq!(count.replace(count.get() + 1), expected));
            yield_now().await;
        }
    }));
}

#[test]
fn a_panic_unsets_the_value() {
    let mut scoped = NAME.scope("inner", async { panic!("broke") });
    block_on(NAME.scope("outer", async {
        let _: String = panic_of(|| poll(&mut scoped));
        assert_eq!(name(), Some("outer"));
    }));
    assert_eq!(name(), None);
}

#[test]
fn the_drop_of_the_future_sees_the_value() {
    for polls in [0, 1] {
        let seen = Rc::new(Cell::new(None));
        let theirs = seen.clone();
        let mut scoped = NAME.scope("held", hold(on_drop(move || theirs.set(name()))));
        for _ in 0..polls {
            assert!(poll(&mut scoped).is_pending());
        }
        assert_eq!(name(), None);
        drop(scoped);
        assert_eq!(seen.get(), Some("held"));
        assert_eq!(name(), None);
    }
}

#[test]
fn a_panic_in_the_drop_of_the_future_unsets_the_value() {
    let scoped = NAME.scope("held", hold(panics_on_drop("broke")));
    assert_eq!(panic_of(|| drop(scoped)), "broke");
    assert_eq!(name(), None);
}

#[test]
fn a_reader_of_the_value_may_enter_another_scope() {
    block_on(NAME.scope("outer", async {
        NAME.with(|outer| {
            let mut inner = NAME.scope("inner", async { name() });
            assert_eq!(poll(&mut inner), Poll::Ready(Some("inner")));
            drop(inner);
            assert_eq!((*outer, name()), ("outer", Some("outer")));
        });
    }));
}

#[test]
fn the_drop_of_a_value_may_use_the_task_local() {
    struct Looks(Rc<RefCell<Vec<bool>>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.borrow_mut().push(HELD.try_with(|_| ()).is_some());
        }
    }
    let seen: Rc<RefCell<Vec<bool>>> = Rc::default();
    let looks = Looks(seen.clone());
    let value: Rc<dyn Fn()> = Rc::new(move || drop(looks.0.borrow()));
    drop(HELD.scope(value, async {}));
    assert_eq!(seen.take(), [false]);
}

#[test]
fn a_future_may_be_dropped_while_its_thread_ends() {
    thread_local!(static LATE: RefCell<Option<Box<dyn std::any::Any>>> = const {
        RefCell::new(None)
    });
    let (seen, sees) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let held = on_drop(move || seen.send(name()).expect("the test waits"));
        let mut scoped = NAME.scope("late", hold(held));
        assert!(poll(&mut scoped).is_pending());
        LATE.set(Some(Box::new(scoped)));
    });
    thread.join().expect("the thread does not panic");
    assert_eq!(sees.recv(), Ok(Some("late")));
}

#[test]
fn the_value_is_unset_between_polls() {
    let mut scoped = NAME.scope("own", poll_fn(|_| -> Poll<()> { Poll::Pending }));
    for _ in 0..3 {
        assert!(poll(&mut scoped).is_pending());
        assert_eq!(name(), None);
    }
    assert!(format!("{scoped:?}").contains("NAME"));
}

#[test]
fn sync_scope_sets_the_value_for_the_closure() {
    let name_of = NAME.sync_scope("outer", || {
        let inner = NAME.sync_scope("inner", name);
        assert_eq!(name(), Some("outer"));
        inner
    });
    assert_eq!((name_of, name()), (Some("inner"), None));
    assert_eq!(
        panic_of(|| NAME.sync_scope("a", || panic!("planned"))),
        "planned"
    );
    assert_eq!(name(), None);
}

#[test]
fn sync_scope_in_a_task_hides_the_value_of_the_task() {
    block_on(Executor::new().run(NAME.scope("task", async {
        assert_eq!(NAME.sync_scope("closure", name), Some("closure"));
        yield_now().await;
        assert_eq!(name(), Some("task"));
    })));
}

#[test]
fn a_scope_is_terminated_as_its_future() {
    use futures::future::{FusedFuture, ready};
    let mut scope = NAME.scope("a", ready(1));
    assert!(!scope.is_terminated());
    assert!(poll(&mut scope).is_ready());
    assert!(scope.is_terminated());
}
