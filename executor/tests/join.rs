//! Awaiting handles. The last task that awaits a handle receives the output, once.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::*;
use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use windlass_executor::{Executor, Task, block_on, spawn, yield_now};

/// End of the panic message, after the task's name.
const GONE: &str = " can't finish any more: its executor was dropped";
const TAKEN: &str = "this task was awaited to its end before";

#[test]
fn awaiting_a_task_returns_its_output() {
    block_on(Executor::new().run(async {
        assert_eq!(spawn(async { 1 }).await, 1);
        let done = spawn(async { 2 });
        yield_now().await;
        assert!(done.is_finished());
        assert_eq!(done.await, 2);
    }));
}

#[test]
fn outputs_of_any_shape_arrive() {
    #[derive(PartialEq, Debug)]
    #[repr(align(128))]
    struct Wide([u8; 300]);
    block_on(Executor::new().run(async {
        spawn(async {}).await;
        assert_eq!(spawn(async { Wide([7; 300]) }).await, Wide([7; 300]));
        let local = Rc::new(5);
        let theirs = local.clone();
        assert!(Rc::ptr_eq(&spawn(async move { theirs }).await, &local));
        let (nested,) = spawn(async { (spawn(async { "inner" }),) }).await;
        assert_eq!(nested.await, "inner");
    }));
}

#[test]
fn a_future_never_moves_after_its_first_poll() {
    struct Placed(Rc<RefCell<Vec<usize>>>, std::marker::PhantomPinned);
    impl Future for Placed {
        type Output = ();
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let here = std::ptr::from_ref(&*self).addr();
            self.0.borrow_mut().push(here);
            cx.waker().wake_by_ref();
            if self.0.borrow().len() < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }
    }
    impl Drop for Placed {
        fn drop(&mut self) {
            let here = std::ptr::from_ref(self).addr();
            self.0.borrow_mut().push(here);
        }
    }
    let (executor, places) = (Executor::new(), shared(Vec::new()));
    let task = executor.spawn(Placed(places.clone(), std::marker::PhantomPinned));
    for _ in 0..100 {
        executor.spawn(async {}).detach(); // the table grows and moves
    }
    settle(&executor);
    block_on(task);
    let places = places.take();
    assert_eq!(places.len(), 4);
    assert!(places.iter().all(|place| *place == places[0]));
}

#[test]
fn a_finished_task_wakes_its_joiner_once() {
    let executor = Executor::new();
    let mut task = executor.spawn(async {
        yield_now().await;
        3
    });
    let (wakes, waker) = Count::new();
    assert!(poll_with(&mut task, &waker).is_pending());
    assert!(poll_with(&mut task, &waker).is_pending());
    settle(&executor);
    assert_eq!(wakes.take(), 1);
    assert_eq!(poll_with(&mut task, &waker), Poll::Ready(3));
    assert_eq!(wakes.take(), 0);
}

#[test]
fn only_the_latest_joiner_is_woken() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(async { 3 });
    let ((old, old_waker), (new, new_waker)) = (hooked(), hooked());
    let at_drop = records_drop(&trace, "old");
    old.on_drop.set(move || drop(at_drop));
    assert!(poll_with(&mut task, &old_waker).is_pending());
    trace.is(&[]);
    assert!(poll_with(&mut task, &new_waker).is_pending());
    trace.is(&["drop old"]);
    for (name, hooks) in [("old", &old), ("new", &new)] {
        let trace = trace.clone();
        hooks
            .on_wake
            .set(move || trace.push(format!("wake {name}")));
    }
    settle(&executor);
    trace.is(&["wake new"]);
    assert_eq!(poll(&mut task), Poll::Ready(3));
}

#[test]
fn a_waker_that_stays_the_same_is_not_cloned_again() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(async {});
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut task, &waker).is_pending());
    let inner = trace.clone();
    hooks.on_clone.set(move || inner.push("clone"));
    assert!(poll_with(&mut task, &waker).is_pending());
    trace.is(&[]);
    assert_eq!(
        Rc::strong_count(&hooks),
        3,
        "ours, the waker's, and the joiner's"
    );
    settle(&executor);
    assert_eq!(Rc::strong_count(&hooks), 2);
}

#[test]
fn a_dropped_handle_drops_the_joiners_waker() {
    let executor = Executor::new();
    for detach in [false, true] {
        let (hooks, waker) = hooked();
        let mut task = executor.spawn(pending::<()>());
        assert!(poll_with(&mut task, &waker).is_pending());
        assert_eq!(Rc::strong_count(&hooks), 3);
        if detach {
            task.detach();
        } else {
            drop(task);
        }
        assert_eq!(Rc::strong_count(&hooks), 2);
    }
}

