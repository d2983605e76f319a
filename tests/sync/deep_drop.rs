//! Long chains of tasks that own each other through channels and locks drop on a small stack.

use std::future::pending;
use std::rc::Rc;

use windlass::sync::{Mutex, Semaphore, mpsc, oneshot, watch};

use crate::common::hold;
use crate::deep::{LENGTH, chain, on_a_small_stack};

#[test]
fn dropping_tasks_in_channels_of_tasks_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = chain(&executor, |rest| {
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(rest).expect("it is open");
            hold((receiver, sender, count.guard()))
        });
        drop(first);
        count.is(LENGTH);

        let first = chain(&executor, |rest| {
            let (sender, receiver) = oneshot::channel();
            assert!(sender.send(rest).is_ok());
            hold((receiver, count.guard()))
        });
        drop(first);
        count.is(LENGTH);

        let first = chain(&executor, |rest| {
            let (sender, receiver) = watch::channel(rest);
            hold((receiver, sender, count.guard()))
        });
        drop(first);
        count.is(LENGTH);

        // Dropping the channel first.
        let first = chain(&executor, |rest| {
            let (sender, receiver) = mpsc::channel(1);
            assert!(sender.try_send(rest).is_ok());
            hold((receiver, sender, count.guard()))
        });
        let (sender, receiver) = mpsc::channel(1);
        assert!(sender.try_send(first).is_ok());
        drop(receiver);
        count.is(LENGTH);
    });
}

#[test]
fn dropping_tasks_in_locks_takes_little_stack() {
    on_a_small_stack(|executor, count| {
        let first = chain(&executor, |rest| {
            let mutex = Rc::new(Mutex::new(rest));
            hold((mutex.clone(), mutex, count.guard()))
        });
        drop(first);
        count.is(LENGTH);

        let first = chain(&executor, |rest| {
            let permit = Rc::new(Semaphore::new(1)).acquire_owned(1);
            let guard = count.guard();
            async move {
                let _held = (permit.await, rest, guard);
                pending::<()>().await
            }
        });
        drop(first);
        count.is(LENGTH);
    });
}
