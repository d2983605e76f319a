//! Scopes with borrowing children, and the order, failures and cancellation of the children.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::task::Poll;
use std::thread;

use crate::common::*;
use windlass::task::{Scope, scope, try_scope};
use windlass_executor::{Executor, block_on, spawn, yield_now};

/// Polls a future to its end and counts the polls.
#[track_caller]
fn polls_of<F: Future>(future: F) -> usize {
    let mut future = pin!(future);
    let (woken, waker) = Count::new();
    for polls in 1.. {
        if poll_with(&mut future, &waker).is_ready() {
            return polls;
        }
        assert!(woken.take() > 0, "pending without a wake");
    }
    unreachable!()
}

#[test]
fn children_borrow_and_the_scope_waits_for_them() {
    let (words, sum) = (["sheet", "stay"], Cell::new(0));
    let given = block_on(scope(async |s| {
        for word in &words {
            s.spawn(async {
                yields(word.len()).await;
                sum.set(sum.get() + word.len());
            });
        }
        "given"
    }));
    assert_eq!((given, sum.get()), ("given", 9));
}

#[test]
fn children_may_borrow_mutably() {
    let mut lengths = [0; 3];
    block_on(scope(async |s| {
        for (index, length) in lengths.iter_mut().enumerate() {
            s.spawn(async move { *length = index });
        }
    }));
    assert_eq!(lengths, [0, 1, 2]);
}

#[test]
fn the_body_runs_first_and_children_in_spawn_order() {
    let trace = &Trace::new();
    block_on(scope(async |s| {
        for name in ["a", "b"] {
            s.spawn(async move {
                trace.push(name);
                yield_now().await;
                trace.push(name);
            });
        }
        trace.push("body");
        yield_now().await;
        trace.push("body");
    }));
    trace.is(&["body", "a", "b", "body", "a", "b"]);
}

#[test]
fn children_spawn_children() {
    fn tree<'env>(s: Scope<'env>, depth: u32, count: &'env Cell<u32>) {
        count.set(count.get() + 1);
        for _ in 0..2 {
            let inner = s.clone();
            s.spawn(async move {
                yield_now().await;
                if depth > 0 {
                    tree(inner, depth - 1, count);
                }
            });
        }
    }
    let count = Cell::new(0);
    block_on(scope(async |s| tree(s, 6, &count)));
    assert_eq!(count.get(), 127);
}

#[test]
fn scopes_may_be_nested() {
    let trace = &Trace::new();
    block_on(scope(async |outer| {
        outer.spawn(async {
            let own = String::from("inner");
            scope(async |inner| inner.spawn(async { trace.push(own.as_str()) })).await;
            trace.push("after inner");
        });
    }));
    trace.is(&["inner", "after inner"]);
}

#[test]
fn the_first_error_of_a_child_drops_all_and_is_returned() {
    let trace = Trace::new();
    let held = ["body", "a", "c"].map(|name| records_drop(&trace, name));
    let ended: Result<(), _> = block_on(try_scope(async |s| {
        let [body, a, c] = held;
        s.spawn(held_for_ever(a));
        s.spawn(async { Err("broke") });
        s.spawn(held_for_ever(c));
        hold(body).await;
        Ok(())
    }));
    trace.is(&["drop body", "drop a", "drop c"]);
    assert_eq!(ended, Err("broke"));
}

#[test]
fn an_error_of_the_body_drops_the_children() {
    let trace = Trace::new();
    let child = records_drop(&trace, "child");
    let ended: Result<(), _> = block_on(try_scope(async |s| {
        s.spawn(held_for_ever(child));
        yield_now().await;
        Err("broke")
    }));
    trace.is(&["drop child"]);
    assert_eq!(ended, Err("broke"));
}

#[test]
fn without_an_error_the_output_waits_for_all_children() {
    let done = Cell::new(false);
    let ended: Result<_, &str> = block_on(try_scope(async |s| {
        s.spawn(async {
            yields(3).await;
            done.set(true);
            Ok(())
        });
        Ok(7)
    }));
    assert_eq!((ended, done.get()), (Ok(7), true));
}

