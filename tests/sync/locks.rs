//! The behavior of locks and events.

use std::rc::Rc;
use std::task::Poll;

use crate::common::*;
use futures::FutureExt;
use windlass::sync::{Closed, Event, Mutex, Semaphore, TryAcquireError};
use windlass_executor::{Executor, block_on, spawn, yield_now};

#[test]
fn waiters_for_many_permits_are_never_overtaken() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.try_acquire(1).unwrap();
    let (mut much, mut little) = (semaphore.acquire(2), semaphore.acquire(1));
    assert!(poll(&mut much).is_pending());
    assert!(poll(&mut little).is_pending());
    let overtaking = semaphore.try_acquire(1).map(drop);
    assert_eq!(overtaking, Err(TryAcquireError::NoPermits));
    drop(held);
    let Poll::Ready(Ok(both)) = poll(&mut much) else {
        panic!("the first waiter is served")
    };
    assert!(poll(&mut little).is_pending());
    drop(both);
    assert!(poll(&mut little).is_ready());
}

#[test]
fn waiters_behind_a_dropped_one_are_served() {
    let semaphore = Semaphore::new(1);
    let (mut much, mut little) = (semaphore.acquire(2), semaphore.acquire(1));
    let (woken, waker) = Count::new();
    assert!(poll(&mut much).is_pending());
    assert!(poll_with(&mut little, &waker).is_pending());
    drop(much);
    assert_eq!(woken.take(), 1);
    assert!(poll(&mut little).is_ready());
}

#[test]
fn one_returned_permit_may_serve_several_waiters() {
    let semaphore = Semaphore::new(3);
    let all = semaphore.try_acquire(3).unwrap();
    let mut waiting = [1, 2, 1].map(|permits| semaphore.acquire(permits));
    let bells = [(); 3].map(|()| Count::new());
    for (acquire, (_, waker)) in waiting.iter_mut().zip(&bells) {
        assert!(poll_with(acquire, waker).is_pending());
    }
    drop(all);
    assert_eq!(bells.each_ref().map(|(woken, _)| woken.take()), [1, 1, 0]);
}

#[test]
fn a_closed_semaphore_refuses_and_still_takes_permits_back() {
    let semaphore = Semaphore::new(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut waiting = semaphore.acquire(1);
    assert!(poll(&mut waiting).is_pending());
    semaphore.close();
    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(Closed))));
    drop(held);
    assert_eq!(semaphore.available_permits(), 1);
    let refused = semaphore.try_acquire(1).map(drop);
    assert_eq!(refused, Err(TryAcquireError::Closed));
}

#[test]
fn adding_too_many_permits_panics() {
    let semaphore = Semaphore::new(usize::MAX);
    let expected = "a semaphore holds at most `usize::MAX` permits";
    assert_eq!(panic_of(|| semaphore.add_permits(1)), expected);
    assert_eq!(semaphore.available_permits(), usize::MAX);
}

#[test]
fn polling_an_acquire_after_completion_panics() {
    let semaphore = Semaphore::new(2);
    let mut acquire = semaphore.acquire(1);
    assert!(poll(&mut acquire).is_ready());
    assert_eq!(panic_of(|| poll(&mut acquire)), "polled after completion");
}

#[test]
fn a_lock_is_handed_over_directly_and_in_order() {
    let (executor, trace) = (Executor::new(), Trace::new());
    let mutex = Rc::new(Mutex::new(()));
    let tasks = ["a", "b", "c"].map(|name| {
        let (mutex, trace) = (mutex.clone(), trace.clone());
        executor.spawn(async move {
            for _ in 0..2 {
                let guard = mutex.lock().await;
                trace.push(name);
                yield_now().await;
                drop(guard);
            }
        })
    });
    block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    trace.is(&["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn a_panic_unlocks_and_keeps_the_value() {
    let mutex = Rc::new(Mutex::new(vec![1]));
    let theirs = mutex.clone();
    block_on(Executor::new().run(async move {
        let task = spawn(async move {
            let mut guard = theirs.lock().await;
            guard.push(2);
            panic!("meant");
        });
        assert!(task.catch().await.is_err());
    }));
    assert_eq!(*mutex.try_lock().expect("it is unlocked"), [1, 2]);
}

#[test]
fn a_mutex_may_hold_an_unsized_value() {
    let mut mutex: Box<Mutex<[u8]>> = Box::new(Mutex::new([1, 2]));
    mutex.get_mut()[0] = 3;
    assert_eq!(*mutex.try_lock().unwrap(), [3, 2]);
    assert_eq!(format!("{mutex:?}"), "Mutex { locked: false, .. }");
    assert_eq!(Mutex::new(7).into_inner(), 7);
    assert_eq!(*Mutex::<u8>::default().lock().now_or_never().unwrap(), 0);
}

#[test]
fn a_notification_without_a_listener_is_lost() {
    let event = Event::new();
    event.notify_one();
    event.notify_all();
    assert!(event.listen().now_or_never().is_none());
}

#[test]
fn a_listener_counts_notifications_from_its_creation() {
    let event = Event::new();
    let (first, second) = (event.listen(), event.listen());
    event.notify_one();
    assert!(first.now_or_never().is_some());
    assert!(second.now_or_never().is_none());
}

#[test]
fn a_dropped_listener_passes_its_notification_on() {
    let event = Event::new();
    let (first, mut second, mut third) = (event.listen(), event.listen(), event.listen());
    event.notify_one();
    drop(first);
    assert!(poll(&mut second).is_ready());
    assert!(poll(&mut third).is_pending());
}

#[test]
fn a_dropped_listener_keeps_a_notification_for_all() {
    let event = Event::new();
    let first = event.listen();
    event.notify_all();
    let mut later = event.listen();
    drop(first);
    assert!(poll(&mut later).is_pending());
}

#[test]
fn returned_permits_saturate() {
    let semaphore = Semaphore::new(usize::MAX);
    let permit = semaphore.try_acquire(2).unwrap();
    semaphore.add_permits(1);
    drop(permit);
    assert_eq!(semaphore.available_permits(), usize::MAX);
}
