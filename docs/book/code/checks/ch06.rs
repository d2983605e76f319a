//! The tests of the exercises of chapter 6.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use windlass_book::ch05::program::{block_on, line};
use windlass_book::ch06::program::Executor;

use super::{Slots, sum_politely, with_output};

#[test]
fn exercise_1_a_stale_key_finds_nothing() {
    let mut slots = Slots::default();
    let (first, second) = (slots.insert("first"), slots.insert("second"));
    assert_eq!(slots.remove(first), Some("first"));
    let third = slots.insert("third");
    assert_eq!(third.slot, first.slot, "the free slot is used again");
    assert_eq!(slots.remove(first), None, "the key is stale");
    assert_eq!(slots.remove(third), Some("third"));
    assert_eq!(slots.remove(third), None);
    assert_eq!(slots.remove(second), Some("second"));
}

#[test]
fn exercise_2_a_task_waits_for_the_output_of_another() {
    let executor = Executor::default();
    let (sender, line) = line();
    let (task, output) = with_output(async move { line.await.parse::<i64>().unwrap() });
    let received = Rc::new(Cell::new(0));
    let result = received.clone();
    // The waiting task is polled first, so it needs the wake.
    executor.spawn(async move { result.set(output.await) });
    executor.spawn(task);
    executor.spawn(async move { sender.send("42".to_owned()) });
    let mut run = pin!(executor.run());
    let mut context = Context::from_waker(Waker::noop());
    // A lost wake fails here instead of waiting forever.
    let ended = (0..10).any(|_| run.as_mut().poll(&mut context).is_ready());
    assert!(ended, "a task was not woken");
    assert_eq!(received.get(), 42);
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn exercise_3_other_tasks_run_in_between() {
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(counting.clone());
    let mut sum = pin!(sum_politely((1..=1_000).collect()));
    let mut polls = 1;
    let sum = loop {
        match sum.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(sum) => break sum,
            Poll::Pending => assert_eq!(counting.0.load(SeqCst), polls, "it has to wake itself"),
        }
        polls += 1;
    };
    assert_eq!(sum, 500_500);
    assert!((10..=11).contains(&polls), "{polls} polls");

    let executor = Executor::default();
    let order = Rc::new(RefCell::new(Vec::new()));
    let (first, second) = (order.clone(), order.clone());
    executor.spawn(async move {
        sum_politely(vec![1; 1_000]).await;
        first.borrow_mut().push("the long task");
    });
    executor.spawn(async move { second.borrow_mut().push("the short task") });
    block_on(executor.run());
    assert_eq!(*order.borrow(), ["the short task", "the long task"]);
}
