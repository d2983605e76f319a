//! Chains of tasks that own each other. The stack that their drop takes must not grow with the
//! length of the chain.

mod common;
#[path = "common/deep.rs"]
mod deep;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use common::*;
use deep::{Count, LENGTH, STACK, chain, on_a_small_stack, pending_chain};
use windlass_executor::{Executor, Task, block_on, spawn, yield_now};

#[test]
fn dropping_a_chain_of_tasks_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = pending_chain(&executor, &count);
        drop(first);
        count.is(LENGTH);
        assert_eq!(executor.tasks(), 0);
    });
}

#[test]
fn dropping_tasks_that_await_each_other_takes_little_stack() {
    fn link(left: usize, count: Count) -> Task<()> {
        spawn(async move {
            let _guard = count.guard();
            match left {
                0 => pending().await,
                _ => link(left - 1, count).await,
            }
        })
    }
    on_a_small_stack(|executor, count| {
        let _entered = executor.enter();
        let first = link(LENGTH - 1, count.clone());
        settle(&executor);
        drop(first);
        count.is(LENGTH);
    });
}

#[test]
fn cancelling_a_chain_of_tasks_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = pending_chain(&executor, &count);
        assert_eq!(block_on(first.cancel()), None);
        count.is(LENGTH);
    });
}

#[test]
fn dropping_the_executor_of_a_chain_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = pending_chain(&executor, &count);
        drop(executor);
        count.is(LENGTH);
        assert!(first.is_finished());

        // The executor drops the head of the chain first.
        let executor = Executor::new();
        let entered = executor.enter();
        fn link(left: usize, count: Count) -> Task<()> {
            spawn(async move {
                let _guard = count.guard();
                let _rest = (left > 0).then(|| link(left - 1, count));
                pending().await
            })
        }
        link(LENGTH - 1, count.clone()).detach();
        settle(&executor);
        drop(entered);
        drop(executor);
        count.is(LENGTH);
    });
}

#[test]
fn dropping_an_executor_with_a_long_queue_takes_little_stack() {
    on_a_small_stack(|executor, _| {
        for _ in 0..LENGTH {
            drop(executor.spawn(pending::<()>())); // the queue keeps its cell
        }
        drop(executor);
    });
}

#[test]
fn a_chain_in_a_task_that_ends_or_panics_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let held = pending_chain(&executor, &count);
        let ends = executor.spawn(async move {
            let _held = held;
            yield_now().await;
        });
        settle(&executor);
        count.is(LENGTH);
        assert!(ends.is_finished());

        let mut held = Some(pending_chain(&executor, &count));
        let panics = executor.spawn(poll_fn::<(), _>(move |_| {
            let _held = &mut held;
            std::panic::resume_unwind(Box::new("the rope broke"))
        }));
        settle(&executor);
        count.is(LENGTH);
        assert!(block_on(panics.catch()).is_err());
    });
}

#[test]
fn dropping_a_chain_of_outputs_takes_little_stack() {
    struct Node(#[expect(dead_code, reason = "it is there to be dropped")] Option<Task<Node>>);
    on_a_small_stack(|executor, count| {
        let link = |rest: Option<Task<Node>>| {
            let guard = count.guard();
            async move {
                let _guard = guard;
                Node(rest)
            }
        };
        let first = chain(&executor, link);
        count.is(LENGTH); // all have finished
        drop(first);

        let first = chain(&executor, link);
        first.detach();

        let first = chain(&executor, link);
        executor.spawn(first).detach();
        settle(&executor);

        let first = chain(&executor, link);
        drop(block_on(executor.run(first)));
    });
}

#[test]
fn dropping_executors_that_own_each_other_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let many = if cfg!(target_pointer_width = "32") {
            100
        } else {
            5_000
        };
        let mut rest = executor;
        for _ in 0..many {
            let next = Executor::new();
            next.spawn(hold((rest, count.guard()))).detach();
            settle(&next);
            rest = next;
        }
        drop(rest);
        count.is(many);
    });
}

/// Spawns a tree of tasks, each of which owns its children.
fn tree(
    executor: &Executor,
    trace: &Trace,
    depth: usize,
    width: usize,
    name: &str,
) -> Option<Task<()>> {
    let below = |n: usize| tree(executor, trace, depth - 1, width, &format!("{name}{n}"));
    let children: Vec<_> = (depth > 0).then(|| (0..width).map(below).collect())?;
    let (trace, name) = (trace.clone(), name.to_owned());
    let record = on_drop(move || trace.push(name));
    Some(executor.spawn(hold((record, children))))
}

#[test]
fn a_tree_is_dropped_depth_first_in_the_order_of_the_code() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let root = tree(&executor, &trace, 4, 2, "");
    settle(&executor);
    drop(root);
    let order = trace.take();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(order, sorted);

    // The same tree at the end of a chain long enough for the tree's drops to be deferred.
    let mut rest = tree(&executor, &trace, 4, 2, "");
    for _ in 0..1_000 {
        rest = Some(executor.spawn(hold(rest)));
    }
    settle(&executor);
    drop(rest);
    assert_eq!(trace.take(), sorted);
}