#[test]
fn dropping_an_await_by_reference_loses_nothing() {
    block_on(Executor::new().run(async {
        let mut task = spawn(async {
            yield_now().await;
            yield_now().await;
            4
        });
        let mut rounds = 0;
        loop {
            rounds += 1;
            match select(&mut task, pin!(yield_now())).await {
                Either::Left((output, _)) => break assert_eq!(output, 4),
                Either::Right(_) => {}
            }
        }
        assert!(rounds > 1);
    }));
}

#[test]
fn awaiting_again_after_the_end_panics_with_a_message() {
    let executor = Executor::new();
    let mut task = executor.spawn(async { 1 });
    settle(&executor);
    assert_eq!(poll(&mut task), Poll::Ready(1));
    assert!(task.is_finished());
    assert_eq!(panic_of(|| poll(&mut task)), TAKEN);
    assert_eq!(block_on(task.cancel()), None);
}

#[test]
fn is_finished_is_true_after_the_end() {
    let executor = Executor::new();
    let [quick, panics, endless] = [0, 1, 2].map(|kind| {
        executor.spawn(async move {
            match kind {
                0 => {}
                1 => panic!("as planned"),
                _ => pending().await,
            }
        })
    });
    assert!(!quick.is_finished() && !panics.is_finished() && !endless.is_finished());
    settle(&executor);
    assert!(quick.is_finished() && panics.is_finished() && !endless.is_finished());
    drop(executor);
    assert!(quick.is_finished() && panics.is_finished() && endless.is_finished());
}

#[test]
fn a_task_is_not_finished_while_it_runs() {
    let (executor, own) = (Executor::new(), shared(None::<Task<()>>));
    let seen = flag();
    let (inner, saw) = (own.clone(), seen.clone());
    let task = executor.spawn(async move {
        let own = inner.take().expect("the test has stored it");
        saw.set(!own.is_finished());
        own.detach();
    });
    own.replace(Some(task));
    settle(&executor);
    assert!(seen.get());
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn the_output_outlives_the_executor() {
    let executor = Executor::new();
    let done = executor.spawn(async { "hauled" });
    let caught = executor.spawn(async { "caught" });
    let cancelled = executor.spawn(async { "late" });
    settle(&executor);
    drop(executor);
    assert_eq!(block_on(done), "hauled");
    assert_eq!(
        block_on(caught.catch()).expect("it did not panic"),
        "caught"
    );
    assert_eq!(block_on(cancelled.cancel()), Some("late"));
}

#[test]
fn awaiting_a_task_of_a_dropped_executor_panics_with_a_message() {
    let executor = Executor::new();
    let [mut awaited, caught, cancelled, dropped, detached] =
        [(); 5].map(|()| executor.spawn(pending::<()>()));
    settle(&executor);
    drop(executor);
    assert!(awaited.is_finished());
    for _ in 0..2 {
        assert!(panic_of(|| poll(&mut awaited)).ends_with(GONE));
    }
    assert!(panic_of(|| block_on(caught.catch())).ends_with(GONE));
    assert_eq!(block_on(cancelled.cancel()), None);
    drop(dropped);
    detached.detach();
}

#[test]
fn a_joiner_is_woken_when_the_executor_is_dropped() {
    let (mine, theirs) = (Executor::new(), Executor::new());
    let task = theirs.spawn(pending::<()>());
    let waiting = mine.spawn(task.catch());
    settle(&mine);
    drop(theirs);
    settle(&mine);
    assert!(panic_of(|| block_on(waiting)).ends_with(GONE));
}

#[test]
fn a_task_may_be_awaited_in_another_executor() {
    let (mine, theirs) = (Executor::new(), Executor::new());
    let task = theirs.spawn(async { 6 });
    let waiting = mine.spawn(async move { task.await + 1 });
    settle(&mine);
    assert!(!waiting.is_finished());
    settle(&theirs);
    settle(&mine);
    assert_eq!(block_on(waiting), 7);
}

#[test]
fn a_handle_may_move_into_another_task_while_it_is_awaited() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut task = executor.spawn(traced(&trace, "task", {
        let mut polls = 0;
        move |cx: &mut Context<'_>| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready("rope")
            }
        }
    }));
    let (wakes, waker) = Count::new();
    assert!(poll_with(&mut task, &waker).is_pending());
    executor.tick(Waker::noop(), 1);
    let next = executor.spawn(async move { task.await.len() });
    settle(&executor);
    assert_eq!(wakes.take(), 0, "another task has replaced the joiner");
    assert_eq!(block_on(next), 4);
}

