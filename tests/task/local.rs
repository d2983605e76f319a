//! Values that belong to a task.

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
fn the_value_is_seen_by_all_that_the_future_calls_and_by_no_other_task() {
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
fn without_a_value_with_panics_and_names_it() {
    let expected = "the task-local `NAME` has no value here: run the future by `NAME.scope(value, \
                    future)`; a spawned task doesn't inherit it";
    assert_eq!(panic_of(|| NAME.with(|_| ())), expected);
    assert_eq!(format!("{NAME:?}"), r#"TaskLocal("NAME")"#);
}

#[test]
fn a_spawned_task_does_not_inherit_it_and_a_scopes_child_does() {
    block_on(Executor::new().run(NAME.scope("parent", async {
        assert_eq!(spawn(async { name() }).await, None);
        let seen = Cell::new(None);
        scope(async |s| s.spawn(async { seen.set(name()) })).await;
        assert_eq!(seen.get(), Some("parent"));
    })));
}

#[test]
fn the_innermost_of_nested_scopes_counts() {
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
fn a_value_may_be_changed_through_a_cell_and_stays_between_polls() {
    block_on(COUNT.scope(Cell::new(0), async {
        for expected in 0..3 {
            COUNT.with(|count| assert_eq!(count.replace(count.get() + 1), expected));
            yield_now().await;
        }
    }));
}

#[test]
fn after_a_panic_the_value_is_out_of_its_place() {
    let mut scoped = NAME.scope("inner", async { panic!("broke") });
    block_on(NAME.scope("outer", async {
        let _: String = panic_of(|| poll(&mut scoped));
        assert_eq!(name(), Some("outer"));
    }));
    assert_eq!(name(), None);
}

#[test]
fn the_drop_of_the_future_sees_the_value_polled_or_not() {
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
fn a_panic_in_the_drop_of_the_future_takes_the_value_out() {
    let scoped = NAME.scope("held", hold(panics_on_drop("broke")));
    assert_eq!(panic_of(|| drop(scoped)), "broke");
    assert_eq!(name(), None);
}

#[test]
fn what_looks_at_a_value_may_enter_another_scope() {
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
    thread.join().expect("it ends well");
    assert_eq!(sees.recv(), Ok(Some("late")));
}

#[test]
fn between_the_polls_of_its_future_nobody_sees_the_value() {
    let mut scoped = NAME.scope("own", poll_fn(|_| -> Poll<()> { Poll::Pending }));
    for _ in 0..3 {
        assert!(poll(&mut scoped).is_pending());
        assert_eq!(name(), None);
    }
    assert!(format!("{scoped:?}").contains("NAME"));
}