#[test]
fn a_panic_deep_in_a_chain_of_drops_loses_none_of_the_rest() {
    on_a_small_stack(|executor, count| {
        for panics in [1, 2] {
            let mut n = 0;
            let first = chain(&executor, |rest| {
                n += 1;
                let splinter = (n <= panics).then(|| panics_on_drop("splinter"));
                hold((rest, splinter, count.guard()))
            });
            assert_eq!(panic_of(|| drop(first)), "splinter");
            count.is(LENGTH);
        }
        // Unwinding drops the chain here, so a second panic would abort the process.
        let mut n = 0;
        let first = chain(&executor, |rest| {
            n += 1;
            let splinter = (n == 1).then(|| panics_on_drop("splinter"));
            hold((rest, splinter, count.guard()))
        });
        let panic = panic_of(move || {
            let _first = first;
            panic!("adrift");
        });
        assert_eq!(panic, "adrift");
        count.is(LENGTH);
    });
}

#[test]
fn payloads_that_panic_deep_in_a_chain_lose_none_of_the_rest() {
    on_a_small_stack(|executor, count| {
        let mut n = 0;
        let first = chain(&executor, |rest| {
            n += 1;
            let bomb = (n <= 10).then(|| on_drop(|| std::panic::panic_any(Bomb(3))));
            hold((rest, bomb, count.guard()))
        });
        let payload = catch_unwind(std::panic::AssertUnwindSafe(|| drop(first)));
        std::mem::forget(payload);
        count.is(LENGTH);
    });
}

#[test]
fn a_task_whose_drop_is_deferred_counts_as_cancelled() {
    on_a_small_stack(|executor, count| {
        let executor = Rc::new(executor);
        let (waker, trace) = (Kept::default(), Trace::new());
        let last = executor.spawn(traced(&trace, "last", keep(&waker)));
        settle(&executor);
        trace.is(&["poll last"]);
        let (inner, woken) = (executor.clone(), waker.clone());
        let busy = on_drop(move || {
            // The drop of the last task is deferred when this destructor runs.
            kept(&woken).wake();
            settle(&inner);
            let other = inner.spawn(async { 7 });
            assert_eq!(block_on(inner.run(other)), 7);
        });
        let mut rest = executor.spawn(hold((last, busy)));
        for _ in 0..LENGTH {
            rest = executor.spawn(hold((rest, count.guard())));
        }
        settle(&executor);
        kept(&waker).wake(); // it's in the queue as well
        drop(rest);
        trace.is(&["drop last"]);
        count.is(LENGTH);
        assert_eq!((executor.tasks(), executor.has_ready()), (0, false));
    });
}

#[test]
fn a_loop_in_a_deep_destructor_sees_cancelled_tasks_gone() {
    on_a_small_stack(|executor, count| {
        let executor = Rc::new(executor);
        let (inner, counted) = (executor.clone(), count.clone());
        let busy = on_drop(move || {
            let (sender, receiver) = mpsc::channel::<()>();
            let holder = inner.spawn(hold(sender));
            let chain = pending_chain(&inner, &counted);
            let run = inner.run(async move {
                yield_now().await;
                drop((holder, chain));
                receiver.try_recv()
            });
            assert_eq!(block_on(run), Err(TryRecvError::Disconnected));
        });
        let mut rest = executor.spawn(hold((busy, count.guard())));
        for _ in 1..LENGTH {
            rest = executor.spawn(hold((rest, count.guard())));
        }
        settle(&executor);
        drop(rest);
        count.is(2 * LENGTH);
    });
}

/// The loop that a destructor runs drops only the deferred tasks of that destructor.
#[test]
fn a_loop_in_a_destructor_leaves_deferred_tasks_to_their_owner() {
    on_a_small_stack(|executor, count| {
        let executor = Rc::new(executor);
        let mut rest = executor.spawn(hold(count.guard()));
        for _ in 0..64 {
            let (inner, counted) = (executor.clone(), count.clone());
            let busy = on_drop(move || {
                let mut chain = inner.spawn(hold(counted.guard()));
                for _ in 0..64 {
                    chain = inner.spawn(hold((chain, counted.guard())));
                }
                block_on(inner.run(async move {
                    yield_now().await;
                    drop(chain);
                }));
            });
            rest = executor.spawn(hold((rest, busy, count.guard())));
        }
        settle(&executor);
        drop(rest);
        count.is(65 + 64 * 65);
    });
}

thread_local! {
    static AT_EXIT: RefCell<Option<Task<()>>> = const { RefCell::new(None) };
}

#[test]
#[cfg_attr(
    all(windows, target_env = "gnu"),
    ignore = "without native TLS, std destroys the executor's own thread-locals before this one"
)]
fn a_chain_in_a_thread_local_is_dropped_when_the_thread_ends() {
    let (dropped, (send, ends)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
    let count = dropped.clone();
    let thread = thread::Builder::new().stack_size(STACK);
    let thread = thread.spawn(move || {
        AT_EXIT.with(|_| {});
        let executor = Executor::new();
        let first = chain(&executor, |rest| hold((rest, Canary::new(&count))));
        AT_EXIT.set(Some(first));
        std::mem::forget(executor); // a thread-local of its own kind
        drop(send);
    });
    thread.unwrap().join().expect("no destructor panics");
    assert!(ends.recv().is_err());
    assert_eq!(dropped.load(SeqCst), LENGTH);
}

#[test]
fn a_finished_chain_wakes_its_tasks_one_after_the_other() {
    fn link(left: usize) -> Task<usize> {
        spawn(async move {
            match left {
                0 => 0,
                _ => link(left - 1).await + 1,
            }
        })
    }
    on_a_small_stack(|executor, _| {
        let last = block_on(executor.run(async { link(LENGTH).await }));
        assert_eq!(last, LENGTH);
    });
}
