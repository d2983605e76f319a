//! The receiving end of a channel.

use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::future::FusedFuture;
use futures_core::stream::{FusedStream, Stream};

use windlass_executor::budget;

use super::inner::Inner;
use crate::sync::error::TryRecvError;
use crate::waits::{Place, WakerId, poll_fused_at};

/// The receiving end of a channel, bounded or not. It is also a [`Stream`].
///
/// ```
/// use futures::select;
/// use windlass::sync::mpsc;
/// use windlass::{block_on, spawn};
///
/// block_on(async {
///     let ((ropes, mut first), (sails, mut second)) = (mpsc::channel(1), mpsc::channel(1));
///     spawn(async move { ropes.send("rope").await }).detach();
///     spawn(async move { sails.send("sail").await }).detach();
///     let mut hauled = Vec::new();
///     loop {
///         select! {
///             rope = first.recv() => hauled.extend(rope),
///             sail = second.recv() => hauled.extend(sail),
///             complete => break, // both have returned `None`
///         }
///     }
///     hauled.sort_unstable();
///     assert_eq!(hauled, ["rope", "sail"]);
/// });
/// ```
pub struct Receiver<T>(pub(super) Pin<Rc<Inner<T>>>);

impl<T> Receiver<T> {
    /// Waits for the next value. Returns `None` once the channel is empty and has ended, because
    /// all senders are gone or it was [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no value.
    pub fn recv(&mut self) -> Recv<'_, T> {
        Recv(self)
    }

    /// Waits for values and moves up to `limit` of them to the end of `buffer`. Returns their
    /// number, which is 0 once the channel is empty and has ended, or if `limit` is 0.
    ///
    /// The call charges the [budget](crate::task::budget) once, however many values it receives.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no value.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::mpsc;
    ///
    /// let (sender, mut receiver) = mpsc::unbounded_channel();
    /// (1..=3).try_for_each(|n| sender.send(n))?;
    /// let mut values = Vec::new();
    /// assert_eq!(block_on(receiver.recv_many(&mut values, 2)), 2);
    /// assert_eq!(values, [1, 2]);
    /// # Ok::<_, windlass::sync::SendError<i32>>(())
    /// ```
    pub fn recv_many(
        &mut self,
        buffer: &mut Vec<T>,
        limit: usize,
    ) -> impl FusedFuture<Output = usize> {
        poll_fused_at(move |cx, place| self.poll_recv_many_at(cx, place, buffer, limit))
    }

    /// Polls for values. [`recv_many`](Self::recv_many) for hand-written futures.
    #[track_caller]
    pub fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<T>,
        limit: usize,
    ) -> Poll<usize> {
        self.poll_recv_many_at(cx, Location::caller(), buffer, limit)
    }

    fn poll_recv_many_at(
        &mut self,
        cx: &mut Context<'_>,
        place: Place,
        buffer: &mut Vec<T>,
        limit: usize,
    ) -> Poll<usize> {
        ready!(budget::poll_charge(cx));
        if limit > 0 {
            ready!(self.poll_values(cx, place));
        }
        let count = self.0.pop_many(buffer, limit);
        if limit > 0 && count == 0 {
            self.0.ends.is_received.set(true);
        }
        Poll::Ready(count)
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
        ready!(self.poll_values(cx, place));
        let value = self.0.pop().ok();
        if value.is_none() {
            self.0.ends.is_received.set(true);
        }
        Poll::Ready(value)
    }

    /// Waits until there is a value, or the channel has ended. Refunds the charge if it has to
    /// wait.
    fn poll_values(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<()> {
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
        Poll::Ready(())
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
        self.0.close();
    }

    /// Returns true if the channel accepts no further value, because all senders are gone or it was
    /// [closed](Self::close). It may still contain values.
    pub fn is_closed(&self) -> bool {
        self.0.is_ended()
    }

    /// Returns the number of values that can be sent without waiting, or `None` if the channel is
    /// unbounded.
    pub fn capacity(&self) -> Option<usize> {
        let room = &self.0.ends.room;
        self.0.ends.capacity.map(|_| room.available_permits())
    }

    /// Returns the capacity that the channel was created with, or `None` if it is unbounded.
    pub fn max_capacity(&self) -> Option<usize> {
        self.0.ends.capacity.map(Into::into)
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
        self.0.ends.is_received.get()
    }
}

/// The future of [`Receiver::recv`]. It is terminated once the receiver has returned `None`.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Recv<'a, T>(&'a mut Receiver<T>);

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv_at(cx, Location::caller())
    }
}

impl<T> FusedFuture for Recv<'_, T> {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
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
    use super::super::channel;

    #[test]
    fn a_channel_of_maximal_capacity_is_bounded() {
        let (sender, mut receiver) = channel(usize::MAX);
        sender.try_send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.0.ends.room.available_permits(), usize::MAX);
    }
}
