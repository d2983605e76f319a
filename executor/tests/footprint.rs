//! What a task costs in memory, counted by an allocator.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::thread;

use common::*;
use futures::StreamExt;
use futures::join;
use windlass_executor::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State};
use windlass_executor::sync::{Event, Mutex, mpsc};
use windlass_executor::{Executor, TaskGroup, block_on, scope, spawn, yield_now};

/// Counts what each thread allocates, so that tests can run side by side.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: it passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations the code makes on this thread, and how many more bytes are allocated after
/// it.
fn count<T>(code: impl FnOnce() -> T) -> (usize, isize, T) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let output = code();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1, output)
}

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
        assert_eq!(allocations, 0, "to let go of handles");
    }));
    let (allocations, ..) = count(|| executor.tick(Waker::noop(), 9));
    assert_eq!(allocations, 0, "to tick");
}

#[test]
fn to_wait_for_a_lock_or_a_channel_allocates_nothing_the_second_time() {
    block_on(Executor::new().run(async {
        let mutex = Mutex::new(0);
        let (sender, mut receiver) = mpsc::channel(1);
        let mut rounds = async |rounds: usize| {
            for n in 0..rounds {
                let lock = async || {
                    let mut guard = mutex.lock().await;
                    yield_now().await;
                    *guard += 1;
                };
                join!(lock(), lock(), lock());
                let sent = async {
                    sender.send(n).await.expect("somebody receives");
                    sender.send(n).await.expect("somebody receives"); // waits
                };
                let received = async {
                    yield_now().await;
                    (receiver.recv().await, receiver.recv().await)
                };
                join!(sent, received);
            }
        };
        rounds(1).await;
        let before = ALLOCATIONS.get();
        rounds(100).await;
        assert_eq!(ALLOCATIONS.get() - before, 0);
    }));
}

#[test]
fn a_waiting_task_takes_some_48_bytes_besides_its_future() {
    // 40 for the head of its cell and 8 for its slot; and at most a sixteenth of a slot more, where
    // the table has just grown.
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

async fn echo(co: &mut Co<'_, u64, u64>, mut value: u64) -> u64 {
    for _ in 0..100 {
        value = co.yield_(value).await;
    }
    value
}

fn resume_to_the_end(mut coroutine: Coroutine<'_, u64, u64, u64>) {
    for value in 0.. {
        if let State::Complete(_) = coroutine.resume(value) {
            return;
        }
    }
}

#[test]
fn a_coroutine_is_two_allocations_or_none_and_to_resume_it_takes_none() {
    let (allocations, _, boxed) = count(|| Coroutine::new(echo));
    assert_eq!(allocations, 2);
    let (allocations, ..) = count(|| resume_to_the_end(boxed));
    assert_eq!(allocations, 0, "to resume");

    let (allocations, ..) = count(|| {
        let exchange = Exchange::new();
        let body = pin!(exchange.body(echo));
        resume_to_the_end(Coroutine::pinned(&exchange, body));
    });
    assert_eq!(allocations, 0, "on the stack");

    let mut waiting = AsyncCoroutine::new(async |co, ()| {
        loop {
            yield_now().await;
            co.yield_(1).await;
        }
        #[allow(unreachable_code)]
        ()
    });
    let (executor, mut sum) = (Executor::new(), 0);
    block_on(executor.run(async {
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            sum += waiting.next().await.expect("it never ends");
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "to wait");
    }));
    assert_eq!(sum, 100);
}

#[test]
fn slots_are_used_again_so_that_a_thousand_rounds_take_no_more_than_one() {
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
fn a_dropped_executor_gives_back_all_its_memory() {
    let live = || {
        let executor = Executor::new();
        let waker = Kept::default();
        executor
            .spawn(told(&Trace::new(), "a", keep(&waker)))
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
    // What a thread of std's takes is partly given back by that thread.
    assert!(
        bytes.abs() < 100 * 1000,
        "{bytes} bytes more after 100 executors"
    );
}

#[test]
fn a_million_wakes_from_another_thread_take_bounded_memory_and_are_one_poll_each_task() {
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
            counted.join().expect("it does not panic")
        });
        let (_, bytes, ()) = other;
        assert!(bytes <= 4096, "{bytes} bytes more after a million wakes");
        settle(&executor);
        assert_eq!(polls.get(), TASKS);
    }
}

