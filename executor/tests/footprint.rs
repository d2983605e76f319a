//! Memory per task, measured with a counting allocator.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::task::{Context, Poll, Waker};
use std::thread;

use common::*;
use counting::{ALLOCATIONS, LEFT, count};
use windlass_executor::{Executor, block_on, spawn, yield_now};

#[test]
fn a_spawn_is_one_allocation_and_nothing_else_is_any() {
    let executor = Executor::new();
    block_on(executor.run(async {
        let many = (0..100).map(|_| spawn(pending::<()>()));
        drop(many.collect::<Vec<_>>()); // the table has slots now

        let (allocations, _, task) = count(|| {
            spawn(async {
                yield_now().await;
                [1; 100]
            })
        });
        assert_eq!(allocations, 1);

        let before = ALLOCATIONS.get();
        assert_eq!(task.await, [1; 100]);
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(
            ALLOCATIONS.get() - before,
            0,
            "to poll, wake, join and yield"
        );

        let tasks = [(); 3].map(|()| spawn(pending::<()>()));
        yield_now().await;
        let (allocations, ..) = count(|| {
            let [dropped, detached, cancelled] = tasks;
            drop(dropped);
            detached.detach();
            drop(cancelled.cancel());
        });
        assert_eq!(allocations, 0, "to drop and detach handles");
    }));
    let (allocations, ..) = count(|| executor.tick(Waker::noop(), 9));
    assert_eq!(allocations, 0, "to tick");
}

#[test]
fn a_waiting_task_takes_about_48_bytes_besides_its_future() {
    // The header of the task's cell takes 40 bytes and its slot 8 bytes. A table that has just
    // grown adds at most a sixteenth of a slot.
    let of_some_size = || async {
        let state = [0_u64; 25];
        pending::<()>().await;
        assert_eq!(state[0], 0);
    };
    let size = size_of_val(&of_some_size()) as isize;
    for tasks in [1_000, 10_000, 10_973, 100_000_isize] {
        if tasks > 16_384 && cfg!(target_pointer_width = "32") {
            break; // more than there may be
        }
        let executor = Executor::new();
        let (_, bytes, ()) = count(|| {
            for _ in 0..tasks {
                executor.spawn(of_some_size()).detach();
            }
            settle(&executor);
        });
        let each = bytes as f64 / tasks as f64 - size as f64;
        println!("{tasks} tasks: {each:.1} bytes each besides the future's {size}");
        assert!(each <= 48.6, "{each} bytes besides the future's {size}");
    }
}

#[test]
fn a_growing_table_is_seldom_reallocated() {
    let executor = Executor::new();
    let tasks = 16_000;
    let (allocations, ..) = count(|| {
        (0..tasks).for_each(|_| executor.spawn(pending::<()>()).detach());
    });
    let of_table = allocations - tasks;
    assert!(of_table < 200, "{of_table} allocations of the table");
}

#[test]
fn tasks_that_end_together_allocate_once() {
    let executor = Executor::new();
    let tasks: Vec<_> = (0..10_000)
        .map(|_| executor.spawn(pending::<()>()))
        .collect();
    let (allocations, ..) = count(|| drop(tasks));
    assert_eq!(allocations, 1, "the list of free slots");
}

#[test]
fn slots_are_reused_so_memory_does_not_grow() {
    let executor = Executor::new();
    let round = || {
        let tasks: Vec<_> = (0..100).map(|i| executor.spawn(async move { i })).collect();
        settle(&executor);
        for (i, task) in tasks.into_iter().enumerate() {
            match i % 3 {
                0 => assert_eq!(block_on(task), i),
                1 => drop(task),
                _ => task.detach(),
            }
        }
        for _ in 0..100 {
            drop(executor.spawn(pending::<()>())); // dies in the queue
        }
        settle(&executor);
    };
    round();
    let (_, bytes, ()) = count(|| (0..1000).for_each(|_| round()));
    assert_eq!(bytes, 0);
}

#[test]
fn a_dropped_executor_frees_all_its_memory() {
    let live = || {
        let executor = Executor::new();
        let waker = Kept::default();
        executor
            .spawn(traced(&Trace::new(), "a", keep(&waker)))
            .detach();
        for _ in 0..1000 {
            executor.spawn(pending::<()>()).detach();
        }
        settle(&executor);
        let waker = kept(&waker);
        thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join()).expect("no panic");
        drop(executor);
        waker.wake();
    };
    live(); // the shelf of inboxes stays
    let (_, bytes, ()) = count(|| (0..100).for_each(|_| live()));
    // A std thread frees part of its memory itself, which the count of this thread misses.
    assert!(
        bytes.abs() < 100 * 1000,
        "{bytes} bytes more after 100 executors"
    );
}

