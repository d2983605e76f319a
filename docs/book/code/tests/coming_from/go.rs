//! The code of "Coming from Go".

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass::sync::mpsc;
use windlass::task::{StopSource, TaskGroup};
use windlass::time::{sleep, timeout};
use windlass::{block_on, spawn, spawn_blocking, yield_now};

// ANCHOR: program
/// Three workers take numbers from a queue, and send the squares to a channel.
async fn squares(numbers: Vec<u64>) -> Vec<u64> {
    let queue = Rc::new(RefCell::new(VecDeque::from(numbers)));
    let (sender, mut receiver) = mpsc::channel(1);
    let workers = TaskGroup::independent();
    for _ in 0..3 {
        let (queue, sender) = (queue.clone(), sender.clone());
        workers.spawn(async move {
            let next = || queue.borrow_mut().pop_front();
            while let Some(number) = next() {
                if sender.send(number * number).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(sender); // the channel ends with its last sender
    let mut squares = Vec::new();
    while let Some(square) = receiver.recv().await {
        squares.push(square);
    }
    workers.close().await;
    squares
}
// ANCHOR_END: program

#[test]
fn three_workers_share_a_queue() {
    let mut squares = block_on(squares((1..=100).collect()));
    squares.sort_unstable();
    let expected: Vec<u64> = (1..=100).map(|number| number * number).collect();
    assert_eq!(squares, expected);
}

// ANCHOR: preempt
#[test]
fn a_computation_runs_in_a_thread() {
    block_on(async {
        let turns = Rc::new(Cell::new(0));
        let other = spawn({
            let turns = turns.clone();
            async move {
                loop {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            }
        });
        yield_now().await;
        let before = turns.get();

        // Without an await, nothing else runs.
        let sum: u64 = (1..=1_000_000).sum();
        assert_eq!(turns.get(), before);

        // In a thread of the pool, it keeps nobody waiting.
        let start = Instant::now();
        let compute = spawn_blocking(move || {
            while start.elapsed() < Duration::from_millis(5) {}
            (1..=1_000_000).sum::<u64>()
        });
        assert_eq!(compute.await, sum);
        assert!(turns.get() > before);
        drop(other);
    });
}
// ANCHOR_END: preempt

// ANCHOR: leak
#[test]
fn a_blocked_sender_ends_with_its_group() {
    block_on(async {
        let (sender, receiver) = mpsc::channel::<i32>(1);
        let group = TaskGroup::independent();
        group.spawn(async move {
            // Waits forever, because the channel is full and nobody receives.
            while sender.send(1).await.is_ok() {}
        });
        yield_now().await;
        assert_eq!(group.len(), 1);
        drop(group);
        assert!(receiver.is_closed(), "the sender is gone");
    });
}
// ANCHOR_END: leak

// ANCHOR: context
/// It has no parameter for a context.
async fn work() {
    sleep(Duration::from_secs(3600)).await;
}

#[test]
fn any_future_can_be_cancelled() {
    block_on(async {
        assert!(timeout(Duration::from_millis(1), work()).await.is_err());

        let stop = StopSource::new();
        stop.stop_after(Duration::from_millis(1));
        assert_eq!(stop.token().run(work()).await, None);
    });
}
// ANCHOR_END: context
