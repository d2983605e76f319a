//! How many operations one poll of a task may complete.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::*;
use windlass_executor::budget::{OPERATIONS, poll_charge, poll_with, refund, try_refill};
use windlass_executor::{Executor, TickResult, spawn};

/// More operations than any poll may complete.
const MANY: u32 = 10 * OPERATIONS;

/// Completes operations until one is refused. Returns how many have completed.
fn complete_all(cx: &mut Context<'_>) -> u32 {
    (0..MANY).take_while(|_| poll_charge(cx).is_ready()).count() as u32
}

/// Polls a task `polls` times, and returns the results of its step.
fn results_of<T: 'static>(
    polls: usize,
    mut step: impl FnMut(&mut Context<'_>) -> T + 'static,
) -> Vec<T> {
    let (executor, results) = (Executor::new(), shared(Vec::new()));
    let inner = results.clone();
    let task = executor.spawn(poll_fn(move |cx| {
        inner.borrow_mut().push(step(cx));
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    while results.borrow().len() < polls {
        executor.tick(Waker::noop(), 1);
    }
    drop(task);
    results.take()
}

#[test]
fn a_poll_completes_32_to_96_operations() {
    for completed in results_of(100, complete_all) {
        assert!(
            (OPERATIONS..=3 * OPERATIONS).contains(&completed),
            "{completed} operations in one poll"
        );
    }
}

#[test]
fn an_exhausted_budget_wakes_the_task_behind_the_others() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mut left = MANY;
    let busy = move |cx: &mut Context<'_>| {
        while left > 0 {
            if poll_charge(cx).is_pending() {
                return Poll::Pending;
            }
            left -= 1;
        }
        Poll::Ready(())
    };
    executor.spawn(traced(&trace, "busy", busy)).detach();
    executor.spawn(traced(&trace, "other", ready(()))).detach();
    settle(&executor);
    let events = trace.take();
    assert_eq!(events[..3], ["poll busy", "poll other", "drop other"]);
    assert_eq!(events.last().unwrap(), "drop busy");
    assert!(events.len() as u32 > 3 + MANY / (3 * OPERATIONS));
}

#[test]
fn refunded_operations_are_free() {
    let refunding = |cx: &mut Context<'_>| {
        let completes = (0..MANY).all(|_| {
            let charged = poll_charge(cx).is_ready();
            refund();
            charged
        });
        (completes, complete_all(cx))
    };
    for (completes, afterwards) in results_of(10, refunding) {
        assert!(completes, "an operation that was refunded was charged");
        assert!((OPERATIONS..=3 * OPERATIONS).contains(&afterwards));
    }
}

#[test]
fn only_an_operation_that_completes_is_charged() {
    let waiting = |cx: &mut Context<'_>| {
        let mut calls = 0;
        for _ in 0..MANY {
            let polled = poll_with(cx, |_| {
                calls += 1;
                Poll::<()>::Pending
            });
            assert!(polled.is_pending());
        }
        let completed = (0..MANY).take_while(|_| poll_with(cx, |_| Poll::Ready(())).is_ready());
        (calls, completed.count() as u32)
    };
    for (calls, completed) in results_of(10, waiting) {
        assert_eq!(calls, MANY);
        assert!((OPERATIONS..=3 * OPERATIONS).contains(&completed));
    }
}

#[test]
fn operations_outside_of_polls_are_unlimited() {
    let executor = Executor::new();
    let _entered = executor.enter();
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(complete_all(cx), MANY);
    assert_eq!(try_refill(), None);
}

#[test]
fn a_poll_that_never_ends_is_refilled_again() {
    let refusals = |cx: &mut Context<'_>| {
        complete_all(cx);
        // Each of the later operations is refused some times before it completes.
        (0..MANY)
            .map(|_| (0..2_000).position(|_| poll_charge(cx).is_ready()))
            .collect::<Option<Vec<_>>>()
    };
    for refusals in results_of(3, refusals) {
        let refusals = refusals.expect("an operation was refused 2,000 times");
        assert!(refusals.into_iter().sum::<usize>() >= 1_000);
    }
}

