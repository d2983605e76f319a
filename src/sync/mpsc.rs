//! Many senders, one receiver.
//!
//! ```
//! use windlass::sync::mpsc;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (sender, mut receiver) = mpsc::channel(1);
//!     for crew in ["port", "starboard"] {
//!         let sender = sender.clone();
//!         spawn(async move {
//!             for rope in 1..=2 {
//!                 sender.send((crew, rope)).await.expect("somebody receives");
//!             }
//!         })
//!         .detach();
//!     }
//!     drop(sender); // the channel ends with its last sender
//!     let mut hauled = Vec::new();
//!     while let Some(rope) = receiver.recv().await {
//!         hauled.push(rope);
//!     }
//!     assert_eq!(hauled, [("port", 1), ("port", 2), ("starboard", 1), ("starboard", 2)]);
//! });
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use super::error::{Closed, SendError, TryAcquireError, TryRecvError, TrySendError};
use super::semaphore::{self, Semaphore};
use super::shrink::{may_shrink, shrink_queue};
use super::waiter::Waiter;
use windlass_executor::budget;

/// A channel that holds so many values. When it is full, senders wait.
///
/// # Panics
///
/// If `capacity` is 0.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel must have room for a value");
    let shared = Shared::new(Some(capacity));
    (Sender(Handle(shared.clone())), Receiver(shared))
}

/// A channel that holds any number of values. Senders never wait; so nothing keeps them from
/// filling the memory, if they are faster than the receiver.
///
/// ```
/// use windlass::sync::mpsc;
/// use windlass::block_on;
///
/// let (sender, mut receiver) = mpsc::unbounded_channel();
/// sender.send(1)?;
/// sender.send(2)?;
/// drop(sender);
/// block_on(async {
///     assert_eq!(receiver.recv().await, Some(1));
///     assert_eq!(receiver.recv().await, Some(2));
///     assert_eq!(receiver.recv().await, None);
/// });
/// # Ok::<_, windlass::sync::SendError<i32>>(())
/// ```
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let shared = Shared::new(None);
    (UnboundedSender(Handle(shared.clone())), Receiver(shared))
}

pub(crate) struct Shared<T> {
    queue: RefCell<VecDeque<T>>,
    /// A permit for each value that there is room for, if the channel is bounded. It is closed when
    /// the channel is.
    slots: Semaphore,
    bounded: bool,
    senders: Cell<usize>,
    receiver: Waiter,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl<T> UnwindSafe for Shared<T> {}
impl<T> RefUnwindSafe for Shared<T> {}

impl<T> Shared<T> {
    fn new(capacity: Option<usize>) -> Rc<Self> {
        Rc::new(Shared {
            queue: RefCell::default(),
            slots: Semaphore::new(capacity.unwrap_or(0)),
            bounded: capacity.is_some(),
            senders: Cell::new(1),
            receiver: Waiter::new(),
        })
    }

    #[inline]
    fn push(&self, value: T) -> Result<(), SendError<T>> {
        if self.slots.is_closed() {
            return Err(SendError(value));
        }
        self.queue.borrow_mut().push_back(value);
        self.receiver.wake();
        Ok(())
    }

    /// The next value, if that takes no more than to move it. Otherwise [`pop`](Self::pop) does the
    /// rest.
    #[inline(always)]
    fn pop_fast(&self) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        if may_shrink(&queue) {
            return None;
        }
        let value = queue.pop_front()?;
        drop(queue);
        if self.bounded {
            self.slots.add_permits(1);
        }
        Some(value)
    }

