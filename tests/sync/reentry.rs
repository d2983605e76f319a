//! Destructors of values and functions of wakers that use the channel or lock which calls them, and
//! wakers that panic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use crate::common::*;
use windlass::sync::{Closed, Event, Mutex, Semaphore, mpsc, oneshot, watch};

/// A value that sends to a channel of its own type when it is dropped.
fn words(then: impl FnOnce() + 'static) -> OnDrop<Box<dyn FnOnce()>> {
    on_drop(Box::new(then))
}

#[test]
fn a_value_dropped_with_the_receiver_cannot_send() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let refused = flag();
    let (again, traced) = (sender.clone(), refused.clone());
    let last_words = move || traced.set(again.send(words(|| ())).is_err());
    assert!(sender.send(words(last_words)).is_ok());
    drop(receiver);
    assert!(refused.get() && sender.is_closed());
}

#[test]
fn a_value_dropped_with_a_receiver_may_use_the_channel() {
    let (sender, receiver) = mpsc::channel(1);
    let closed = flag();
    let (full, traced) = (sender.clone(), closed.clone());
    let last_words = move || {
        traced.set(full.is_closed());
        drop(full); // drops the last handle of the channel
    };
    assert!(sender.try_send(words(last_words)).is_ok());
    drop(sender);
    drop(receiver);
    assert!(closed.get());
}

#[test]
fn a_replaced_watch_value_may_send() {
    struct Last(Option<Rc<watch::Sender<Last>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                assert!(sender.send(Last(None)).is_ok());
            }
        }
    }

    let (sender, receiver) = watch::channel(Last(None));
    let sender = Rc::new(sender);
    assert!(sender.send(Last(Some(sender.clone()))).is_ok());
    assert!(sender.send(Last(None)).is_ok()); // drops the previous value, which sends
    assert!(receiver.borrow().0.is_none());
}

#[test]
fn a_dropped_reply_may_use_its_channel() {
    let (sender, receiver) = oneshot::channel();
    let (other, mut answer) = oneshot::channel();
    assert!(sender.send(on_drop(move || other.send(1).unwrap())).is_ok());
    drop(receiver);
    assert_eq!(answer.try_recv(), Ok(1));
}

#[test]
fn a_waker_may_receive_and_send() {
    let (sender, receiver) = mpsc::channel(2);
    let receiver = shared(receiver);
    let (hooks, waker) = hooked();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(receiver.borrow_mut().poll_recv(&mut cx).is_pending());
    let (theirs, again, got) = (receiver.clone(), sender.clone(), Rc::new(Cell::new(0)));
    let traced = got.clone();
    hooks.on_wake.set(move || {
        traced.set(theirs.borrow_mut().try_recv().unwrap());
        again.try_send(2).unwrap();
    });
    sender.try_send(1).unwrap();
    assert_eq!(got.get(), 1);
    assert_eq!(receiver.borrow_mut().try_recv(), Ok(2));
}

#[test]
fn a_value_sent_during_a_waker_clone_or_drop_is_received() {
    for on_drop_of_the_old in [false, true] {
        let (sender, mut receiver) = mpsc::channel(2);
        let (hooks, waker) = hooked();
        if on_drop_of_the_old {
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(receiver.poll_recv(&mut cx).is_pending());
            hooks.on_drop.set(move || sender.try_send(1).unwrap());
            let mut cx = std::task::Context::from_waker(Waker::noop());
            assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(1)));
        } else {
            hooks.on_clone.set(move || sender.try_send(1).unwrap());
            let mut cx = std::task::Context::from_waker(&waker);
            assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(1)));
        }
    }
}

#[test]
fn a_permit_returned_during_a_waker_clone_or_drop_is_taken() {
    for on_drop_of_the_old in [false, true] {
        let semaphore = Rc::new(Semaphore::new(0));
        let mut acquire = semaphore.acquire(1);
        let (hooks, waker) = hooked();
        let theirs = semaphore.clone();
        let give = move || theirs.add_permits(1);
        let polled = if on_drop_of_the_old {
            assert!(poll_with(&mut acquire, &waker).is_pending());
            hooks.on_drop.set(give);
            poll(&mut acquire)
        } else {
            hooks.on_clone.set(give);
            poll_with(&mut acquire, &waker)
        };
        assert!(matches!(polled, Poll::Ready(Ok(_))));
        drop(polled);
        assert_eq!(semaphore.available_permits(), 1);
    }
}

#[test]
fn a_reply_sent_during_a_waker_clone_is_received() {
    let (sender, mut receiver) = oneshot::channel();
    let (hooks, waker) = hooked();
    hooks.on_clone.set(move || sender.send(1).unwrap());
    assert_eq!(poll_with(&mut receiver, &waker), Poll::Ready(Ok(1)));
}