#[test]
fn a_task_that_awaits_itself_is_dropped_with_its_executor() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let own = shared(None::<Task<()>>);
    let (inner, at_drop) = (own.clone(), records_drop(&trace, "future"));
    let task = executor.spawn(async move {
        let _at_drop = at_drop;
        let own = inner.take().expect("the test has stored it");
        own.await;
    });
    own.replace(Some(task));
    settle(&executor);
    assert_eq!(executor.tasks(), 1);
    trace.is(&[]);
    drop(executor);
    trace.is(&["drop future"]);
}

#[test]
fn a_detached_task_runs_to_its_end_and_drops_its_output() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let output = records_drop(&trace, "output");
    let inner = trace.clone();
    let task = executor.spawn(async move {
        yield_now().await;
        inner.push("end");
        output
    });
    task.detach();
    trace.is(&[]);
    settle(&executor);
    trace.is(&["end", "drop output"]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn a_task_detached_after_its_end_drops_its_output_at_once() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let output = records_drop(&trace, "output");
    let task = executor.spawn(async move { output });
    settle(&executor);
    trace.is(&[]);
    task.detach();
    trace.is(&["drop output"]);
}

#[test]
fn a_taken_output_belongs_to_the_joiner() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let output = records_drop(&trace, "output");
    let task = executor.spawn(async move { output });
    settle(&executor);
    let output = block_on(task);
    drop(executor);
    trace.is(&[]);
    drop(output);
    trace.is(&["drop output"]);
}

#[test]
fn a_future_is_dropped_before_its_output_is_returned() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let inner = trace.clone();
    let task = executor.spawn(traced(&trace, "task", ready(5)));
    executor
        .spawn(async move { inner.push(format!("got {}", task.await)) })
        .detach();
    settle(&executor);
    trace.is(&["poll task", "drop task", "got 5"]);
}

/// Completes at its second poll and counts all polls.
async fn twice(polls: Rc<Cell<usize>>) {
    let mut first = true;
    poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn join_all_of_10_000_children_polls_each_once() {
    const CHILDREN: usize = 10_000;
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    let mut main_polls = 0;
    block_on(Executor::new().run(async {
        let mut all = join_all((0..CHILDREN).map(|_| twice(counted.clone())));
        poll_fn(|cx| {
            main_polls += 1;
            Pin::new(&mut all).poll(cx)
        })
        .await;
    }));
    assert_eq!(polls.get(), 2 * CHILDREN);
    // `FuturesUnordered` yields from time to time, and makes progress between yields.
    assert!(main_polls <= CHILDREN, "{main_polls} polls of main");
}

#[test]
fn join_all_of_10_000_tasks_polls_each_once() {
    const TASKS: usize = 10_000;
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    let mut main_polls = 0;
    block_on(Executor::new().run(async {
        let tasks: Vec<_> = (0..TASKS).map(|_| spawn(twice(counted.clone()))).collect();
        let mut all = join_all(tasks);
        poll_fn(|cx| {
            main_polls += 1;
            Pin::new(&mut all).poll(cx)
        })
        .await;
    }));
    assert_eq!(polls.get(), 2 * TASKS);
    assert!(main_polls <= 2 * TASKS, "{main_polls} polls of main");
}

#[test]
fn futures_unordered_of_10_000_tasks_returns_each_output_once() {
    const TASKS: usize = 10_000;
    let mut polls = 0;
    let sum = block_on(Executor::new().run(async {
        let mut tasks: FuturesUnordered<_> = (0..TASKS).map(|i| spawn(async move { i })).collect();
        let mut sum = 0;
        poll_fn(|cx| {
            polls += 1;
            loop {
                match tasks.poll_next_unpin(cx) {
                    Poll::Ready(Some(i)) => sum += i,
                    Poll::Ready(None) => return Poll::Ready(sum),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }));
    assert_eq!(sum, TASKS * (TASKS - 1) / 2);
    assert!(polls <= TASKS, "{polls} polls of main");
}

#[test]
fn a_finished_task_leaves_the_joiner_of_the_next_in_its_slot() {
    let executor = Executor::new();
    let (wakes, joiner) = Count::new();
    let mut first = executor.spawn(async {});
    assert!(poll_with(&mut first, &joiner).is_pending());
    settle(&executor);
    assert_eq!(wakes.take(), 1);
    let mut second = executor.spawn(async {});
    assert!(poll_with(&mut second, &joiner).is_pending());
    first.detach();
    settle(&executor);
    assert_eq!(wakes.take(), 1);
}
