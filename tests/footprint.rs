//! The memory that channels, locks, groups, scopes and coroutines take, counted by an allocator.

#[path = "../executor/tests/common/mod.rs"]
mod common;
#[path = "../executor/tests/common/counting.rs"]
mod counting;

use std::pin::pin;
use std::task::Waker;

use common::{poll, settle, yields};
use counting::{ALLOCATIONS, BYTES, LEFT, count};
use futures::StreamExt;
use futures::join;
use windlass::coroutine::{AsyncCoroutine, Co, Coroutine, Exchange, State};
use windlass::sync::{Event, Mutex, mpsc};
use windlass::task::{TaskGroup, scope};
use windlass::yield_now;
use windlass_executor::{Executor, block_on};

#[test]
fn waiting_allocates_nothing_the_second_time() {
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
                    sender.send(n).await.expect("the receiver exists");
                    sender.send(n).await.expect("the receiver exists"); // waits
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
fn a_coroutine_takes_two_allocations_or_none() {
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
            sum += waiting.next().await.expect("the coroutine is endless");
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "to wait");
    }));
    assert_eq!(sum, 100);
}

#[test]
fn a_channel_shrinks_after_a_burst() {
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
fn a_group_shrinks_after_a_burst() {
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
                executor.tick(Waker::noop(), 1); // the task table shrinks slowly
            }
            group
        });
        assert!(left < 2 * LEFT, "{left} bytes in an empty group");
        drop(group);
    }
}

#[test]
fn a_scope_shrinks_after_a_burst() {
    block_on(scope(async |s| {
        for _ in 0..3 {
            let before = BYTES.get();
            (0..20_000).for_each(|_| s.spawn(async {}));
            yields(1_000).await;
            let left = BYTES.get() - before;
            assert!(left < LEFT, "{left} bytes in an empty scope");
        }
        // After a child that outlives the others has ended.
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
fn locks_and_events_shrink_after_a_burst() {
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
            kept[n % 10] = event.listen(); // reuses lower slots
        }
        kept
    });
    assert!(left < LEFT, "{left} bytes in an event with ten listeners");
}

#[test]
fn steady_bursts_allocate_nothing() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let event = Event::new();
    let mut round = || {
        (0..500).for_each(|n| sender.send(n).expect("it is open"));
        (0..500).for_each(|n| assert_eq!(receiver.try_recv(), Ok(n)));
        let listening: [_; 30] = std::array::from_fn(|_| event.listen());
        drop(listening);
    };
    round();
    let (allocations, ..) = count(|| (0..100).for_each(|_| round()));
    assert_eq!(allocations, 0);
}