#[test]
fn futures_polled_in_order_by_one_task_all_progress() {
    const FUTURES: usize = 8;
    let completed = results_of(20 * FUTURES, |cx| [(); FUTURES].map(|()| complete_all(cx)));
    for future in 0..FUTURES {
        let of_future: u32 = completed.iter().map(|counts| counts[future]).sum();
        assert!(of_future >= OPERATIONS, "future {future}: {of_future}");
    }
    for counts in completed {
        let total: u32 = counts.iter().sum();
        assert!(total <= 3 * OPERATIONS, "{total} operations in one poll");
    }
}

#[test]
fn the_first_poll_of_an_executor_with_a_reused_id_is_refilled() {
    // Both executors have the same id, and both number their first poll alike.
    let completed = |executor: &Executor| {
        let completed = Rc::new(Cell::new(0));
        let inner = completed.clone();
        let step = move |cx: &mut Context<'_>| {
            inner.set(complete_all(cx));
            (0..9).for_each(|_| _ = complete_all(cx)); // this poll gets no more refills
            Poll::Ready(())
        };
        executor.spawn(poll_fn(step)).detach();
        settle(executor);
        completed.get()
    };
    for _ in 0..1000 {
        let executor = Executor::new();
        let name = format!("{executor:?}");
        completed(&executor);
        drop(executor);
        let Some((executor, _others)) = executor_with_the_id_of(&name) else {
            continue; // a test on another thread has it
        };
        assert!(completed(&executor) >= OPERATIONS);
        return;
    }
    panic!("no executor got the id of the one before");
}

#[test]
fn polls_of_several_executors_have_their_own_budgets() {
    // The polls have the same number on each executor.
    let executors = [(); 3].map(|()| Executor::new());
    let completed = shared(Vec::new());
    for executor in &executors {
        let inner = completed.clone();
        let step = move |cx: &mut Context<'_>| {
            inner.borrow_mut().push(complete_all(cx));
            (0..9).for_each(|_| _ = complete_all(cx)); // this poll gets no more refills
            Poll::Ready(())
        };
        executor.spawn(poll_fn(step)).detach();
    }
    executors.iter().for_each(settle);
    let completed = completed.take();
    assert!(
        completed.iter().all(|&completed| completed >= OPERATIONS),
        "{completed:?} operations"
    );
}

#[test]
fn each_exhausted_budget_shortens_the_turn() {
    let executor = Executor::new();
    for _ in 0..256 {
        executor
            .spawn(poll_fn(|cx| {
                complete_all(cx);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }))
            .detach();
    }
    // Each of these polls takes about as long as 16 or 32 polls without operations.
    let TickResult { polled, ready } = executor.tick(Waker::noop(), 256);
    assert!((1..=32).contains(&polled) && ready, "{polled} polls");
    // Without operations, turns have their full length again.
    let executor = Executor::new();
    (0..256).for_each(|_| executor.spawn(idle_future()).detach());
    assert_eq!(executor.tick(Waker::noop(), 256).polled, 256);
}

fn idle_future() -> impl Future<Output = ()> {
    poll_fn(|_| Poll::<()>::Pending)
}

#[test]
fn an_entered_executor_charges_the_task_that_runs() {
    let (executor, entered) = (Executor::new(), Executor::new());
    let completed = executor.spawn(poll_fn(move |cx| {
        let _entered = entered.enter();
        Poll::Ready(complete_all(cx))
    }));
    settle(&executor);
    let completed = windlass_executor::block_on(completed);
    assert!((OPERATIONS..=3 * OPERATIONS).contains(&completed));
}

/// An executor with a dispatcher, which spawns a task of `child` per operation.
struct Dispatch {
    executor: Executor,
    /// Operations of the dispatcher, per poll.
    dispatched: Rc<RefCell<Vec<u32>>>,
    /// Polls of the children, and of those that were there before.
    polls: Rc<Cell<u32>>,
    served: Rc<Cell<u32>>,
}