#[test]
fn a_waker_may_lock_the_mutex_that_wakes_it() {
    let mutex = Rc::new(Mutex::new(0));
    let guard = mutex.try_lock().unwrap();
    let mut first = Box::pin({
        let mutex = mutex.clone();
        async move { *mutex.lock().await += 1 }
    });
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut first, &waker).is_pending());
    let theirs = mutex.clone();
    hooks.on_wake.set(move || {
        assert!(
            theirs.try_lock().is_none(),
            "the lock was handed to the first waiter"
        );
        assert!(poll(&mut first).is_ready());
        *theirs.try_lock().unwrap() += 10;
    });
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), 11);
}

#[test]
fn a_waker_that_listens_again_is_notified_once() {
    let event = Rc::new(Event::new());
    let mut listener = event.listen();
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut listener, &waker).is_pending());
    let (theirs, again) = (event.clone(), Rc::new(Cell::new(None)));
    let traced = again.clone();
    hooks.on_wake.set(move || {
        let mut listener = theirs.listen();
        traced.set(Some(poll(&mut listener).is_ready()));
    });
    event.notify_all();
    assert!(poll(&mut listener).is_ready());
    assert_eq!(again.get(), Some(false));
}

#[test]
fn the_drop_of_a_waker_may_use_its_lock() {
    let semaphore = Rc::new(Semaphore::new(0));
    let (mut first, mut second) = (semaphore.acquire(1), semaphore.acquire(1));
    let (hooks, waker) = hooked();
    let (woken, other) = Count::new();
    assert!(poll_with(&mut first, &waker).is_pending());
    assert!(poll_with(&mut second, &other).is_pending());
    let theirs = semaphore.clone();
    hooks.on_drop.set(move || theirs.add_permits(1));
    drop(first);
    assert_eq!(woken.take(), 1);
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
}

/// A waker that panics.
struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        panic!("a bad waker (meant)");
    }
}

#[test]
fn a_panicking_waker_stops_no_other_wake() {
    let semaphore = Semaphore::new(0);
    let mut waiting = [semaphore.acquire(1), semaphore.acquire(1)];
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut waiting[0], &Arc::new(Bad).into()).is_pending());
    assert!(poll_with(&mut waiting[1], &waker).is_pending());
    semaphore.add_permits(2);
    assert_eq!(woken.take(), 1);
    let got = waiting.each_mut().map(poll);
    assert!(got.iter().all(|got| matches!(got, Poll::Ready(Ok(_)))));
}

#[test]
fn a_panicking_drop_of_the_senders_waker_loses_no_wake() {
    let (mut sender, mut receiver) = oneshot::channel::<u8>();
    let (hooks, bad) = hooked();
    assert!(poll_with(&mut Box::pin(sender.closed()), &bad).is_pending());
    hooks.on_drop.set(|| panic!("a bad waker (meant)"));
    let (woken, waker) = Count::new();
    assert!(poll_with(&mut receiver, &waker).is_pending());
    drop(sender);
    assert_eq!(woken.take(), 1);
}

#[test]
fn a_panicking_drop_of_a_waker_loses_no_permit() {
    let semaphore = Rc::new(Semaphore::new(0));
    let (hooks, waker) = hooked();
    let theirs = semaphore.clone();
    hooks.on_clone.set(move || theirs.add_permits(1)); // so that no wait is needed
    hooks.on_drop.set(|| panic!("a bad waker (meant)"));
    assert!(poll_with(&mut semaphore.acquire(1), &waker).is_ready());
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn a_panicking_waker_of_a_sender_loses_no_value() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).unwrap();
    let mut second = Box::pin(sender.send(2));
    assert!(poll_with(&mut second, &Arc::new(Bad).into()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(poll(&mut second), Poll::Ready(Ok(())));
    assert_eq!(receiver.try_recv(), Ok(2));
}

#[test]
fn a_waker_may_close_its_channel() {
    let semaphore = Rc::new(Semaphore::new(0));
    let (mut first, mut second) = (semaphore.acquire(1), semaphore.acquire(1));
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut first, &waker).is_pending());
    assert!(poll(&mut second).is_pending());
    let theirs = semaphore.clone();
    hooks.on_wake.set(move || theirs.close());
    semaphore.add_permits(1);
    assert!(
        matches!(poll(&mut first), Poll::Ready(Ok(_))),
        "the first waiter is served"
    );
    assert!(matches!(poll(&mut second), Poll::Ready(Err(Closed))));
}

#[test]
fn a_waker_may_drop_the_future_of_another_waiter() {
    let semaphore = Rc::new(Semaphore::new(0));
    let victim = Rc::new(RefCell::new(Some(Box::pin({
        let semaphore = semaphore.clone();
        async move { drop(semaphore.acquire(1).await) }
    }))));
    let mut first = semaphore.acquire(1);
    let (hooks, waker) = hooked();
    assert!(poll_with(&mut first, &waker).is_pending());
    assert!(poll(victim.borrow_mut().as_mut().unwrap()).is_pending());
    let theirs = victim.clone();
    hooks.on_wake.set(move || drop(theirs.take()));
    semaphore.add_permits(2); // both are served; the second is dropped before it is polled
    drop(poll(&mut first));
    assert_eq!(semaphore.available_permits(), 2);
}
