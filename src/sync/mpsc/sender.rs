//! The sending end of a bounded channel.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use futures_core::future::FusedFuture;

use super::inner::{Handle, Inner};
use super::permit::{Permit, PermitIterator};
use crate::sync::error::{Closed, SendError, TryAcquireError, TrySendError};
use crate::sync::semaphore::{self, Acquire, Semaphore};
use crate::waits::{poll_at, poll_fused_at};

/// The sending end of a bounded [`channel`](super::channel).
pub struct Sender<T>(pub(super) Handle<T>);

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
            Err(error) => Err(try_send_error(error, value)),
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

    /// Reserves capacity for one value if the channel has capacity and no sender waits for it.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel is full or closed.
    ///
    /// ```
    /// use windlass::sync::{TrySendError, mpsc};
    ///
    /// let (sender, mut receiver) = mpsc::channel(1);
    /// let permit = sender.try_reserve()?;
    /// assert_eq!(sender.try_reserve().err(), Some(TrySendError::Full(())));
    /// permit.send(1).expect("the receiver exists");
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// # Ok::<_, TrySendError<()>>(())
    /// ```
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        let inner = &*self.0.0;
        let permit = inner.ends.room.try_acquire(1);
        let permit = permit.map_err(|error| try_send_error(error, ()))?;
        Ok(Permit { inner, permit })
    }

    /// Waits for capacity for this many values and reserves it. The result is an iterator of
    /// permits.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel is closed.
    ///
    /// # Panics
    ///
    /// Panics if `count` exceeds the capacity of the channel, because the call would wait forever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses its position in the queue. Capacity that it was already granted
    /// goes to the next senders.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
    ///
    /// block_on(async {
    ///     let (sender, mut receiver) = mpsc::channel(3);
    ///     for (permit, value) in sender.reserve_many(2).await?.zip(["first", "second"]) {
    ///         permit.send(value).expect("the receiver exists");
    ///     }
    ///     assert_eq!(receiver.recv().await, Some("first"));
    ///     assert_eq!(receiver.recv().await, Some("second"));
    ///     Ok::<_, windlass::sync::Closed>(())
    /// })?;
    /// # Ok::<_, windlass::sync::Closed>(())
    /// ```
    #[track_caller]
    pub fn reserve_many(
        &self,
        count: usize,
    ) -> impl FusedFuture<Output = Result<PermitIterator<'_, T>, Closed>> {
        let inner = &*self.0.0;
        assert!(
            count <= self.max_capacity(),
            "cannot reserve more than the capacity of the channel"
        );
        let mut acquire = inner.ends.room.acquire(count);
        poll_fused_at(move |cx, place| {
            let permits = ready!(acquire.poll_at(cx, place));
            Poll::Ready(permits.map(|permits| PermitIterator { inner, permits }))
        })
    }

    /// Reserves capacity for this many values if the channel has it and no sender waits for it.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel has less capacity or is closed. If `count` exceeds the
    /// capacity of the channel, it always does.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    ///
    /// let (sender, receiver) = mpsc::channel(3);
    /// for permit in sender.try_reserve_many(2)? {
    ///     permit.send("ahoy").expect("the receiver exists");
    /// }
    /// assert_eq!(receiver.len(), 2);
    /// assert!(sender.try_reserve_many(2).is_err());
    /// # Ok::<_, windlass::sync::TrySendError<()>>(())
    /// ```
    pub fn try_reserve_many(
        &self,
        count: usize,
    ) -> Result<PermitIterator<'_, T>, TrySendError<()>> {
        let inner = &*self.0.0;
        let permits = inner.ends.room.try_acquire(count);
        let permits = permits.map_err(|error| try_send_error(error, ()))?;
        Ok(PermitIterator { inner, permits })
    }

    /// Like [`reserve`](Self::reserve), for a permit that is `'static`. It contains the sender, and
    /// [`OwnedPermit::send`] returns it.
    ///
    /// # Errors
    ///
    /// Returns an error if the channel is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the sender, and loses its position in the queue. Capacity that it
    /// was already granted goes to the next sender. To keep the sender, clone it before.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
    ///
    /// block_on(async {
    ///     let (sender, mut receiver) = mpsc::channel(1);
    ///     let permit = sender.reserve_owned().await?;
    ///     let sender = permit.send("first").expect("the receiver exists");
    ///     assert_eq!(receiver.recv().await, Some("first"));
    ///     drop(sender);
    ///     assert_eq!(receiver.recv().await, None);
    ///     Ok::<_, windlass::sync::Closed>(())
    /// })?;
    /// # Ok::<_, windlass::sync::Closed>(())
    /// ```
    pub fn reserve_owned(self) -> impl FusedFuture<Output = Result<OwnedPermit<T>, Closed>> {
        let mut acquire = Acquire::new(Room(self.0), 1);
        poll_fused_at(move |cx, place| {
            let permit = ready!(acquire.poll_at(cx, place));
            Poll::Ready(permit.map(|permit| OwnedPermit { permit }))
        })
    }

    /// Like [`try_reserve`](Self::try_reserve), for a permit that is `'static`.
    ///
    /// # Errors
    ///
    /// Returns the sender if the channel is full or closed.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    ///
    /// let (sender, mut receiver) = mpsc::channel(1);
    /// let permit = sender.try_reserve_owned().expect("there is capacity");
    /// let sender = permit.send(1).expect("the receiver exists");
    /// let sender = sender.try_reserve_owned().unwrap_err().into_inner();
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// assert!(sender.try_send(2).is_ok());
    /// ```
    pub fn try_reserve_owned(self) -> Result<OwnedPermit<T>, TrySendError<Self>> {
        match semaphore::Permit::try_acquire(Room(self.0), 1) {
            Ok(permit) => Ok(OwnedPermit { permit }),
            Err((room, error)) => Err(try_send_error(error, Sender(room.0))),
        }
    }

    /// Returns true if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.0.ends.room.is_closed()
    }

    /// Waits until the receiver is gone or closed, to stop work on unneeded values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    /// use windlass::{block_on, spawn};
    ///
    /// block_on(async {
    ///     let (sender, receiver) = mpsc::channel::<u8>(1);
    ///     spawn(async move { drop(receiver) }).detach();
    ///     sender.closed().await;
    ///     assert!(sender.is_closed());
    /// });
    /// ```
    pub fn closed(&self) -> impl FusedFuture<Output = ()> {
        self.0.0.closed()
    }

    /// Returns the number of values that can be sent without waiting. While senders wait, this
    /// capacity is reserved for the first one.
    pub fn capacity(&self) -> usize {
        self.0.0.ends.room.available_permits()
    }

    /// Returns the capacity that the channel was created with.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    ///
    /// let (sender, _receiver) = mpsc::channel(3);
    /// sender.try_send(1)?;
    /// assert_eq!((sender.capacity(), sender.max_capacity()), (2, 3));
    /// # Ok::<_, windlass::sync::TrySendError<i32>>(())
    /// ```
    pub fn max_capacity(&self) -> usize {
        let capacity = self.0.0.ends.capacity;
        capacity.expect("a `Sender` has a bounded channel").get()
    }

    /// Returns true if both send to the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        std::ptr::eq(&*self.0.0, &*other.0.0)
    }

    /// Returns a handle that leaves the channel open only as long as other senders do.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
    ///
    /// let (sender, mut receiver) = mpsc::channel::<u8>(1);
    /// let weak = sender.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(sender);
    /// assert!(weak.upgrade().is_none());
    /// assert_eq!(block_on(receiver.recv()), None);
    /// ```
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.0.clone())
    }
}

