//! The behavior of broadcast channels.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use crate::common::*;
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt, select};
use windlass::sync::SendError;
use windlass::sync::broadcast::{self, Lagged, RecvError, TryRecvError};

#[test]
fn each_receiver_gets_each_value_in_order() {
    let (sender, mut first) = broadcast::channel(3);
    let mut second = sender.subscribe();
    for number in 1..=3 {
        assert_eq!(sender.send(number), Ok(2));
    }
    let mut late = sender.subscribe();
    for receiver in [&mut first, &mut second] {
        assert_eq!([(); 3].map(|()| receiver.try_recv().unwrap()), [1, 2, 3]);
    }
    assert_eq!(late.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_slow_receiver_learns_how_many_values_it_has_missed() {
    let (sender, mut slow) = broadcast::channel(2);
    let mut fast = sender.subscribe();
    for number in 0..5 {
        sender.send(number).unwrap();
        assert_eq!(fast.try_recv(), Ok(number));
    }
    assert_eq!((slow.len(), sender.len()), (5, 2));
    let lagged = slow.recv().now_or_never().unwrap().unwrap_err();
    assert_eq!(lagged, RecvError::Lagged(3));
    assert_eq!(
        lagged.to_string(),
        "the receiver was too slow and has missed 3 values"
    );
    assert_eq!(slow.recv().now_or_never(), Some(Ok(3)));
    assert_eq!(slow.recv().now_or_never(), Some(Ok(4)));
    assert!(sender.is_empty());
}

#[test]
fn a_stream_yields_the_lag_and_ends_once() {
    let (sender, mut receiver) = broadcast::channel(1);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!(receiver.next().now_or_never(), Some(Some(Err(Lagged(1)))));
    assert_eq!(receiver.next().now_or_never(), Some(Some(Ok(2))));
    assert!(!receiver.is_terminated());
    assert_eq!(receiver.next().now_or_never(), Some(None));
    assert!(receiver.is_terminated());
}

#[test]
fn a_select_returns_the_end_of_each_receiver_once() {
    let (sender, mut first) = broadcast::channel(1);
    let mut second = sender.subscribe();
    sender.send(1).unwrap();
    drop(sender);
    let mut got = Vec::new();
    let all = async {
        loop {
            select! {
                value = first.recv() => got.push(value),
                value = second.recv() => got.push(value),
                complete => break,
            }
        }
    };
    all.now_or_never().unwrap();
    got.sort_unstable_by_key(|value| value.is_err());
    let end = Err(RecvError::Closed);
    assert_eq!(got, [Ok(1), Ok(1), end, end]);
}

#[test]
fn the_last_receiver_gets_the_value_itself() {
    struct Counted(Rc<Cell<usize>>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.set(self.0.get() + 1);
            Counted(self.0.clone())
        }
    }
    let (sender, mut first) = broadcast::channel(1);
    let mut second = sender.subscribe();
    let clones = Rc::new(Cell::new(0));
    sender.send(Counted(clones.clone())).ok().unwrap();
    drop((first.try_recv().ok(), second.try_recv().ok()));
    assert_eq!((clones.get(), Rc::strong_count(&clones)), (1, 1));
}

#[test]
fn a_dropped_receiver_releases_the_values_that_only_it_lacks() {
    let (sender, mut first) = broadcast::channel(4);
    let second = sender.subscribe();
    let value = Rc::new(());
    for _ in 0..3 {
        sender.send(value.clone()).unwrap();
    }
    first.try_recv().unwrap();
    assert_eq!(sender.len(), 3);
    drop(second);
    assert_eq!((sender.len(), Rc::strong_count(&value)), (2, 3));
    drop(first);
    assert_eq!((sender.len(), Rc::strong_count(&value)), (0, 1));
    assert_eq!(sender.send(value.clone()), Err(SendError(value)));
}

#[test]
fn clones_and_drops_of_values_may_use_the_channel() {
    #[derive(Default)]
    struct Value {
        sender: Option<broadcast::Sender<Value>>,
    }
    impl Value {
        fn send(&self) {
            if let Some(sender) = &self.sender {
                drop(sender.send(Value::default()));
            }
        }
    }
    impl Clone for Value {
        fn clone(&self) -> Self {
            self.send();
            Value::default()
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            self.send();
        }
    }
    let (sender, mut first) = broadcast::channel(1);
    let second = sender.subscribe();
    let sending = || Value {
        sender: Some(sender.clone()),
    };
    assert!(sender.send(sending()).is_ok());
    // The clone displaces the value that is cloned, which sends again when it is dropped.
    assert!(first.try_recv().is_ok());
    assert_eq!((first.len(), second.len()), (2, 3));
    assert!(sender.send(sending()).is_ok());
    drop((first, second)); // drops the value, which finds no receiver
    assert!(sender.is_empty());
}

#[test]
fn only_waiting_receivers_are_woken() {
    let (sender, mut first) = broadcast::channel(2);
    let mut second = sender.subscribe();
    let [(a, first_waker), (b, second_waker)] = [Count::new(), Count::new()];
    let mut waiting = first.recv();
    assert!(poll_with(&mut waiting, &first_waker).is_pending());
    let mut dropped = second.recv();
    assert!(poll_with(&mut dropped, &second_waker).is_pending());
    drop(dropped);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!((a.take(), b.take()), (1, 0));
    assert_eq!(poll(&mut waiting), Poll::Ready(Ok(1)));
    assert_eq!(poll(&mut waiting), Poll::Ready(Ok(2)), "it may continue");
}

#[test]
fn a_value_sent_by_the_clone_of_a_waker_is_received() {
    let (sender, mut receiver) = broadcast::channel(1);
    let (hooks, waker) = hooked();
    hooks
        .on_clone
        .set(move || assert_eq!(sender.send(1), Ok(1)));
    assert_eq!(poll_with(&mut receiver.recv(), &waker), Poll::Ready(Ok(1)));
}

#[test]
fn a_capacity_of_zero_panics() {
    assert_eq!(
        panic_of(|| broadcast::channel::<()>(0)),
        "the capacity of a channel must be at least 1"
    );
}

#[test]
fn a_lagging_receiver_costs_no_memory() {
    let (sender, mut receiver) = broadcast::channel(4);
    let alive = Rc::new(RefCell::new(()));
    for _ in 0..1000 {
        sender.send(alive.clone()).unwrap();
    }
    assert_eq!(Rc::strong_count(&alive), 5);
    assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Lagged(996));
}
