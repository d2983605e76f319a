//! A channel in which each receiver gets each value.
//!
//! ```
//! use windlass::sync::broadcast;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (sender, receiver) = broadcast::channel(16);
//!     let crews = [receiver, sender.subscribe()].map(|mut receiver| {
//!         spawn(async move {
//!             let mut orders = Vec::new();
//!             while let Ok(order) = receiver.recv().await {
//!                 orders.push(order);
//!             }
//!             orders
//!         })
//!     });
//!     sender.send("haul").expect("a receiver exists");
//!     sender.send("belay").expect("a receiver exists");
//!     drop(sender); // the channel ends with its last sender
//!     for crew in crews {
//!         assert_eq!(crew.await, ["haul", "belay"]);
//!     }
//! });
//! ```
//!
//! # Lag
//!
//! Sending never waits. If the channel is full, the oldest value is dropped, and each receiver that
//! has not received it [misses](RecvError::Lagged) it. The next receive of such a receiver returns
//! the number of missed values as an error. It then continues with the oldest value in the channel.
//! So one slow receiver affects neither the sender nor the others.
//!
//! ```
//! use windlass::block_on;
//! use windlass::sync::broadcast::{self, RecvError};
//!
//! block_on(async {
//!     let (sender, mut receiver) = broadcast::channel(2);
//!     for number in 1..=5 {
//!         sender.send(number).expect("a receiver exists");
//!     }
//!     assert_eq!(receiver.recv().await, Err(RecvError::Lagged(3)));
//!     assert_eq!(receiver.recv().await, Ok(4));
//! });
//! ```
//!
//! A value is in an allocation of its own, and is dropped once all receivers have received it. Each
//! receiver gets a clone, and the last one the value itself. Send an `Rc` if clones are expensive.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::future::FusedFuture;
use futures_core::stream::{FusedStream, Stream};

use windlass_executor::budget;

use super::error::SendError;
use super::event::Event;
use super::shrink::shrink_queue;
use super::wait_queue::{QueueOwner, WaitKey, WaitQueue};
use crate::waits::Place;

/// Creates a channel that holds the newest `capacity` values that are yet to be received.
///
/// # Panics
///
/// Panics if `capacity` is 0.
#[track_caller]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = NonZeroUsize::new(capacity);
    let created_at = Location::caller();
    let sender = Sender(Rc::new(Inner {
        queue: RefCell::default(),
        start: Cell::new(0),
        capacity: capacity.expect("the capacity of a channel must be at least 1"),
        senders: Cell::new(1),
        receivers: Cell::new(0),
        waiters: WaitQueue::new(QueueOwner::Broadcast, created_at),
        receivers_gone: Event::of(QueueOwner::ChannelEnd, created_at),
    }));
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Inner<T> {
    /// The values in their order. Only the last ones have receivers that are yet to receive them,
    /// because each receiver receives in this order.
    queue: RefCell<VecDeque<Slot<T>>>,
    /// The number of the first value in the queue. The values are numbered from 0.
    start: Cell<u64>,
    capacity: NonZeroUsize,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    /// The receivers that wait for a value.
    waiters: WaitQueue,
    receivers_gone: Event,
}

struct Slot<T> {
    /// Shared, because a clone of the value is user code, for which the queue must not be borrowed.
    value: Rc<T>,
    /// The number of receivers that are yet to receive it, which is at least 1.
    receivers: usize,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<T> UnwindSafe for Inner<T> {}
impl<T> RefUnwindSafe for Inner<T> {}

impl<T> Inner<T> {
    /// The number of the next value to be sent.
    fn end(&self) -> u64 {
        self.start.get() + self.queue.borrow().len() as u64
    }

    /// Appends a value. Returns the one that it displaces, to be dropped.
    fn push(&self, value: T) -> Option<Slot<T>> {
        let slot = Slot {
            value: Rc::new(value),
            receivers: self.receivers.get(),
        };
        let mut queue = self.queue.borrow_mut();
        let is_full = queue.len() == self.capacity.get();
        let displaced = is_full.then(|| queue.pop_front()).flatten();
        self.start.set(self.start.get() + u64::from(is_full));
        queue.push_back(slot);
        displaced
    }

