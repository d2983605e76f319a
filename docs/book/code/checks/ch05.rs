//! The tests of the exercises of chapter 5.

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use windlass_book::ch05::program::{block_on, line};

use super::{YieldOnce, both, poll_at_most};

/// A waker that counts its calls.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn exercise_1_it_yields_once_and_wakes() {
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(counting.clone());
    let mut future = pin!(YieldOnce::default());
    let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(poll(), Poll::Pending);
    assert_eq!(counting.0.load(SeqCst), 1);
    assert_eq!(poll(), Poll::Ready(()));
}

#[test]
fn exercise_2_both_wait_at_the_same_time() {
    let (first_sender, first) = line();
    let (second_sender, second) = line();
    // The second one is sent first.
    let sender = thread::spawn(move || {
        second_sender.send("2".to_owned());
        first_sender.send("1".to_owned());
    });
    let outputs = block_on(both(first, second));
    assert_eq!(outputs, ("1".to_owned(), "2".to_owned()));
    sender.join().unwrap();

    // A future that was ready is not polled again.
    let mut polls = 0;
    let once = poll_fn(|_| {
        polls += 1;
        assert_eq!(polls, 1, "polled after it was ready");
        Poll::Ready(1)
    });
    let later = async {
        YieldOnce::default().await;
        2
    };
    assert_eq!(block_on(both(once, later)), (1, 2));
}

#[test]
fn exercise_3_polls_are_limited() {
    assert_eq!(poll_at_most(1, ready(7)), Some(7));
    assert_eq!(poll_at_most(1_000, pending::<()>()), None);
    let mut polls = 0;
    let third = poll_fn(|_| {
        polls += 1;
        if polls == 3 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    assert_eq!(poll_at_most(3, third), Some(()));
}