/// What is left of a burst, at most.
const LEFT: isize = 20 * 1024;

#[test]
fn a_channel_gives_the_memory_of_a_burst_back() {
    const BURST: usize = 100_000;
    let (_, left, channel) = count(|| {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for _ in 0..3 {
            (0..BURST).for_each(|_| sender.send([0_u64; 16]).expect("it is open"));
            (0..BURST).for_each(|_| assert!(receiver.try_recv().is_ok()));
        }
        (sender, receiver)
    });
    assert!(left < LEFT, "{left} bytes in an empty channel");
    drop(channel);

    let (_, left, channel) = count(|| {
        let (sender, mut receiver) = mpsc::channel(BURST);
        (0..BURST).for_each(|_| sender.try_send([0_u64; 16]).expect("it has room"));
        block_on(async {
            for _ in 0..BURST - 10 {
                receiver.recv().await;
            }
        });
        (sender, receiver)
    });
    assert!(left < LEFT, "{left} bytes in a channel of ten values");
    drop(channel);
}

#[test]
fn a_group_gives_the_memory_of_a_burst_back() {
    const BURST: usize = 20_000;
    let executor = Executor::new();
    let _entered = executor.enter();
    for limit in [1, BURST] {
        let (_, left, group) = count(|| {
            let mut group = TaskGroup::infallible().limit(limit);
            (0..BURST).for_each(|_| group.spawn(async { [0_u64; 16] }));
            settle(&executor);
            for _ in 0..BURST {
                assert!(block_on(group.join_next()).is_some());
            }
            for _ in 0..3_000 {
                executor.tick(Waker::noop(), 1); // the table takes its time
            }
            group
        });
        assert!(left < 2 * LEFT, "{left} bytes in an empty group");
        drop(group);
    }
}

#[test]
fn a_scope_gives_the_memory_of_a_burst_back() {
    block_on(scope(async |s| {
        for _ in 0..3 {
            let before = BYTES.get();
            (0..20_000).for_each(|_| s.spawn(async {}));
            yields(1_000).await;
            let left = BYTES.get() - before;
            assert!(left < LEFT, "{left} bytes in an empty scope");
        }
        // One that lives on keeps only its own slot's neighbours.
        let before = BYTES.get();
        (0..20_000).for_each(|_| s.spawn(async {}));
        s.spawn(yields(5_000));
        (0..20_000).for_each(|_| s.spawn(async {}));
        yields(10_000).await;
        let left = BYTES.get() - before;
        assert!(left < LEFT, "{left} bytes in an empty scope");
    }));
}

#[test]
fn locks_and_events_give_the_memory_of_a_burst_back() {
    let mutex = Mutex::new(());
    let (_, left, ()) = count(|| {
        for _ in 0..3 {
            let guard = mutex.try_lock();
            let mut waiting: Vec<_> = (0..20_000).map(|_| Box::pin(mutex.lock())).collect();
            waiting.iter_mut().for_each(|lock| drop(poll(lock)));
            drop(guard);
            drop(waiting);
        }
    });
    assert!(left < LEFT, "{left} bytes in an open lock");

    let event = Event::new();
    let (_, left, _kept) = count(|| {
        let waiting: Vec<_> = (0..20_000).map(|_| event.listen()).collect();
        let mut kept: Vec<_> = (0..10).map(|_| event.listen()).collect();
        drop(waiting);
        for n in 0..100 {
            kept[n % 10] = event.listen(); // lower slots from now on
        }
        kept
    });
    assert!(left < LEFT, "{left} bytes in an event with ten listeners");
}

#[test]
fn a_table_of_tasks_gives_its_memory_back_with_time() {
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
fn steady_bursts_of_tasks_values_and_waiters_allocate_nothing_more() {
    let executor = Executor::new();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let event = Event::new();
    let mut round = || {
        (0..2_000).for_each(|_| executor.spawn(yield_now()).detach());
        settle(&executor);
        (0..500).for_each(|n| sender.send(n).expect("it is open"));
        (0..500).for_each(|n| assert_eq!(receiver.try_recv(), Ok(n)));
        let listening: [_; 30] = std::array::from_fn(|_| event.listen());
        drop(listening);
    };
    round();
    let (allocations, ..) = count(|| (0..100).for_each(|_| round()));
    assert_eq!(allocations, 100 * 2_000, "one for each task");
}