#[test]
fn the_first_panic_drops_the_rest_and_propagates() {
    for of_body in [false, true] {
        let trace = Trace::new();
        let held = records_drop(&trace, "held");
        let panic = panic_of(|| {
            block_on(scope(async |s| {
                s.spawn(hold(held));
                s.spawn(async { panic!("of the child") });
                assert!(!of_body, "in the body");
                pending::<()>().await;
            }))
        });
        trace.is(&["drop held"]);
        assert_eq!(
            panic,
            if of_body {
                "in the body"
            } else {
                "of the child"
            }
        );
    }
}

#[test]
fn a_panic_in_a_drop_fails_the_child_unless_cancelled() {
    let trace = Trace::new();
    let (broken, unheard) = (panics_on_drop("the drop broke"), panics_on_drop("unheard"));
    let panic = panic_of(|| {
        block_on(scope(async |s| {
            s.spawn(poll_fn(move |_| {
                let _held = &broken;
                Poll::Ready(())
            }));
            s.spawn(hold(unheard));
            s.spawn(hold(records_drop(&trace, "last")));
        }))
    });
    assert_eq!(panic, "the drop broke");
    trace.is(&["drop last"]);
}

#[test]
fn dropping_a_scope_drops_the_body_and_all_children() {
    for polls in 0..4 {
        let trace = Trace::new();
        let held = ["body", "child"].map(|name| records_drop(&trace, name));
        let mut scope = Box::pin(scope(async |s| {
            let [body, child] = held;
            s.spawn(async {
                yields(2).await;
                hold(child).await;
            });
            hold(body).await;
        }));
        for _ in 0..polls {
            assert!(poll(&mut scope).is_pending());
        }
        trace.is(&[]);
        drop(scope);
        let mut dropped = trace.take();
        dropped.sort();
        assert_eq!(dropped, ["drop body", "drop child"]);
    }
}

#[test]
fn wakes_never_poll_a_leaked_scope() {
    let (polls, kept_waker) = (&Cell::new(0), Kept::default());
    let mut scope = Box::pin(scope(async |s| {
        let mut keep = keep(&kept_waker);
        s.spawn(poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            keep(cx)
        }));
    }));
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut scope, &waker).is_pending());
    // Leak checkers ignore memory that a static still points to.
    static LEAKED: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    LEAKED.store((&raw const *scope).cast_mut().cast(), Relaxed);
    mem::forget(scope);
    kept(&kept_waker).wake();
    assert_eq!((polls.get(), woken.take()), (1, 1));
}

#[test]
fn only_woken_children_are_polled() {
    let (trace, wakers) = (Trace::new(), [(); 3].map(|()| Kept::default()));
    let mut scope = Box::pin(scope(async |s| {
        for (name, waker) in ["a", "b", "c"].into_iter().zip(&wakers) {
            s.spawn(traced(&trace, name, keep(waker)));
        }
    }));
    assert!(poll(&mut scope).is_pending());
    trace.is(&["poll a", "poll b", "poll c"]);
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut scope, &waker).is_pending());
    trace.is(&[]);
    let b = kept(&wakers[1]);
    thread::spawn(move || (b.wake_by_ref(), b.wake()))
        .join()
        .unwrap();
    assert_eq!(woken.take(), 1);
    assert!(poll_with(&mut scope, &waker).is_pending());
    trace.is(&["poll b"]);
}

#[test]
fn ten_thousand_ready_children_take_ten_thousand_polls() {
    const CHILDREN: usize = 10_000;
    for yields in [0, 1] {
        let polls = &Cell::new(0);
        let of_the_scope = polls_of(scope(async |s| {
            for _ in 0..CHILDREN {
                let mut left = yields;
                s.spawn(poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    if left == 0 {
                        return Poll::Ready(());
                    }
                    left -= 1;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }));
            }
        }));
        assert_eq!(polls.get(), CHILDREN * (yields + 1));
        let most = polls.get() / 32 + 1;
        assert!(of_the_scope <= most, "{of_the_scope} polls of the scope");
    }
}

#[test]
fn one_woken_of_ten_thousand_children_takes_one_poll() {
    let (polls, waker) = (&Cell::new(0), &Kept::default());
    let mut scope = Box::pin(scope(async |s| {
        for index in 0..10_000 {
            let mut keep = (index == 5_000).then(|| keep(waker));
            s.spawn(poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                keep.as_mut().map_or(Poll::Pending, |keep| keep(cx))
            }));
        }
    }));
    while polls.get() < 10_000 {
        assert!(poll(&mut scope).is_pending());
    }
    kept(waker).wake();
    assert!(poll(&mut scope).is_pending());
    assert_eq!(polls.get(), 10_001);
}

