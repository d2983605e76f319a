//! Models of the inbox, in which loom tries all orders that two or three threads can take.
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

/// Who drives the loop. To wait for a ring that never comes is a deadlock, which loom reports.
struct Bell {
    notify: Notify,
    rings: AtomicUsize,
}

impl Bell {
    fn new() -> (StdArc<Bell>, Waker) {
        let bell = StdArc::new(Bell {
            notify: Notify::new(),
            rings: AtomicUsize::new(0),
        });
        (bell.clone(), Waker::from(bell))
    }

    fn rings(&self) -> usize {
        self.rings.load(SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: StdArc<Self>) {
        self.rings.fetch_add(1, SeqCst);
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

/// What a collection brings: slots with their generations, or without if any is meant.
fn collect(inbox: &Inbox, waker: &Waker) -> Vec<(u32, Option<u32>)> {
    let mut mail = Vec::new();
    inbox.drain(waker.clone(), |index, generation| {
        mail.push((index, generation))
    });
    mail
}

/// The home thread, as `Executor::run` and `block_on` make it: it looks for mail before each round
/// and after it, and sleeps if there is none.
fn live_until(inbox: &Inbox, bell: &Bell, waker: &Waker, wanted: &[(u32, u32)]) {
    let mut got = collect(inbox, waker);
    let is_in = |got: &[_], &(index, generation): &(u32, u32)| {
        got.contains(&(index, Some(generation))) || got.contains(&(index, None))
    };
    while !wanted.iter().all(|key| is_in(&got, key)) {
        if !inbox.has_remote_wakes() {
            bell.notify.wait();
        }
        if inbox.has_remote_wakes() {
            got.extend(collect(inbox, waker));
        }
    }
}

/// Three threads have too many orders to try all: these are those in which at most three times a
/// thread is interrupted where it could go on.
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
fn a_wake_is_never_lost_to_a_loop_that_goes_to_rest() {
    loom::model(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        let other = post(&inbox, 3, 0);
        live_until(&inbox, &bell, &waker, &[(3, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn a_wake_is_never_lost_to_a_loop_that_collects() {
    loom::model(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        let theirs = inbox.clone();
        let other = thread::spawn(move || {
            theirs.post(Key::new(0, 0, 1));
            theirs.post(Key::new(0, 0, 2));
        });
        live_until(&inbox, &bell, &waker, &[(1, 0), (2, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn of_two_wakes_at_once_none_is_lost() {
    model_of_three(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        let others = [post(&inbox, 1, 0), post(&inbox, 2, 0)];
        live_until(&inbox, &bell, &waker, &[(1, 0), (2, 0)]);
        join(others);
    });
}

#[test]
fn two_wakes_at_once_wake_a_resting_loop_once() {
    model_of_three(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        assert_eq!(collect(&inbox, &waker), []);
        let others = [post(&inbox, 1, 0), post(&inbox, 1, 0)];
        join(others);
        assert_eq!(bell.rings(), 1);
        assert_eq!(collect(&inbox, &waker), [(1, Some(0))]);
        assert!(!inbox.has_remote_wakes());
    });
}

#[test]
fn a_wake_while_the_driver_changes_wakes_the_new_one_unless_it_has_the_mail() {
    loom::model(|| {
        let (inbox, (_, old)) = (inbox(), Bell::new());
        assert_eq!(collect(&inbox, &old), []);
        let other = post(&inbox, 1, 0);
        let (bell, new) = Bell::new();
        live_until(&inbox, &bell, &new, &[(1, 0)]);
        other.join().unwrap();
    });
}

#[test]
fn a_wake_while_the_executor_is_dropped_never_reaches_the_next_one_with_its_id() {
    model_of_three(|| {
        let (inbox, (old_bell, old)) = (inbox(), Bell::new());
        assert_eq!(collect(&inbox, &old), []);
        let other = post(&inbox, 1, 0);

        drop(inbox.close(1));
        assert_eq!(inbox.try_open().unwrap(), 1);
        let (new_bell, new) = Bell::new();
        assert_eq!(collect(&inbox, &new), []);
        let fresh = post(&inbox, 2, 1); // the next one is not deaf
        live_until(&inbox, &new_bell, &new, &[(2, 1)]);

        other.join().unwrap();
        fresh.join().unwrap();
        assert!(old_bell.rings() <= 1);
        assert!(new_bell.rings() <= 1, "rung by the fresh wake alone");
        assert_eq!(collect(&inbox, &new), []);
        assert_eq!(StdArc::strong_count(&old_bell), 2, "ours, and `old`");
    });
}

#[test]
fn a_wake_never_reaches_a_closed_inbox() {
    loom::model(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        assert_eq!(collect(&inbox, &waker), []);
        let other = post(&inbox, 1, 0);
        drop(inbox.close(1));
        let rings = bell.rings();
        assert!(!inbox.has_remote_wakes());
        other.join().unwrap();
        assert!(!inbox.has_remote_wakes());
        // Taken before the inbox was closed, it may still be on its way; else it never comes.
        assert!(bell.rings() - rings <= 1);
        inbox.post(Key::new(0, 0, 1));
        assert!(bell.rings() - rings <= 1);
        drop(waker);
        assert_eq!(StdArc::strong_count(&bell), 1, "the inbox has let go of it");
    });
}

#[test]
fn a_fresh_wake_is_not_lost_to_a_stale_one_of_the_same_slot() {
    model_of_three(|| {
        let (inbox, (bell, waker)) = (inbox(), Bell::new());
        let others = [post(&inbox, 1, 4), post(&inbox, 1, 5)];
        live_until(&inbox, &bell, &waker, &[(1, 5)]);
        join(others);
        let rest = collect(&inbox, &waker);
        assert!(rest.is_empty() || rest == [(1, Some(4))], "{rest:?}");
    });
}