    /// Returns the next value of a receiver, given the number of that value.
    fn next(&self, next: &mut u64) -> Result<Rc<T>, TryRecvError> {
        let mut queue = self.queue.borrow_mut();
        let start = self.start.get();
        if let Some(missed) = start.checked_sub(*next).filter(|missed| *missed > 0) {
            *next = start;
            return Err(TryRecvError::Lagged(missed));
        }
        let Some(slot) = queue.get_mut((*next - start) as usize) else {
            return Err(match self.senders.get() {
                0 => TryRecvError::Closed,
                _ => TryRecvError::Empty,
            });
        };
        *next += 1;
        slot.receivers -= 1;
        if slot.receivers > 0 {
            return Ok(slot.value.clone());
        }
        // The other receivers have received the values before it as well, so it is the first.
        let slot = queue.pop_front().expect("the slot was found above");
        self.start.set(start + 1);
        shrink_queue(&mut queue);
        Ok(slot.value)
    }

    /// Forgets a receiver, given the number of its next value. Returns the values that no other
    /// receiver is yet to receive, to be dropped.
    fn forget_receiver(&self, next: u64) -> Vec<Slot<T>> {
        self.receivers.set(self.receivers.get() - 1);
        let mut queue = self.queue.borrow_mut();
        let start = self.start.get();
        let unreceived = queue.iter_mut().skip(next.saturating_sub(start) as usize);
        unreceived.for_each(|slot| slot.receivers -= 1);
        let count = queue.iter().take_while(|slot| slot.receivers == 0).count();
        let received = queue.drain(..count).collect();
        self.start.set(start + count as u64);
        shrink_queue(&mut queue);
        received
    }
}

/// The sending end of a [`channel`].
pub struct Sender<T>(Rc<Inner<T>>);

impl<T> Sender<T> {
    /// Sends a value to all receivers, without waiting. Returns the number of receivers. If the
    /// channel is full, its oldest value is dropped.
    ///
    /// # Errors
    ///
    /// Returns the value if there are no receivers.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let receivers = self.0.receivers.get();
        if receivers == 0 {
            return Err(SendError(value));
        }
        let displaced = self.0.push(value);
        self.0.waiters.dismiss_all().wake();
        drop(displaced); // user code, which may use the channel
        Ok(receivers)
    }

    /// Creates a receiver of all values that are sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver::new(&self.0)
    }

    /// Returns the number of receivers.
    pub fn receiver_count(&self) -> usize {
        self.0.receivers.get()
    }

    /// Waits until all receivers are gone, to stop work on unneeded values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// use windlass::sync::broadcast;
    /// use windlass::{block_on, spawn};
    ///
    /// block_on(async {
    ///     let (sender, receiver) = broadcast::channel::<u8>(1);
    ///     spawn(async move { drop(receiver) }).detach();
    ///     sender.closed().await;
    ///     assert_eq!(sender.receiver_count(), 0);
    /// });
    /// ```
    pub fn closed(&self) -> impl FusedFuture<Output = ()> {
        let receivers = &self.0.receivers;
        self.0.receivers_gone.until(|| receivers.get() == 0)
    }

    /// Returns the number of values that some receiver is yet to receive.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().len()
    }

    /// Returns true if all receivers have received all values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = self.0.senders.get() - 1;
        self.0.senders.set(left);
        if left == 0 {
            self.0.waiters.dismiss_all().wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("receivers", &self.receiver_count())
            .finish_non_exhaustive()
    }
}

/// The receiving end of a [`channel`]. It is also a [`Stream`], which ends with the channel.
pub struct Receiver<T> {
    inner: Rc<Inner<T>>,
    /// The number of the next value to receive.
    next: u64,
    /// Present while it waits.
    key: Option<WaitKey>,
    /// It has returned the end of the channel.
    has_ended: bool,
}

impl<T> Receiver<T> {
    fn new(inner: &Rc<Inner<T>>) -> Self {
        inner.receivers.set(inner.receivers.get() + 1);
        Receiver {
            inner: inner.clone(),
            next: inner.end(),
            key: None,
            has_ended: false,
        }
    }

    /// Creates a receiver of all values that are sent from now on.
    pub fn resubscribe(&self) -> Receiver<T> {
        Receiver::new(&self.inner)
    }

    /// Returns the number of values that this receiver is yet to receive, including values that it
    /// has missed.
    ///
    /// ```
    /// use windlass::sync::broadcast;
    ///
    /// let (sender, receiver) = broadcast::channel(2);
    /// for number in 1..=3 {
    ///     sender.send(number)?;
    /// }
    /// assert_eq!(receiver.len(), 3);
    /// # Ok::<_, windlass::sync::SendError<i32>>(())
    /// ```
    pub fn len(&self) -> usize {
        (self.inner.end() - self.next) as usize
    }

