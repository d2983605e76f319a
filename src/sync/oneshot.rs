//! A channel for one value: a reply.
//!
//! ```
//! use windlass::sync::oneshot;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (reply, answer) = oneshot::channel();
//!     spawn(async move { reply.send(42) }).detach();
//!     assert_eq!(answer.await, Ok(42));
//! });
//! ```

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::error::{Closed, TryRecvError};
use super::waiter::Waiter;
use windlass_executor::budget;

/// A channel for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: Cell::new(None),
        sent: Cell::new(false),
        closed: Cell::new(false),
        sender: Waiter::new(),
        receiver: Waiter::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

pub(crate) struct Shared<T> {
    value: Cell<Option<T>>,
    /// The sender is gone. If it has sent a value that is not here, that was received.
    sent: Cell<bool>,
    /// The receiver wants no value any more.
    closed: Cell<bool>,
    sender: Waiter,
    receiver: Waiter,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl<T> UnwindSafe for Shared<T> {}
impl<T> RefUnwindSafe for Shared<T> {}

/// Sends the value.
pub struct Sender<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends the value. It never waits.
    ///
    /// # Errors
    ///
    /// If the receiver is gone or closed, the value comes back. `Ok` says that the value is on its
    /// way; the receiver may still be dropped before it takes it.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        self.0.value.set(Some(value));
        Ok(()) // and the drop of the sender wakes the receiver
    }

    /// True if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Waits until the receiver is gone or closed: to stop work that nobody waits for.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    ///
    /// ```
    /// use windlass::sync::oneshot;
    /// use windlass::block_on;
    ///
    /// let (mut sender, receiver) = oneshot::channel::<u8>();
    /// drop(receiver);
    /// block_on(sender.closed());
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub async fn closed(&mut self) {
        poll_fn(|cx| budget::poll_with(cx, |cx| self.poll_closed(cx))).await;
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closed() {
            self.0.sender.register(cx.waker());
        }
        match self.is_closed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.sent.set(true);
        self.0.sender.clear();
        self.0.receiver.wake();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Receives the value: it is a future. An error says that none will come: the sender was dropped
/// without having sent one, this was [closed](Self::close) before, or the value was received.
///
/// # Cancel safety
///
/// Polled by reference (`&mut receiver`) nothing is lost. To drop it is to close it, and drops a
/// value that it wasn't polled for.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Receiver<T> {
    /// The value, if it is there.
    ///
    /// # Errors
    ///
    /// If it isn't there yet, or will not come, or was received already.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.0.value.take() {
            Some(value) => Ok(value),
            None if self.0.sent.get() || self.0.closed.get() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Nothing can be sent from here on. A value that is there already can still be received.
    ///
    /// ```
    /// use windlass::sync::oneshot;
    ///
    /// let (sender, mut receiver) = oneshot::channel();
    /// receiver.close();
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn close(&mut self) {
        self.0.closed.set(true);
        self.0.sender.wake();
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        budget::poll_with(cx, |cx| {
            let mut received = self.try_recv();
            if matches!(received, Err(TryRecvError::Empty)) {
                self.0.receiver.register(cx.waker());
                received = self.try_recv();
            }
            match received {
                Ok(value) => Poll::Ready(Ok(value)),
                Err(TryRecvError::Closed) => Poll::Ready(Err(Closed)),
                Err(TryRecvError::Empty) => Poll::Pending,
            }
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        self.0.receiver.clear();
        drop(self.0.value.take());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
