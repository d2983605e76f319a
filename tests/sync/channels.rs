//! The behavior of channels.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use futures::future::{Either, select};
use futures::stream::{FusedStream, Stream, StreamExt};
use futures::{FutureExt, select};
use windlass::sync::{Closed, TryRecvError, TrySendError, mpsc, oneshot, watch};
use windlass_executor::{Executor, block_on, spawn, yield_now};

fn on_executor<T>(main: impl Future<Output = T>) -> T {
    block_on(Executor::new().run(main))
}

#[test]
fn senders_get_capacity_first_in_first_out() {
    let received = on_executor(async {
        let (sender, receiver) = mpsc::channel(1);
        for n in 0..5 {
            let sender = sender.clone();
            spawn(async move { sender.send(n).await }).detach();
        }
        drop(sender);
        receiver.collect::<Vec<_>>().await
    });
    assert_eq!(received, [0, 1, 2, 3, 4]);
}

#[test]
fn try_send_never_barges() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let mut second = Box::pin(sender.send(2));
    assert!(poll(&mut second).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(
        sender.try_send(3),
        Err(TrySendError::Full(3)),
        "the slot belongs to the second"
    );
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())));
    assert_eq!(receiver.try_recv(), Ok(2));
}

#[test]
fn a_closed_channel_returns_the_value() {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let mut waiting = Box::pin(sender.send(2));
    assert!(poll(&mut waiting).is_pending());
    drop(receiver);
    let Poll::Ready(Err(error)) = poll(&mut waiting) else {
        panic!("the sender was notified")
    };
    assert_eq!(
        (error.0, error.to_string().as_str()),
        (2, "the channel is closed")
    );
    assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
    assert_eq!(sender.try_send(3).unwrap_err().into_inner(), 3);
    assert!(sender.is_closed());
}

#[test]
fn a_closed_channel_delivers_its_values_and_ends() {
    let (sender, mut receiver) = mpsc::channel(3);
    sender.try_send(1).unwrap();
    let permit = sender.reserve().now_or_never().unwrap().unwrap();
    receiver.close();
    assert!(permit.send(2).is_err(), "the close cancels the permit");
    assert!(!receiver.is_terminated());
    assert_eq!(receiver.size_hint(), (1, Some(1)));
    assert_eq!(receiver.next().now_or_never(), Some(Some(1)));
    assert!(receiver.is_terminated());
    assert_eq!(receiver.next().now_or_never(), Some(None));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn the_last_sender_ends_the_channel_and_wakes_the_receiver() {
    let (sender, mut receiver) = mpsc::unbounded_channel::<()>();
    let (woken, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let other = sender.clone();
    assert!(receiver.poll_recv(&mut cx).is_pending());
    drop(sender);
    assert_eq!(woken.take(), 0);
    drop(other);
    assert_eq!(woken.take(), 1);
    assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(None));
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let (sender, mut receiver) = mpsc::channel(1);
    let [(first, a), (second, b)] = [Count::new(), Count::new()];
    assert!(
        receiver
            .poll_recv(&mut Context::from_waker(&a))
            .is_pending()
    );
    assert!(
        receiver
            .poll_recv(&mut Context::from_waker(&b))
            .is_pending()
    );
    sender.try_send(1).unwrap();
    assert_eq!((first.take(), second.take()), (0, 1));
}

#[test]
fn a_dropped_receiver_keeps_no_waker() {
    let (sender, mut receiver) = mpsc::channel::<()>(1);
    let (woken, waker) = Count::new();
    assert!(
        receiver
            .poll_recv(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop((receiver, waker));
    assert_eq!(std::sync::Arc::strong_count(&woken), 1);
    drop(sender);
}

#[test]
fn a_receiver_works_in_select() {
    let got = on_executor(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let (reply, mut answer) = oneshot::channel();
        spawn(async move {
            sender.send(1).await.unwrap();
            yield_now().await;
            reply.send(2).unwrap();
        })
        .detach();
        let mut got = Vec::new();
        let mut answered = (&mut answer).fuse();
        while got.len() < 2 {
            select! {
                value = receiver.select_next_some() => got.push(value),
                value = answered => got.push(value.unwrap()),
            }
        }
        got
    });
    assert_eq!(got, [1, 2]);
}

#[test]
fn a_capacity_of_zero_panics() {
    assert_eq!(
        panic_of(|| mpsc::channel::<()>(0)),
        "the capacity of a channel must be at least 1"
    );
}

#[test]
fn a_sent_reply_survives_close_and_the_sender() {
    let (sender, mut receiver) = oneshot::channel();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    sender.send(1).unwrap();
    receiver.close();
    assert_eq!(poll(&mut receiver), Poll::Ready(Ok(1)));
    assert_eq!(poll(&mut receiver), Poll::Ready(Err(Closed)));
}

#[test]
fn work_stops_when_the_receiver_is_gone() {
    on_executor(async {
        let (mut reply, answer) = oneshot::channel::<u8>();
        let worker = spawn(async move {
            let endless = pin!(std::future::pending::<u8>());
            let nobody_waits = pin!(reply.closed());
            matches!(select(endless, nobody_waits).await, Either::Right(_))
        });
        yield_now().await;
        drop(answer);
        assert!(worker.await);
    });
}

#[test]
fn receivers_see_the_newest_value_once() {
    let (sender, mut receiver) = watch::channel(0);
    assert!(!receiver.has_changed(), "the initial value counts as seen");
    let mut late = receiver.clone();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
    assert_eq!(*receiver.borrow(), 2);
    assert_eq!(receiver.changed().now_or_never(), None);
    drop(sender);
    assert_eq!(receiver.changed().now_or_never(), Some(Err(Closed)));
    assert_eq!(
        late.changed().now_or_never(),
        Some(Ok(())),
        "the last value is unseen"
    );
    assert_eq!(*late.borrow_and_update(), 2);
    assert_eq!(late.changed().now_or_never(), Some(Err(Closed)));
}

#[test]
fn send_without_receivers_returns_the_value() {
    let (sender, receiver) = watch::channel(0);
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.send(1).map_err(|error| error.0), Err(1));
    assert_eq!(sender.send_replace(2), 0);
    assert_eq!(*sender.subscribe().borrow(), 2);
}

#[test]
fn sending_while_the_value_is_borrowed_panics() {
    let (sender, receiver) = watch::channel(0);
    let value = receiver.borrow();
    let expected = "the value of the channel is borrowed: drop the `Ref` before sending";
    assert_eq!(panic_of(|| sender.send(1)), expected);
    assert_eq!(
        panic_of(|| sender.send_modify(|value| *value += 1)),
        expected
    );
    drop(value);
    assert_eq!(
        panic_of(|| sender.send_modify(|_| panic!("meant"))),
        "meant"
    );
    assert!(!receiver.has_changed());
    sender.send(1).unwrap(); // after the borrow has ended
}

#[test]
fn polling_after_completion_panics() {
    let (sender, _receiver) = mpsc::channel(1);
    let sender = Rc::new(sender);
    let mut send = Box::pin(sender.send(1));
    assert!(poll_with(&mut send, Waker::noop()).is_ready());
    assert!(panic_of(|| poll(&mut send)).contains("after completion"));
}