    /// Returns true if there is no value to receive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if all senders are gone. There may still be values to receive.
    pub fn is_closed(&self) -> bool {
        self.inner.senders.get() == 0
    }

    /// Leaves the list of those that wait.
    fn stop_waiting(&mut self) {
        if let Some(key) = self.key.take() {
            self.inner.waiters.remove(key);
        }
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value.
    ///
    /// # Errors
    ///
    /// Returns an error if values were [missed](self#lag). The next call returns the oldest value
    /// that is still in the channel. Also returns an error if all senders are gone and all values
    /// were received.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no value.
    pub fn recv(&mut self) -> Recv<'_, T> {
        Recv(self)
    }

    /// Polls for the next value. [`recv`](Self::recv) for hand-written futures.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`recv`](Self::recv).
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        self.poll_recv_at(cx, Location::caller())
    }

    fn poll_recv_at(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<Result<T, RecvError>> {
        ready!(budget::poll_charge(cx));
        loop {
            let next = self.inner.next(&mut self.next);
            if !matches!(next, Err(TryRecvError::Empty)) {
                self.stop_waiting();
                return Poll::Ready(match next {
                    Ok(value) => Ok(Rc::unwrap_or_clone(value)),
                    Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                    Err(_) => {
                        self.has_ended = true;
                        Err(RecvError::Closed)
                    }
                });
            }
            let waiters = &self.inner.waiters;
            let key = self.key.take();
            self.key = Some(key.unwrap_or_else(|| waiters.push(1, 0, None, place)));
            if waiters.poll(&mut self.key, cx.waker()).is_pending() {
                budget::refund();
                return Poll::Pending;
            }
        }
    }

    /// Receives the next value without waiting.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel has no further value for this receiver, or if values were
    /// [missed](self#lag).
    ///
    /// ```
    /// use windlass::sync::broadcast::{self, TryRecvError};
    ///
    /// let (sender, mut receiver) = broadcast::channel(1);
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    /// sender.send(1)?;
    /// sender.send(2)?;
    /// assert_eq!(receiver.try_recv(), Err(TryRecvError::Lagged(1)));
    /// assert_eq!(receiver.try_recv(), Ok(2));
    /// # Ok::<_, windlass::sync::SendError<i32>>(())
    /// ```
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.inner.next(&mut self.next).map(Rc::unwrap_or_clone)
    }
}

impl<T: Clone> Stream for Receiver<T> {
    type Item = Result<T, Lagged>;

    #[track_caller]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = ready!(self.poll_recv_at(cx, Location::caller()));
        Poll::Ready(match received {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(RecvError::Closed) => None,
        })
    }
}

impl<T: Clone> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.stop_waiting();
        let received = self.inner.forget_receiver(self.next);
        if self.inner.receivers.get() == 0 {
            self.inner.receivers_gone.notify_all();
        }
        drop(received); // user code, which may use the channel
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The future of [`Receiver::recv`]. It is terminated once the receiver has returned
/// [`RecvError::Closed`].
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Recv<'a, T>(&'a mut Receiver<T>);

impl<T: Clone> Future for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_recv_at(cx, Location::caller())
    }
}

impl<T: Clone> FusedFuture for Recv<'_, T> {
    fn is_terminated(&self) -> bool {
        self.0.has_ended
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}

/// The error of [`Receiver::recv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// The receiver was too slow and has missed this many values.
    Lagged(u64),
    /// All senders are gone, and all values were received.
    Closed,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Lagged(missed) => Lagged(*missed).fmt(f),
            RecvError::Closed => f.write_str("the channel is closed"),
        }
    }
}

impl Error for RecvError {}

/// The error of [`Receiver::try_recv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is no value. One may still arrive.
    Empty,
    /// The receiver was too slow and has missed this many values.
    Lagged(u64),
    /// All senders are gone, and all values were received.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("the channel is empty"),
            TryRecvError::Lagged(missed) => Lagged(*missed).fmt(f),
            TryRecvError::Closed => f.write_str("the channel is closed"),
        }
    }
}

impl Error for TryRecvError {}

/// The error of the stream of a [`Receiver`], which was too slow and has missed this many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the receiver was too slow and has missed {} values",
            self.0
        )
    }
}

impl Error for Lagged {}