fn try_send_error<V>(error: TryAcquireError, value: V) -> TrySendError<V> {
    match error {
        TryAcquireError::NoPermits => TrySendError::Full(value),
        TryAcquireError::Closed => TrySendError::Closed(value),
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

/// Reserved capacity for one value, together with the sender (see [`Sender::reserve_owned`]).
/// Dropping it frees the capacity and drops the sender.
#[must_use = "dropping this frees the capacity for the next sender"]
pub struct OwnedPermit<T> {
    permit: semaphore::Permit<Room<T>>,
}

/// The capacity of a channel, as a sender owns it.
struct Room<T>(Handle<T>);

impl<T> Clone for Room<T> {
    fn clone(&self) -> Self {
        Room(self.0.clone())
    }
}

impl<T> Deref for Room<T> {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0.0.ends.room
    }
}

impl<T> OwnedPermit<T> {
    /// Sends the value, without waiting, and returns the sender.
    ///
    /// # Errors
    ///
    /// Returns the value if the channel was closed in the meantime.
    pub fn send(self, value: T) -> Result<Sender<T>, SendError<T>> {
        let sender = Sender(self.permit.semaphore().0.clone());
        self.permit.forget();
        sender.0.0.push(value)?;
        Ok(sender)
    }

    /// Frees the capacity and returns the sender.
    pub fn release(self) -> Sender<T> {
        Sender(self.permit.semaphore().0.clone())
    }
}

impl<T> fmt::Debug for OwnedPermit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit").finish_non_exhaustive()
    }
}

/// A handle that leaves a channel open only as long as other senders do (see
/// [`Sender::downgrade`]).
pub struct WeakSender<T>(Pin<Rc<Inner<T>>>);

impl<T> WeakSender<T> {
    /// Returns a sender, unless all senders are gone.
    pub fn upgrade(&self) -> Option<Sender<T>> {
        Handle::upgrade(&self.0).map(Sender)
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(self.0.clone())
    }
}

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSender").finish_non_exhaustive()
    }
}
