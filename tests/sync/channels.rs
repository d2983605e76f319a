//! The behavior of channels.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::common::*;
use futures::future::FusedFuture;
use futures::future::{Either, select};
use futures::stream::{FusedStream, Stream, StreamExt};
use futures::{FutureExt, select};
use windlass::sync::{Closed, TryRecvError, TrySendError, broadcast, mpsc, oneshot, watch};
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
    assert!(
        !receiver.is_terminated(),
        "`select!` must return the `None`"
    );
    assert_eq!(receiver.next().now_or_never(), Some(None));
    assert!(receiver.is_terminated());
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
        while got.len() < 2 {
            select! {
                value = receiver.select_next_some() => got.push(value),
                value = answer => got.push(value.unwrap()),
            }
        }
        got
    });
    assert_eq!(got, [1, 2]);
}

#[test]
fn a_select_returns_the_end_of_a_receiver_once() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    drop(sender);
    let mut got = Vec::new();
    let all = async {
        loop {
            select! {
                value = receiver.recv() => got.push(value),
                complete => break,
            }
        }
    };
    all.now_or_never().unwrap();
    assert_eq!(got, [Some(1), None]);
}

#[test]
fn reserved_capacity_for_several_values_is_used_one_by_one() {
    let (sender, mut receiver) = mpsc::channel(3);
    let mut permits = sender.try_reserve_many(3).unwrap();
    assert_eq!((permits.len(), sender.capacity()), (3, 0));
    permits.next().unwrap().send(1).unwrap();
    let mut waiting = Box::pin(sender.reserve_many(2));
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
    drop(permits);
    let Poll::Ready(Ok(permits)) = poll(&mut waiting) else {
        panic!("two permits were returned")
    };
    assert!(waiting.is_terminated());
    permits.for_each(|permit| permit.send(2).unwrap());
    let mut got = Vec::new();
    assert_eq!(receiver.recv_many(&mut got, 9).now_or_never(), Some(3));
    assert_eq!(got, [1, 2, 2]);
    assert_eq!(sender.capacity(), 3);
}

#[test]
fn more_capacity_than_there_is_cannot_be_reserved() {
    let (sender, _receiver) = mpsc::channel::<()>(3);
    let expected = "cannot reserve more than the capacity of the channel";
    assert_eq!(panic_of(|| drop(sender.reserve_many(4))), expected);
    let full = sender.try_reserve_many(4).err();
    assert_eq!(full, Some(TrySendError::Full(())));
    assert_eq!(sender.try_reserve_many(0).unwrap().count(), 0);
}

#[test]
fn an_owned_permit_is_a_sender() {
    let (sender, mut receiver) = mpsc::channel(1);
    let permit = sender.try_reserve_owned().unwrap();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    let sender = permit.send(1).unwrap();
    let mut waiting = Box::pin(sender.clone().reserve_owned());
    assert!(poll(&mut waiting).is_pending());
    let Err(TrySendError::Full(sender)) = sender.try_reserve_owned() else {
        panic!("the channel is full")
    };
    assert_eq!(receiver.try_recv(), Ok(1));
    let Poll::Ready(Ok(permit)) = poll(&mut waiting) else {
        panic!("the capacity was handed over")
    };
    assert_eq!(sender.capacity(), 0);
    let other = permit.release();
    assert!(sender.capacity() == 1 && sender.same_channel(&other));
    drop((sender, waiting));
    receiver.close();
    assert!(matches!(
        other.try_reserve_owned(),
        Err(TrySendError::Closed(_))
    ));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn a_weak_sender_is_no_sender() {
    let (sender, mut receiver) = mpsc::channel(1);
    let weak = sender.downgrade();
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut receiver.recv(), &waker).is_pending());
    weak.upgrade().unwrap().try_send(1).unwrap();
    assert_eq!((woken.take(), receiver.try_recv()), (1, Ok(1)));
    assert!(poll_with(&mut receiver.recv(), &waker).is_pending());
    drop(sender);
    assert_eq!(woken.take(), 1);
    assert!(receiver.is_closed() && weak.upgrade().is_none());
    assert_eq!(receiver.recv().now_or_never(), Some(None));

    let (sender, receiver) = mpsc::unbounded_channel();
    let weak = sender.downgrade();
    weak.upgrade().unwrap().send(1).unwrap();
    drop(sender);
    assert!(weak.clone().upgrade().is_none());
    assert_eq!((receiver.len(), receiver.is_closed()), (1, true));
}

#[test]
fn recv_many_takes_at_most_the_limit_and_ends() {
    let (sender, mut receiver) = mpsc::channel(4);
    let mut got = vec![0];
    assert_eq!(receiver.recv_many(&mut got, 0).now_or_never(), Some(0));
    let (woken, waker) = Count::new();
    let mut waiting = Box::pin(receiver.recv_many(&mut got, 3));
    assert!(poll_with(&mut waiting, &waker).is_pending());
    (1..=4).for_each(|n| sender.try_send(n).unwrap());
    assert_eq!(woken.take(), 1);
    assert_eq!(poll(&mut waiting), Poll::Ready(3));
    drop(waiting);
    assert_eq!((got.clone(), sender.capacity()), (vec![0, 1, 2, 3], 3));
    assert!(!receiver.is_terminated());
    drop(sender);
    assert_eq!(receiver.recv_many(&mut got, 3).now_or_never(), Some(1));
    assert_eq!(receiver.recv_many(&mut got, 3).now_or_never(), Some(0));
    assert!(receiver.is_terminated());
}