#[test]
fn other_tasks_run_while_children_are_always_ready() {
    block_on(Executor::new().run(async {
        let stop = Rc::new(Cell::new(false));
        let theirs = stop.clone();
        spawn(async move { theirs.set(true) }).detach();
        scope(async |s| {
            s.spawn(async {
                while !stop.get() {
                    yield_now().await;
                }
            });
        })
        .await;
    }));
}

#[test]
fn a_handle_that_outlives_its_scope_drops_new_children() {
    let trace = Trace::new();
    let late: Scope<'_> = block_on(scope(async |s| s));
    late.spawn(hold(records_drop(&trace, "late")));
    trace.is(&["drop late"]);
    assert!(format!("{late:?}").contains("running: 0"));
}

#[test]
fn a_handle_outside_the_scope_spawns_and_wakes_it() {
    let (trace, handle) = (Trace::new(), shared(None));
    let theirs = handle.clone();
    let mut scope = Box::pin(scope(async move |s: Scope<'static>| {
        theirs.replace(Some(s));
        pending::<()>().await;
    }));
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut scope, &waker).is_pending());
    assert_eq!(woken.take(), 0);
    let spawner = handle.take().expect("stored by the body");
    spawner.spawn(traced(&trace, "a", ready(())));
    spawner.spawn(traced(&trace, "b", ready(())));
    assert_eq!(woken.take(), 1);
    assert!(poll_with(&mut scope, &waker).is_pending());
    trace.is(&["poll a", "drop a", "poll b", "drop b"]);
}

#[test]
fn the_drop_of_a_child_may_spawn_and_wake() {
    let (trace, waker) = (Trace::new(), Kept::default());
    let mut scope = Box::pin(scope(async |s| {
        let (words, theirs, spawner) = (trace.clone(), waker.clone(), s.clone());
        let held = on_drop(move || {
            kept(&theirs).wake();
            spawner.spawn(hold(records_drop(&words, "late")));
            words.push(format!("{spawner:?}"));
        });
        let mut keep = keep(&waker);
        s.spawn(poll_fn(move |cx| {
            let _held = &held;
            keep(cx)
        }));
    }));
    let (woken, parent) = Count::new();
    assert!(poll_with(&mut scope, &parent).is_pending());
    drop(scope);
    trace.is(&["drop late", "Scope { running: 0, children: {}, .. }"]);
    assert_eq!(woken.take(), 0);
}

#[test]
fn a_leaked_child_waker_releases_the_parents_waker() {
    let waker = Kept::default();
    let mut scope = Box::pin(scope(async |s| s.spawn(poll_fn(keep(&waker)))));
    let (count, parent) = Count::new();
    assert!(poll_with(&mut scope, &parent).is_pending());
    assert_eq!(
        Arc::strong_count(&count),
        3,
        "ours, the waker, and that of the scope"
    );
    drop(scope);
    assert_eq!(Arc::strong_count(&count), 2);
    kept(&waker).wake();
    assert_eq!(count.take(), 0);
}

#[test]
fn the_parents_waker_may_spawn() {
    let (trace, handle) = (Trace::new(), shared(None));
    let theirs = handle.clone();
    let mut scope = Box::pin(scope(async move |s: Scope<'static>| {
        theirs.replace(Some(s));
        pending::<()>().await;
    }));
    let (hooks, waker) = hooked();
    let again = |word: &'static str| {
        let (handle, trace) = (handle.clone(), trace.clone());
        move || {
            let spawner: Scope<'static> = handle.borrow().clone().expect("stored by the body");
            spawner.spawn(traced(&trace, word, |_| Poll::Ready(())));
        }
    };
    hooks.on_clone.set(again("by clone"));
    hooks.on_wake.set(again("by wake"));
    assert!(poll_with(&mut scope, &waker).is_pending());
    assert!(poll_with(&mut scope, &waker).is_pending());
    hooks.on_drop.set(again("by drop"));
    assert!(poll(&mut scope).is_pending());
    assert!(poll(&mut scope).is_pending());
    let mut polled = trace.take();
    polled.retain(|word| word.starts_with("poll"));
    assert_eq!(polled, ["poll by clone", "poll by wake", "poll by drop"]);
}