#[test]
fn a_million_remote_wakes_take_bounded_memory() {
    const TASKS: usize = 100;
    let executor = Executor::new();
    let polls = std::rc::Rc::new(Cell::new(0));
    let wakers: Vec<_> = (0..TASKS)
        .map(|_| {
            let (polls, kept_waker) = (polls.clone(), Kept::default());
            let inner = kept_waker.clone();
            executor
                .spawn(poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    inner.replace(Some(cx.waker().clone()));
                    Poll::Pending::<()>
                }))
                .detach();
            settle(&executor);
            kept(&kept_waker)
        })
        .collect();
    for _ in 0..2 {
        polls.set(0);
        let other = thread::scope(|scope| {
            let wakers = &wakers;
            let waking = move || {
                for _ in 0..1_000_000 / TASKS {
                    wakers.iter().for_each(Waker::wake_by_ref);
                }
            };
            let counted = scope.spawn(move || count(waking));
            counted.join().expect("no panic on the thread")
        });
        let (_, bytes, ()) = other;
        assert!(bytes <= 4096, "{bytes} bytes more after a million wakes");
        settle(&executor);
        assert_eq!(polls.get(), TASKS);
    }
}

#[test]
fn the_table_shrinks_after_a_burst() {
    let executor = Executor::new();
    let (tasks, names) = (16_000, 1_000);
    let (_, left, ()) = count(|| {
        let spawn = |n| {
            let task = executor.spawn(yield_now());
            match n < names {
                true => task.named("hauler").detach(),
                false => task.detach(),
            }
        };
        (0..tasks).for_each(spawn);
        settle(&executor);
        for _ in 0..5_000 {
            executor.spawn(async {}).detach();
            executor.tick(Waker::noop(), 9);
        }
    });
    assert!(left < 2 * LEFT, "{left} bytes in an empty executor");
}

#[test]
fn the_table_shrinks_down_to_the_tasks_that_stay() {
    let stay = 2_000;
    let (_, before, executor) = count(|| {
        let executor = Executor::new();
        (0..stay).for_each(|_| executor.spawn(pending::<()>()).detach());
        settle(&executor);
        executor
    });
    let (_, after, ()) = count(|| {
        (0..14_000).for_each(|_| executor.spawn(yield_now()).detach());
        settle(&executor);
        for _ in 0..3_000 {
            executor.tick(Waker::noop(), 9);
        }
    });
    assert!(after < LEFT, "{after} bytes more than {before}");
    assert_eq!(executor.tasks(), stay);
}

#[test]
fn a_table_with_a_third_of_its_slots_taken_keeps_them() {
    let executor = Executor::new();
    (0..5_000).for_each(|_| executor.spawn(pending::<()>()).detach());
    let burst = || {
        (0..10_000).for_each(|_| executor.spawn(yield_now()).detach());
        settle(&executor);
    };
    burst();
    for _ in 0..3_000 {
        executor.tick(Waker::noop(), 9);
    }
    let (allocations, ..) = count(burst);
    assert_eq!(allocations, 10_000, "one for each task");
}

#[test]
fn a_table_with_a_high_slot_taken_keeps_its_slots() {
    let executor = Executor::new();
    let burst = |tasks| (0..tasks).for_each(|_| executor.spawn(yield_now()).detach());
    burst(12_000);
    let last = executor.spawn(pending::<()>());
    burst(3_000);
    settle(&executor);
    for _ in 0..3_000 {
        executor.tick(Waker::noop(), 9);
    }
    let (allocations, ..) = count(|| {
        burst(15_000);
        drop(last);
        settle(&executor);
    });
    assert_eq!(allocations, 15_000, "one for each task");
}

#[test]
fn the_inbox_shrinks_with_the_table() {
    let executor = Executor::new();
    let (_, here, there) = count(|| {
        let wakers = shared(Vec::new());
        for _ in 0..16_000 {
            let (wakers, mut is_first) = (wakers.clone(), true);
            let step = move |cx: &mut Context<'_>| {
                if std::mem::take(&mut is_first) {
                    wakers.borrow_mut().push(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            };
            executor.spawn(poll_fn(step)).detach();
        }
        settle(&executor);
        let wakers = wakers.take();
        let waking = || count(|| wakers.iter().for_each(Waker::wake_by_ref));
        let (_, there, ()) =
            thread::scope(|scope| scope.spawn(waking).join()).expect("no panic on the thread");
        settle(&executor);
        assert_eq!(executor.tasks(), 0);
        for _ in 0..5_000 {
            executor.tick(Waker::noop(), 9);
        }
        there
    });
    assert!(
        there > 4 * LEFT,
        "{there} bytes in an inbox of 16,000 wakes"
    );
    assert!(here + there < 2 * LEFT, "{here} + {there} bytes are left");
}

#[test]
fn steady_bursts_do_not_reallocate() {
    let executor = Executor::new();
    // So many that an empty table would shrink.
    let round = || {
        (0..4_000).for_each(|_| executor.spawn(yield_now()).detach());
        settle(&executor);
    };
    round();
    let (allocations, ..) = count(|| (0..50).for_each(|_| round()));
    assert_eq!(allocations, 50 * 4_000, "one for each task");
}
