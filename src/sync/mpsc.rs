//! A channel from many senders to one receiver.
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
//!                 sender.send((crew, rope)).await.expect("the receiver exists");
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
use std::future::Future;
use std::mem;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};
use pin_project_lite::pin_project;

use windlass_executor::budget;

use super::error::{Closed, SendError, TryAcquireError, TryRecvError, TrySendError};
use super::semaphore::{self, Semaphore};
use super::shrink::{may_shrink, shrink_queue};
use super::wait_queue::QueueOwner;
use super::waker_cell::WakerCell;
use crate::waits::{FacadeWait, ListWaits, Listed, ObjectKind, Place, WaitKind, WakerId, poll_at};

/// Creates a channel that holds at most `capacity` values. Senders wait while it is full.
///
/// # Panics
///
/// Panics if `capacity` is 0.
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = NonZeroUsize::new(capacity);
    let capacity = capacity.expect("the capacity of a channel must be at least 1");
    let inner = Inner::new(Some(capacity), Location::caller());
    (Sender(Handle(inner.clone())), Receiver(inner))
}

/// Creates a channel that holds any number of values. Senders never wait. Without backpressure,
/// senders that are faster than the receiver fill the memory.
///
/// ```
/// use windlass::block_on;
/// use windlass::sync::mpsc;
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
#[track_caller]
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let inner = Inner::new(None, Location::caller());
    (UnboundedSender(Handle(inner.clone())), Receiver(inner))
}

pin_project! {
    pub(crate) struct Inner<T> {
        queue: RefCell<VecDeque<T>>,
        #[pin]
        ends: Listed<Ends>,
    }
}

/// The state of a channel apart from its values, which may borrow.
pub(super) struct Ends {
    /// One permit per value that still fits, if the channel is bounded. Closed together with the
    /// channel.
    room: Semaphore,
    /// `None` if the channel is unbounded.
    capacity: Option<NonZeroUsize>,
    senders: Cell<usize>,
    receiver: WakerCell,
    created_at: Place,
    /// Where the receiver waits, or has waited last.
    receiver_at: Cell<Option<Place>>,
    /// The waker that the receiver registered last.
    last_receiver: Cell<Option<WakerId>>,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<T> UnwindSafe for Inner<T> {}
impl<T> RefUnwindSafe for Inner<T> {}

impl Ends {
    pub(super) const OFFSETS: [usize; 7] = [
        offset_of!(Ends, receiver),
        offset_of!(Ends, created_at),
        offset_of!(Ends, capacity),
        offset_of!(Ends, senders),
        offset_of!(Ends, receiver_at),
        offset_of!(Ends, last_receiver),
        offset_of!(Ends, room) + Semaphore::LIST_OFFSET,
    ];
}

impl ListWaits for Ends {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Channel
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        let mut add = |waker, kind, awaited_at| {
            waits.push(FacadeWait {
                waker,
                kind,
                object: ptr::from_ref(self).addr(),
                created_at: Some(self.created_at),
                awaited_at,
            });
        };
        if let Some(capacity) = self.capacity {
            let capacity = capacity.get();
            let receiver = self.last_receiver.get();
            let kind = WaitKind::ChannelSend { capacity, receiver };
            let sender = |waker, awaited_at| add(waker, kind.clone(), awaited_at);
            self.room.waiters().for_each_waiter(sender);
        }
        if let Some(waker) = self.receiver.id() {
            let senders = self.senders.get();
            let sender = self.room.waiters().holder().and_then(Cell::get);
            let kind = WaitKind::ChannelReceive { senders, sender };
            add(waker, kind, self.receiver_at.get());
        }
    }
}

impl<T> Inner<T> {
    fn new(capacity: Option<NonZeroUsize>, created_at: Place) -> Pin<Rc<Self>> {
        let permits = capacity.map_or(0, NonZeroUsize::get);
        let inner = Rc::pin(Inner {
            queue: RefCell::default(),
            ends: Listed::new(Ends {
                room: Semaphore::of(QueueOwner::Channel, permits, created_at),
                capacity,
                senders: Cell::new(1),
                receiver: WakerCell::new(),
                created_at,
                receiver_at: Cell::new(None),
                last_receiver: Cell::new(None),
            }),
        });
        inner.as_ref().project_ref().ends.join();
        inner
    }

    #[inline]
    fn push(&self, value: T) -> Result<(), SendError<T>> {
        if self.ends.room.is_closed() {
            return Err(SendError(value));
        }
        self.queue.borrow_mut().push_back(value);
        self.ends.receiver.wake();
        Ok(())
    }

    /// Pops a value if that is only a move. [`pop`](Self::pop) handles all other cases.
    #[inline(always)]
    fn pop_fast(&self) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        if may_shrink(&queue) {
            return None;
        }
        let value = queue.pop_front()?;
        drop(queue);
        if self.ends.capacity.is_some() {
            self.ends.room.add_permits(1);
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
                if self.ends.capacity.is_some() {
                    self.ends.room.add_permits(1);
                }
                Ok(value)
            }
            None if self.is_ended() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// True if the channel is empty and a value may still arrive.
    #[inline]
    fn is_pending(&self) -> bool {
        self.queue.borrow().is_empty() && !self.is_ended()
    }

    /// True if the channel accepts no further value.
    fn is_ended(&self) -> bool {
        self.ends.senders.get() == 0 || self.ends.room.is_closed()
    }
}