impl Dispatch {
    /// The dispatcher has `operations` in all, and shares the executor with `busy` tasks.
    fn new(operations: u32, busy: u32, child: impl Fn(Rc<Cell<u32>>) -> Polled + 'static) -> Self {
        let dispatch = Dispatch {
            executor: Executor::new(),
            dispatched: shared(Vec::new()),
            polls: Rc::default(),
            served: Rc::default(),
        };
        for _ in 0..busy {
            let polled = always_ready(dispatch.served.clone());
            dispatch.executor.spawn(polled).detach();
        }
        let (dispatched, polls) = (dispatch.dispatched.clone(), dispatch.polls.clone());
        let mut left = operations;
        let dispatcher = poll_fn(move |cx| {
            let mut completed = 0;
            while left > 0 && poll_charge(cx).is_ready() {
                spawn(child(polls.clone())).detach();
                (left, completed) = (left - 1, completed + 1);
            }
            dispatched.borrow_mut().push(completed);
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        dispatch.executor.spawn(dispatcher).detach();
        dispatch
    }

    /// Ticks until the dispatcher has completed all of its operations.
    fn run(&self, operations: u32) {
        while self.dispatched.borrow().iter().sum::<u32>() < operations {
            self.executor.tick(Waker::noop(), 256);
        }
    }
}

type Polled = Pin<Box<dyn Future<Output = ()>>>;

/// Counts its polls.
fn always_ready(polls: Rc<Cell<u32>>) -> Polled {
    Box::pin(poll_fn(move |cx| {
        polls.set(polls.get() + 1);
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

fn ends_at_once(polls: Rc<Cell<u32>>) -> Polled {
    Box::pin(async move { polls.set(polls.get() + 1) })
}

#[test]
fn a_dispatcher_keeps_up_with_the_tasks_that_it_has_spawned() {
    const TASKS: u32 = 5_000;
    let dispatch = Dispatch::new(TASKS, 0, always_ready);
    dispatch.run(TASKS);
    let polls = dispatch.polls.get();
    assert!(polls <= 3 * TASKS, "{polls} polls before the last spawn");
    let most = *dispatch.dispatched.borrow().iter().max().unwrap();
    assert!(
        most <= 2048 + 3 * OPERATIONS,
        "{most} operations in one poll"
    );
}

#[test]
fn a_dispatcher_of_short_tasks_leaves_time_to_others() {
    const TASKS: u32 = 20_000;
    const BUSY: u32 = 16;
    let dispatch = Dispatch::new(TASKS, BUSY, ends_at_once);
    dispatch.run(TASKS);
    for completed in dispatch.dispatched.take() {
        let limit = 3 * OPERATIONS + 2 * BUSY;
        assert!(completed <= limit, "{completed} operations in one poll");
    }
    let served = dispatch.served.get();
    assert!(
        served >= BUSY * TASKS / (3 * OPERATIONS + 2 * BUSY),
        "{served}"
    );
}

#[test]
fn a_task_that_spawns_nothing_does_not_catch_up() {
    let (executor, polls) = (Executor::new(), Rc::default());
    for _ in 0..1_000 {
        executor.spawn(always_ready(Rc::clone(&polls))).detach();
    }
    let most = Rc::new(Cell::new(0));
    let inner = most.clone();
    let busy = poll_fn(move |cx| {
        inner.set(complete_all(cx).max(inner.get()));
        Poll::<()>::Pending
    });
    executor.spawn(busy).detach();
    while polls.get() < 20_000 {
        executor.tick(Waker::noop(), 256);
    }
    assert!(
        (OPERATIONS..=3 * OPERATIONS).contains(&most.get()),
        "{}",
        most.get()
    );
}

#[test]
fn a_poll_that_ignores_refusals_is_made_up_for_once() {
    let (executor, polls) = (Executor::new(), Rc::default());
    for _ in 0..1_000 {
        executor.spawn(always_ready(Rc::clone(&polls))).detach();
    }
    let (completed, mut poll) = (shared(Vec::new()), 0);
    let inner = completed.clone();
    let dispatcher = poll_fn(move |cx| {
        poll += 1;
        // The second poll makes up for the first one, and is not refused anything.
        let operations = [5_000, OPERATIONS + 1, 5_000][poll - 1];
        let mut done = 0;
        for operation in 0..operations {
            if poll_charge(cx).is_ready() {
                done += 1;
            } else if poll == 3 {
                break;
            }
            if operation % 20 == 0 {
                spawn(async {}).detach();
            }
        }
        inner.borrow_mut().push(done);
        cx.waker().wake_by_ref();
        match poll {
            3 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    executor.spawn(dispatcher).detach();
    while completed.borrow().len() < 3 {
        executor.tick(Waker::noop(), 256);
    }
    let third = completed.borrow()[2];
    assert!(third <= 3 * OPERATIONS, "{third} operations in one poll");
}
