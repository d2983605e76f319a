//! The behavior of locks and events.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use crate::common::*;
use futures::FutureExt;
use futures::future::FusedFuture;
use windlass::sync::{Closed, Event, Mutex, OnceCell, Semaphore, TryAcquireError};
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

#[test]
fn permits_are_split_merged_and_forgotten() {
    let semaphore = Rc::new(Semaphore::new(5));
    let mut permit = semaphore.clone().try_acquire_owned(4).unwrap();
    let one = permit.split(1).unwrap();
    assert!(permit.split(4).is_none());
    assert_eq!((permit.num_permits(), one.num_permits()), (3, 1));
    permit.split(1).unwrap().forget();
    drop(one);
    assert_eq!(semaphore.available_permits(), 2);
    permit.merge(semaphore.clone().try_acquire_owned(2).unwrap());
    assert_eq!(permit.num_permits(), 4);
    drop(permit);
    assert_eq!(
        (semaphore.available_permits(), Rc::strong_count(&semaphore)),
        (4, 1)
    );

    let other = Semaphore::new(1);
    let mut foreign = other.try_acquire(1).unwrap();
    let merged = || foreign.merge(semaphore.try_acquire(1).unwrap());
    let expected = "only permits of the same semaphore can be merged";
    assert_eq!(panic_of(merged), expected);
    assert_eq!(semaphore.available_permits(), 4, "the panic returns them");
}

#[test]
fn forgotten_permits_leave_the_waiters_in_their_order() {
    let semaphore = Semaphore::new(2);
    let mut waiting = semaphore.acquire(3);
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(semaphore.forget_permits(5), 2);
    semaphore.add_permits(2);
    assert!(semaphore.try_acquire(1).is_err());
    assert!(poll(&mut waiting).is_pending());
    semaphore.add_permits(1);
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(_))));
    assert!(waiting.is_terminated());
}

#[test]
fn an_owned_guard_and_a_borrowed_one_exclude_each_other() {
    let mutex = Rc::new(Mutex::new(vec![1]));
    let mut owned = mutex.clone().try_lock_owned().unwrap();
    assert!(mutex.try_lock().is_none() && mutex.clone().try_lock_owned().is_none());
    let mut borrowed = mutex.lock();
    let mut later = Box::pin(mutex.clone().lock_owned());
    assert!(poll(&mut borrowed).is_pending() && poll(&mut later).is_pending());
    owned.push(2);
    assert_eq!(format!("{owned:?}"), "[1, 2]");
    drop(owned);
    assert!(
        mutex.clone().try_lock_owned().is_none(),
        "it was handed over"
    );
    assert!(poll(&mut later).is_pending());
    let Poll::Ready(mut guard) = poll(&mut borrowed) else {
        panic!("the first waiter has the lock")
    };
    guard.push(3);
    drop(guard);
    let Poll::Ready(guard) = poll(&mut later) else {
        panic!("the next waiter has the lock")
    };
    assert!(later.is_terminated() && borrowed.is_terminated());
    assert_eq!(*guard, [1, 2, 3]);
    drop((guard, later, borrowed));
    assert_eq!(Rc::into_inner(mutex).unwrap().into_inner(), [1, 2, 3]);
}

#[test]
fn an_owned_guard_may_be_of_a_type_without_a_size() {
    let mutex: Rc<Mutex<[u8]>> = Rc::new(Mutex::new([1, 2]));
    mutex.clone().try_lock_owned().unwrap()[1] = 3;
    assert_eq!(*mutex.try_lock().unwrap(), [1, 3]);
}

#[test]
fn a_failed_computation_leaves_the_cell_to_the_next_task() {
    let cell = OnceCell::new();
    let calls = Cell::new(0);
    let compute = async |result: Result<u8, &'static str>| {
        calls.set(calls.get() + 1);
        yield_now().await;
        result
    };
    let mut failing = Box::pin(cell.get_or_try_init(async || compute(Err("a leak")).await));
    let mut waiting = Box::pin(cell.get_or_try_init(async || compute(Ok(1)).await));
    let mut last = Box::pin(cell.get_or_init(async || compute(Ok(2)).await.unwrap()));
    assert!(poll(&mut failing).is_pending());
    assert!(poll(&mut waiting).is_pending() && poll(&mut last).is_pending());
    assert_eq!(calls.get(), 1);
    assert_eq!(cell.set(9), Err(9));
    assert_eq!(poll(&mut failing), Poll::Ready(Err("a leak")));
    assert_eq!(cell.set(9), Err(9), "the next task computes it");
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(poll(&mut waiting), Poll::Ready(Ok(&1)));
    assert_eq!(poll(&mut last), Poll::Ready(&1));
    assert_eq!((calls.get(), cell.get()), (2, Some(&1)));
    drop((failing, waiting, last));
    assert_eq!(cell.into_inner(), Some(1));
}

#[test]
fn a_panicking_computation_leaves_the_cell_empty() {
    let mut cell = OnceCell::<u8>::new();
    let compute = async || panic!("meant");
    assert_eq!(
        panic_of(|| cell.get_or_init(compute).now_or_never()),
        "meant"
    );
    assert_eq!(cell.set(1), Ok(()));
    *cell.get_mut().unwrap() += 1;
    assert_eq!((cell.take(), cell.get()), (Some(2), None));
    assert_eq!(OnceCell::from(3).get(), Some(&3));
}