    #[inline]
    fn pop(&self) -> Result<T, TryRecvError> {
        let value = {
            let mut queue = self.queue.borrow_mut();
            shrink_queue(&mut queue);
            queue.pop_front()
        };
        match value {
            Some(value) => {
                if self.bounded {
                    self.slots.add_permits(1);
                }
                Ok(value)
            }
            None if self.is_ended() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// True if there is no value yet.
    #[inline]
    fn is_pending(&self) -> bool {
        self.queue.borrow().is_empty() && !self.is_ended()
    }

    /// Nothing is sent any more.
    fn is_ended(&self) -> bool {
        self.senders.get() == 0 || self.slots.is_closed()
    }
}

/// What counts as a sender.
struct Handle<T>(Rc<Shared<T>>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Handle(self.0.clone())
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let left = self.0.senders.get() - 1;
        self.0.senders.set(left);
        if left == 0 {
            self.0.receiver.wake();
        }
    }
}

/// Sends into a channel of [`channel`].
pub struct Sender<T>(Handle<T>);

impl<T> Sender<T> {
    /// Sends a value, when there is room for it. Senders get room in the order in which they have
    /// come.
    ///
    /// # Errors
    ///
    /// If the channel is closed, the value comes back.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped before it is ready, the value was not sent, and is dropped with it; the
    /// place in the line is lost. [`reserve`](Self::reserve) first, if the value must not be lost.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(permit) => permit.send(value),
            Err(Closed) => Err(SendError(value)),
        }
    }

    /// Sends a value if there is room for it at once, and nobody waits for room.
    ///
    /// # Errors
    ///
    /// If there is no room, or the channel is closed, the value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let shared = &*self.0.0;
        match shared.slots.try_acquire(1) {
            Ok(slot) => {
                slot.forget();
                let sent = shared.push(value);
                sent.map_err(|SendError(value)| TrySendError::Closed(value))
            }
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(value)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed(value)),
        }
    }

    /// Waits for room for one value, and keeps it.
    ///
    /// # Errors
    ///
    /// If the channel is closed.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the place in the line is lost, and room that it has been given already
    /// goes to the next sender.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    /// use windlass::block_on;
    ///
    /// block_on(async {
    ///     let (sender, mut receiver) = mpsc::channel(1);
    ///     let permit = sender.reserve().await?;
    ///     assert!(sender.try_send("second").is_err());
    ///     permit.send("first").expect("somebody receives");
    ///     assert_eq!(receiver.recv().await, Some("first"));
    ///     Ok::<_, windlass::sync::Closed>(())
    /// })?;
    /// # Ok::<_, windlass::sync::Closed>(())
    /// ```
    pub async fn reserve(&self) -> Result<Permit<'_, T>, Closed> {
        let shared = &*self.0.0;
        let slot = shared.slots.acquire(1).await?;
        Ok(Permit { shared, slot })
    }

    /// True if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.0.slots.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Room for one value: see [`Sender::reserve`]. Dropped, it goes to the next sender.
#[must_use = "the room goes to the next sender when this is dropped"]
pub struct Permit<'a, T> {
    shared: &'a Shared<T>,
    slot: semaphore::Permit<&'a Semaphore>,
}

impl<T> Permit<'_, T> {
    /// Sends the value. It never waits.
    ///
    /// # Errors
    ///
    /// If the channel was closed since, the value comes back.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        self.slot.forget();
        self.shared.push(value)
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// Sends into a channel of [`unbounded_channel`].
pub struct UnboundedSender<T>(Handle<T>);

impl<T> UnboundedSender<T> {
    /// Sends a value. It never waits.
    ///
    /// # Errors
    ///
    /// If the channel is closed, the value comes back.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.0.push(value)
    }

    /// True if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.0.slots.is_closed()
    }
}

impl<T> Clone for UnboundedSender<T> {
    fn clone(&self) -> Self {
        UnboundedSender(self.0.clone())
    }
}

impl<T> fmt::Debug for UnboundedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundedSender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Receives from a channel, bounded or not. It is a [`Stream`] as well.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Receiver<T> {
    /// Waits for the next value. `None`: nothing is sent any more, since all senders are gone or
    /// the channel was [closed](Self::close), and all that was sent is received.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: no value is lost.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) for futures written by hand.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        ready!(budget::poll_charge(cx));
        match self.0.pop_fast() {
            Some(value) => Poll::Ready(Some(value)),
            None => self.poll_recv_slow(cx),
        }
    }

    #[inline(never)]
    fn poll_recv_slow(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.0.is_pending() {
            self.0.receiver.register(cx.waker());
            // That may be user code, which has sent something.
            if self.0.is_pending() {
                budget::refund();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.0.pop().ok())
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    ///
    /// If there is none yet, or will be none any more.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.pop()
    }

    /// Nothing can be sent from here on, not by those either who have room reserved. What is in
    /// the channel can still be received.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    /// use windlass::block_on;
    ///
    /// let (sender, mut receiver) = mpsc::unbounded_channel();
    /// sender.send(1)?;
    /// receiver.close();
    /// assert!(sender.send(2).is_err());
    /// assert_eq!(block_on(receiver.recv()), Some(1));
    /// assert_eq!(block_on(receiver.recv()), None);
    /// # Ok::<_, windlass::sync::SendError<i32>>(())
    /// ```
    pub fn close(&mut self) {
        self.0.slots.close();
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().len()
    }

    /// True if no value is in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.len();
        (len, self.0.is_ended().then_some(len))
    }
}

impl<T> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.is_empty() && self.0.is_ended()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        self.0.receiver.clear();
        let queue = mem::take(&mut *self.0.queue.borrow_mut());
        drop(queue); // its values may use the channel
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_of_the_greatest_capacity_is_a_bounded_one() {
        let (sender, mut receiver) = channel(usize::MAX);
        sender.try_send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.0.slots.available_permits(), usize::MAX);
    }
}
