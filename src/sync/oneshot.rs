//! A channel for one value, such as a reply.
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
use std::future::Future;
use std::mem::offset_of;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::future::FusedFuture;
use pin_project_lite::pin_project;

use windlass_executor::budget;

use super::error::{Closed, TryRecvError};
use super::waker_cell::WakerCell;
use crate::waits::{FacadeWait, ListWaits, Listed, ObjectKind, Place, WaitKind, poll_fused_at};

/// Creates a channel for one value.
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Rc::pin(Inner {
        value: Cell::new(None),
        ends: Listed::new(Ends {
            sender_gone: Cell::new(false),
            closed: Cell::new(false),
            is_received: Cell::new(false),
            sender: WakerCell::new(),
            receiver: WakerCell::new(),
            created_at: Location::caller(),
            receiver_at: Cell::new(None),
        }),
    });
    (Sender(inner.clone()), Receiver(inner))
}

pin_project! {
    pub(crate) struct Inner<T> {
        value: Cell<Option<T>>,
        // Joins the list of objects when one end first waits.
        #[pin]
        ends: Listed<Ends>,
    }
}

/// The state of a channel apart from its value, which may borrow.
pub(super) struct Ends {
    /// The sender is gone. If there is no value, the sender was dropped before sending, or the
    /// value was received.
    sender_gone: Cell<bool>,
    /// The receiver is gone or closed.
    closed: Cell<bool>,
    /// The receiver has returned the value, or an error.
    is_received: Cell<bool>,
    sender: WakerCell,
    receiver: WakerCell,
    created_at: Place,
    /// Where the receiver waits.
    receiver_at: Cell<Option<Place>>,
}

impl Ends {
    pub(super) const OFFSETS: [usize; 4] = [
        offset_of!(Ends, sender),
        offset_of!(Ends, receiver),
        offset_of!(Ends, created_at),
        offset_of!(Ends, receiver_at),
    ];
}

impl ListWaits for Ends {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Oneshot
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        let sender = (self.sender.id(), WaitKind::Closed, None);
        let receiver_at = self.receiver_at.get();
        let receiver = (self.receiver.id(), WaitKind::OneshotReceive, receiver_at);
        for (waker, kind, awaited_at) in [sender, receiver] {
            waits.extend(waker.map(|waker| FacadeWait {
                waker,
                kind,
                object: ptr::from_ref(self).addr(),
                created_at: Some(self.created_at),
                awaited_at,
            }));
        }
    }
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<T> UnwindSafe for Inner<T> {}
impl<T> RefUnwindSafe for Inner<T> {}

/// The sending end of a [`channel`].
pub struct Sender<T>(Pin<Rc<Inner<T>>>);

impl<T> Sender<T> {
    /// Sends the value, without waiting.
    ///
    /// # Errors
    ///
    /// Returns the value if the receiver is gone or closed. After `Ok` the receiver may still be
    /// dropped before it takes the value.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        self.0.value.set(Some(value));
        Ok(()) // dropping the sender wakes the receiver
    }

    /// Returns true if the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.ends.closed.get()
    }

    /// Waits until the receiver is gone or closed, to stop work on an unneeded result.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::oneshot;
    ///
    /// let (mut sender, receiver) = oneshot::channel::<u8>();
    /// drop(receiver);
    /// block_on(sender.closed());
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn closed(&mut self) -> impl FusedFuture<Output = ()> {
        poll_fused_at(|cx, _| budget::poll_with(cx, |cx| self.poll_closed(cx)))
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closed() {
            self.0.as_ref().project_ref().ends.join();
            self.0.ends.sender.register(cx.waker());
        }
        match self.is_closed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.ends.sender_gone.set(true);
        self.0.ends.sender.clear();
        self.0.ends.receiver.wake();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The receiving end of a [`channel`], a future of the value. It completes with an error if the
/// sender was dropped before sending, if this end was [closed](Self::close) before, or if the value
/// was already received.
///
/// # Cancel safety
///
/// Awaiting it by reference (`&mut receiver`) loses nothing when that await is dropped. Dropping
/// the receiver closes it, and drops a value that is still in the channel.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Receiver<T>(Pin<Rc<Inner<T>>>);

impl<T> Receiver<T> {
    /// Receives the value without waiting.
    ///
    /// # Errors
    ///
    /// Returns an error if the value is still to come, if the sender was dropped before sending, or
    /// if the value was already received.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.0.value.take() {
            Some(value) => {
                self.0.ends.is_received.set(true);
                Ok(value)
            }
            None if self.0.ends.sender_gone.get() || self.0.ends.closed.get() => {
                Err(TryRecvError::Closed)
            }
            None => Err(TryRecvError::Empty),
        }
    }

    /// Returns true if the channel contains no value. The value may still arrive, or it was
    /// received.
    ///
    /// ```
    /// use windlass::sync::oneshot;
    ///
    /// let (sender, mut receiver) = oneshot::channel();
    /// assert!(receiver.is_empty());
    /// sender.send(1).expect("the receiver exists");
    /// assert!(!receiver.is_empty());
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// assert!(receiver.is_empty() && receiver.is_terminated());
    /// ```
    pub fn is_empty(&self) -> bool {
        let value = self.0.value.take();
        let is_empty = value.is_none();
        self.0.value.set(value);
        is_empty
    }

    /// Returns true if the value was received, or an await has returned an error. An await would
    /// return an error from now on.
    pub fn is_terminated(&self) -> bool {
        self.0.ends.is_received.get()
    }

    /// Closes the channel to the sender. A value that was already sent can still be received.
    ///
    /// ```
    /// use windlass::sync::oneshot;
    ///
    /// let (sender, mut receiver) = oneshot::channel();
    /// receiver.close();
    /// assert_eq!(sender.send(1), Err(1));
    /// ```
    pub fn close(&mut self) {
        self.0.ends.closed.set(true);
        self.0.ends.sender.wake();
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Closed>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let place = Location::caller();
        budget::poll_with(cx, |cx| {
            let mut received = self.try_recv();
            if matches!(received, Err(TryRecvError::Empty)) {
                self.0.as_ref().project_ref().ends.join();
                self.0.ends.receiver_at.set(Some(place));
                self.0.ends.receiver.register(cx.waker());
                received = self.try_recv();
            }
            match received {
                Ok(value) => Poll::Ready(Ok(value)),
                Err(TryRecvError::Closed) => {
                    self.0.ends.is_received.set(true);
                    Poll::Ready(Err(Closed))
                }
                Err(TryRecvError::Empty) => Poll::Pending,
            }
        })
    }
}

impl<T> FusedFuture for Receiver<T> {
    fn is_terminated(&self) -> bool {
        Receiver::is_terminated(self)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        self.0.ends.receiver.clear();
        drop(self.0.value.take());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
