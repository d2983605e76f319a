//! The tests of the exercises of chapter 11.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use futures::FutureExt;
use windlass::{block_on, spawn, yield_now};

use super::{Counter, call_all, sum_of_squares};

/// Waits until three calls are here at the same time, for at most five seconds.
fn meet(number: i64) -> i64 {
    static CALLS: Mutex<usize> = Mutex::new(0);
    static COMPLETE: Condvar = Condvar::new();
    let mut calls = CALLS.lock().unwrap();
    *calls += 1;
    COMPLETE.notify_all();
    let limit = Duration::from_secs(5);
    let (_calls, waited) = COMPLETE
        .wait_timeout_while(calls, limit, |calls| *calls < 3)
        .unwrap();
    if waited.timed_out() { -1 } else { 10 * number }
}

#[test]
fn exercise_1_the_calls_run_at_the_same_time() {
    assert_eq!(block_on(call_all(vec![3, 1, 2], meet)), [30, 10, 20]);
}

#[test]
fn exercise_2_others_run_during_the_computation() {
    block_on(async {
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        let other = spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                yield_now().await;
            }
        });
        let sum = spawn(async { sum_of_squares(100_000).await });
        assert_eq!(sum.await, 333_338_333_350_000);
        assert!(turns.get() >= 90, "others had {} turns", turns.get());
        drop(other);
    });
}

#[test]
fn exercise_3_too_many_calls_are_refused() {
    block_on(async {
        let counter = Counter::new(2);
        {
            let mut first = Box::pin(counter.run(pending::<()>()));
            let mut second = Box::pin(counter.run(pending::<()>()));
            assert!(first.as_mut().now_or_never().is_none());
            assert!(second.as_mut().now_or_never().is_none());
            assert_eq!(counter.run(async { 5 }).await, None);
        }
        // The two were dropped in the middle.
        assert_eq!(counter.run(async { 5 }).await, Some(5));
        assert_eq!(counter.run(async { 6 }).await, Some(6));
    });
}
