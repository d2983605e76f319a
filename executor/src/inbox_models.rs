//! Models of the inbox. loom runs them in all interleavings of two or three threads.
//!
//! ```sh
//! RUSTFLAGS="--cfg windlass_loom" cargo test --release -p windlass-executor --lib
//! ```

use loom::sync::{Arc, Notify};
use loom::thread;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};

use super::{Inbox, Key};

/// The driver of the loop. If it waits for a wake that never comes, loom reports the deadlock.
struct Driver {
    notify: Notify,
    wakes: AtomicUsize,
}

impl Driver {
    fn new() -> (StdArc<Driver>, Waker) {
        let driver = StdArc::new(Driver {
            notify: Notify::new(),
            wakes: AtomicUsize::new(0),
        });
        (driver.clone(), Waker::from(driver))
    }

    fn wakes(&self) -> usize {
        self.wakes.load(SeqCst)
    }
}

impl Wake for Driver {
    fn wake(self: StdArc<Self>) {
        self.wakes.fetch_add(1, SeqCst);
        self.notify.notify();
    }
}

fn inbox() -> Arc<Inbox> {
    Arc::new(Inbox::new())
}

fn post(inbox: &Arc<Inbox>, index: u32, generation: u32) -> thread::JoinHandle<()> {
    let inbox = inbox.clone();
    thread::spawn(move || inbox.post(Key::new(0, generation, index)))
}

/// Drains the inbox. Returns the slots with their generations; without a generation, any task of
/// the slot is meant.
fn drain(inbox: &Inbox, waker: &Waker) -> Vec<(u32, Option<u32>)> {
    let mut posted = Vec::new();
    inbox.drain(waker.clone(), |index, generation| {
        posted.push((index, generation))
    });
    posted
}

/// The executor's thread, as `Executor::run` and `block_on` drive it. It checks the inbox before
/// and after each turn, and sleeps if the inbox is empty.
fn live_until(inbox: &Inbox, driver: &Driver, waker: &Waker, wanted: &[(u32, u32)]) {
    let mut got = drain(inbox, waker);
    let is_in = |got: &[_], &(index, generation): &(u32, u32)| {
        got.contains(&(index, Some(generation))) || got.contains(&(index, None))
    };
    while !wanted.iter().all(|key| is_in(&got, key)) {
        if !inbox.has_remote_wakes() {
            driver.notify.wait();
        }
        if inbox.has_remote_wakes() {
            got.extend(drain(inbox, waker));
        }
    }
}

/// Three threads have too many interleavings, so this tries those with at most three preemptions.
fn model_of_three(code: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(code);
}

fn join(others: [thread::JoinHandle<()>; 2]) {
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn a_wake_is_never_lost_to_a_loop_that_parks() {
    loom::model(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        let other = post(&inbox, 3, 0);
        live_until(&inbox, &driver, &waker, &[(3, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn a_wake_is_never_lost_to_a_loop_that_drains() {
    loom::model(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        let theirs = inbox.clone();
        let other = thread::spawn(move || {
            theirs.post(Key::new(0, 0, 1));
            theirs.post(Key::new(0, 0, 2));
        });
        live_until(&inbox, &driver, &waker, &[(1, 0), (2, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn of_two_wakes_at_once_none_is_lost() {
    model_of_three(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        let others = [post(&inbox, 1, 0), post(&inbox, 2, 0)];
        live_until(&inbox, &driver, &waker, &[(1, 0), (2, 0)]);
        join(others);
    });
}

#[test]
fn two_wakes_at_once_wake_a_parked_loop_once() {
    model_of_three(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        assert_eq!(drain(&inbox, &waker), []);
        let others = [post(&inbox, 1, 0), post(&inbox, 1, 0)];
        join(others);
        assert_eq!(driver.wakes(), 1);
        assert_eq!(drain(&inbox, &waker), [(1, Some(0))]);
        assert!(!inbox.has_remote_wakes());
    });
}

#[test]
fn a_wake_while_the_driver_changes_wakes_the_new_one() {
    loom::model(|| {
        let (inbox, (_, old)) = (inbox(), Driver::new());
        assert_eq!(drain(&inbox, &old), []);
        let other = post(&inbox, 1, 0);
        let (driver, new) = Driver::new();
        live_until(&inbox, &driver, &new, &[(1, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn a_wake_of_a_dropped_executor_never_reaches_the_next() {
    model_of_three(|| {
        let (inbox, (old_driver, old)) = (inbox(), Driver::new());
        assert_eq!(drain(&inbox, &old), []);
        let other = post(&inbox, 1, 0);

        drop(inbox.close(1));
        assert_eq!(inbox.try_open().unwrap(), 1);
        let (new_driver, new) = Driver::new();
        assert_eq!(drain(&inbox, &new), []);
        let fresh = post(&inbox, 2, 1); // the next one gets its own wakes
        live_until(&inbox, &new_driver, &new, &[(2, 1)]);

        other.join().unwrap();
        fresh.join().unwrap();
        assert!(old_driver.wakes() <= 1);
        assert!(new_driver.wakes() <= 1, "woken by the fresh wake alone");
        assert_eq!(drain(&inbox, &new), []);
        assert_eq!(StdArc::strong_count(&old_driver), 2, "test and `old`");
    });
}

#[test]
fn a_wake_never_reaches_a_closed_inbox() {
    loom::model(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        assert_eq!(drain(&inbox, &waker), []);
        let other = post(&inbox, 1, 0);
        drop(inbox.close(1));
        let wakes = driver.wakes();
        assert!(!inbox.has_remote_wakes());
        other.join().unwrap();
        assert!(!inbox.has_remote_wakes());
        // The waker may have been taken before the inbox was closed.
        assert!(driver.wakes() - wakes <= 1);
        inbox.post(Key::new(0, 0, 1));
        assert!(driver.wakes() - wakes <= 1);
        drop(waker);
        assert_eq!(StdArc::strong_count(&driver), 1, "the inbox has dropped it");
    });
}

#[test]
fn a_fresh_wake_is_not_lost_to_a_stale_one_of_the_same_slot() {
    model_of_three(|| {
        let (inbox, (driver, waker)) = (inbox(), Driver::new());
        let others = [post(&inbox, 1, 4), post(&inbox, 1, 5)];
        live_until(&inbox, &driver, &waker, &[(1, 5)]);
        join(others);
        let rest = drain(&inbox, &waker);
        assert!(rest.is_empty() || rest == [(1, Some(4))], "{rest:?}");
    });
}