#[test]
fn the_capacity_is_the_one_of_the_channel() {
    let (sender, receiver) = mpsc::channel(2);
    sender.try_send(1).unwrap();
    assert_eq!((sender.capacity(), sender.max_capacity()), (1, 2));
    let of_receiver = (receiver.capacity(), receiver.max_capacity());
    assert_eq!(of_receiver, (Some(1), Some(2)));
    let (_sender, receiver) = mpsc::unbounded_channel::<()>();
    assert_eq!((receiver.capacity(), receiver.max_capacity()), (None, None));
}

#[test]
fn each_kind_of_sender_waits_for_the_end_of_its_receivers() {
    let [(bounded, a), (unbounded, b), (watched, c), (all, d)] = [(); 4].map(|()| Count::new());
    let (one, first) = mpsc::channel::<()>(1);
    let (two, mut second) = mpsc::unbounded_channel::<()>();
    let (three, third) = watch::channel(());
    let (four, fourth) = broadcast::channel::<()>(1);
    let mut closed = (
        Box::pin(one.closed()),
        Box::pin(two.closed()),
        Box::pin(three.closed()),
        Box::pin(four.closed()),
    );
    assert!(poll_with(&mut closed.0, &a).is_pending());
    assert!(poll_with(&mut closed.1, &b).is_pending());
    assert!(poll_with(&mut closed.2, &c).is_pending());
    assert!(poll_with(&mut closed.3, &d).is_pending());
    let others = (third.clone(), fourth.resubscribe());
    drop((first, third, fourth));
    second.close();
    let woken = || [&bounded, &unbounded, &watched, &all].map(|count| count.take());
    assert_eq!(woken(), [1, 1, 0, 0], "other receivers exist");
    drop(others);
    assert_eq!(woken(), [0, 0, 1, 1]);
    assert!(poll(&mut closed.0).is_ready() && poll(&mut closed.1).is_ready());
    assert!(poll(&mut closed.2).is_ready() && poll(&mut closed.3).is_ready());
    assert!(closed.0.is_terminated() && one.closed().now_or_never().is_some());
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
fn a_reply_is_terminated_once_it_was_returned() {
    let (sender, mut receiver) = oneshot::channel();
    assert!(receiver.is_empty() && !receiver.is_terminated());
    sender.send(1).unwrap();
    assert!(!receiver.is_empty() && !receiver.is_terminated());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(receiver.is_empty() && receiver.is_terminated());

    let (sender, mut receiver) = oneshot::channel::<()>();
    drop(sender);
    assert!(!receiver.is_terminated(), "`select!` must return the error");
    assert_eq!(poll(&mut receiver), Poll::Ready(Err(Closed)));
    assert!(receiver.is_terminated());
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
    let changed = receiver.has_changed();
    assert_eq!(changed, Ok(false), "the initial value counts as seen");
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
fn a_condition_is_met_by_the_present_or_a_later_value() {
    let (sender, mut receiver) = watch::channel(1);
    let met = receiver.wait_for(|value| *value == 1).now_or_never();
    assert_eq!(*met.unwrap().unwrap(), 1);
    let (woken, waker) = Count::new();
    let mut waiting = Box::pin(receiver.wait_for(|value| *value >= 3));
    assert!(poll_with(&mut waiting, &waker).is_pending());
    sender.send(2).unwrap();
    assert_eq!(woken.take(), 1);
    assert!(poll_with(&mut waiting, &waker).is_pending());
    sender.send(3).unwrap();
    drop(sender);
    assert_eq!(woken.take(), 1);
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(value)) if *value == 3));
    drop(waiting);
    assert_eq!(receiver.has_changed(), Err(Closed));
    let failed = receiver.wait_for(|value| *value > 3).now_or_never();
    assert_eq!(failed.unwrap().err(), Some(Closed));
}

#[test]
fn a_condition_may_end_the_channel_that_it_waits_for() {
    let (sender, mut receiver) = watch::channel(1);
    let mut sender = Some(sender);
    let waiting = receiver.wait_for(|_| {
        sender.take();
        false
    });
    assert_eq!(waiting.now_or_never().unwrap().err(), Some(Closed));
}

#[test]
fn a_marked_value_counts_as_unseen() {
    let (sender, mut receiver) = watch::channel(0);
    receiver.mark_changed();
    assert_eq!(receiver.has_changed(), Ok(true));
    assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
    receiver.mark_changed();
    receiver.mark_unchanged();
    assert_eq!(receiver.changed().now_or_never(), None);
    receiver.mark_changed();
    drop(sender);
    assert!(receiver.is_closed());
    assert_eq!(receiver.has_changed(), Ok(true));
    receiver.borrow_and_update();
    assert_eq!(receiver.has_changed(), Err(Closed));
}

#[test]
fn an_unmodified_value_notifies_no_receiver() {
    let (sender, mut receiver) = watch::channel(0);
    let (woken, waker) = Count::new();
    let mut changed = Box::pin(receiver.changed());
    assert!(poll_with(&mut changed, &waker).is_pending());
    assert!(!sender.send_if_modified(|_| false));
    assert_eq!(woken.take(), 0);
    assert!(sender.send_if_modified(|value| {
        *value += 1;
        true
    }));
    assert_eq!(woken.take(), 1);
    assert_eq!(poll(&mut changed), Poll::Ready(Ok(())));
    assert_eq!(sender.receiver_count(), 1);
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
    assert_eq!(receiver.has_changed(), Ok(false));
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