/// Counts one sender.
struct Handle<T>(Pin<Rc<Inner<T>>>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        self.0.ends.senders.set(self.0.ends.senders.get() + 1);
        Handle(self.0.clone())
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let left = self.0.ends.senders.get() - 1;
        self.0.ends.senders.set(left);
        if left == 0 {
            self.0.ends.receiver.wake();
        }
    }
}

/// The sending end of a bounded [`channel`].
pub struct Sender<T>(Handle<T>);

impl<T> Sender<T> {
    /// Waits for capacity and sends a value. Senders are served first in, first out.
    ///
    /// # Errors
    ///
    /// Returns the value if the channel is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, it drops the value unsent and loses its
    /// position in the queue. To keep the value, [`reserve`](Self::reserve) first.
    pub fn send(&self, value: T) -> impl Future<Output = Result<(), SendError<T>>> {
        let inner = &*self.0.0;
        let (mut acquire, mut value) = (inner.ends.room.acquire(1), Some(value));
        poll_at(move |cx, place| {
            let permit = ready!(acquire.poll_at(cx, place));
            let value = value.take().expect("the value is present until completion");
            Poll::Ready(match permit {
                Ok(permit) => Permit { inner, permit }.send(value),
                Err(Closed) => Err(SendError(value)),
            })
        })
    }

    /// Sends a value if the channel has capacity and no sender waits for it.
    ///
    /// # Errors
    ///
    /// Returns the value if the channel is full or closed.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let inner = &*self.0.0;
        match inner.ends.room.try_acquire(1) {
            Ok(permit) => {
                permit.forget();
                let sent = inner.push(value);
                sent.map_err(|SendError(value)| TrySendError::Closed(value))
            }
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(value)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed(value)),
        }
    }

    /// Waits for capacity for one value and reserves it.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses its position in the queue. Capacity that it was already granted
    /// goes to the next sender.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
    ///
    /// block_on(async {
    ///     let (sender, mut receiver) = mpsc::channel(1);
    ///     let permit = sender.reserve().await?;
    ///     assert!(sender.try_send("second").is_err());
    ///     permit.send("first").expect("the receiver exists");
    ///     assert_eq!(receiver.recv().await, Some("first"));
    ///     Ok::<_, windlass::sync::Closed>(())
    /// })?;
    /// # Ok::<_, windlass::sync::Closed>(())
    /// ```
    pub fn reserve(&self) -> impl Future<Output = Result<Permit<'_, T>, Closed>> {
        let inner = &*self.0.0;
        let mut acquire = inner.ends.room.acquire(1);
        poll_at(move |cx, place| {
            let permit = ready!(acquire.poll_at(cx, place));
            Poll::Ready(permit.map(|permit| Permit { inner, permit }))
        })
    }

    /// Returns true if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.0.ends.room.is_closed()
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

/// Reserved capacity for one value (see [`Sender::reserve`]). Dropping it frees the capacity.
#[must_use = "dropping this frees the capacity for the next sender"]
pub struct Permit<'a, T> {
    inner: &'a Inner<T>,
    permit: semaphore::Permit<&'a Semaphore>,
}

impl<T> Permit<'_, T> {
    /// Sends the value, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the value if the channel was closed in the meantime.
    pub fn send(self, value: T) -> Result<(), SendError<T>> {
        self.permit.forget();
        self.inner.push(value)
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// The sending end of an [`unbounded_channel`].
pub struct UnboundedSender<T>(Handle<T>);

impl<T> UnboundedSender<T> {
    /// Sends a value, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the value if the channel is closed.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.0.push(value)
    }

    /// Returns true if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.0.ends.room.is_closed()
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

/// The receiving end of a channel, bounded or not. It is also a [`Stream`].
pub struct Receiver<T>(Pin<Rc<Inner<T>>>);

impl<T> Receiver<T> {
    /// Waits for the next value. Returns `None` once the channel is empty and has ended, because
    /// all senders are gone or it was [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no value.
    pub fn recv(&mut self) -> impl Future<Output = Option<T>> {
        poll_at(|cx, place| self.poll_recv_at(cx, place))
    }

    /// Polls for the next value. [`recv`](Self::recv) for hand-written futures.
    #[inline]
    #[track_caller]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv_at(cx, Location::caller())
    }

    #[inline]
    fn poll_recv_at(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<Option<T>> {
        ready!(budget::poll_charge(cx));
        match self.0.pop_fast() {
            Some(value) => Poll::Ready(Some(value)),
            None => self.poll_recv_slow(cx, place),
        }
    }

    #[inline(never)]
    fn poll_recv_slow(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<Option<T>> {
        if self.0.is_pending() {
            self.0.ends.receiver_at.set(Some(place));
            self.0.ends.last_receiver.set(Some(WakerId::of(cx.waker())));
            self.0.ends.receiver.register(cx.waker());
            // `register` is user code, which may have sent a value, so check again.
            if self.0.is_pending() {
                budget::refund();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.0.pop().ok())
    }

    /// Receives the next value without waiting.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel is empty.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.pop()
    }

    /// Closes the channel to all senders, including those with reserved capacity. Values in the
    /// channel can still be received.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
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
        self.0.ends.room.close();
    }

    /// Returns the number of values in the channel.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().len()
    }

    /// Returns true if the channel is empty.
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
        self.0.ends.receiver.clear();
        let queue = mem::take(&mut *self.0.queue.borrow_mut());
        drop(queue); // user code, which may use the channel
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
    fn a_channel_of_maximal_capacity_is_bounded() {
        let (sender, mut receiver) = channel(usize::MAX);
        sender.try_send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.0.ends.room.available_permits(), usize::MAX);
    }
}
