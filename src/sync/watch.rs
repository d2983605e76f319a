//! A value that one side sets and others watch. Watchers see only the newest value.
//!
//! ```
//! use windlass::sync::watch;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (level, mut watcher) = watch::channel("info");
//!     spawn(async move {
//!         level.send("debug").expect("a receiver exists");
//!         level.send("trace").expect("a receiver exists");
//!     })
//!     .detach();
//!     watcher.changed().await?;
//!     assert_eq!(*watcher.borrow(), "trace");
//!     Ok::<_, windlass::sync::Closed>(())
//! })?;
//! # Ok::<_, windlass::sync::Closed>(())
//! ```
//!
//! `borrow` returns the [`Ref`] of a `RefCell`. Drop it before an await, because sending while it
//! exists panics.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use windlass_executor::budget;

use super::error::{Closed, SendError};
use super::event::Event;
use super::wait_queue::QueueOwner;
use crate::waits::poll_at;

/// Creates a channel that holds an initial value, which the receiver counts as seen.
#[track_caller]
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(Inner {
        value: RefCell::new(initial),
        version: Cell::new(0),
        changed: Event::of(QueueOwner::Watch, Location::caller()),
        closed: Cell::new(false),
        receivers: Cell::new(0),
    });
    let sender = Sender(inner);
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Inner<T> {
    value: RefCell<T>,
    /// The number of times that the value was set.
    version: Cell<u64>,
    changed: Event,
    /// The sender is gone.
    closed: Cell<bool>,
    receivers: Cell<usize>,
}

/// The sending end of a [`channel`].
pub struct Sender<T>(Rc<Inner<T>>);

impl<T> Sender<T> {
    /// Sets the value and drops the old one.
    ///
    /// # Errors
    ///
    /// Returns the value if all receivers are gone.
    ///
    /// # Panics
    ///
    /// Panics while the value is borrowed.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.is_closed() {
            return Err(SendError(value));
        }
        drop(self.send_replace(value));
        Ok(())
    }

    /// Sets the value, whether or not there are receivers, and returns the old one.
    ///
    /// # Panics
    ///
    /// Panics while the value is borrowed.
    #[track_caller]
    pub fn send_replace(&self, value: T) -> T {
        let old = std::mem::replace(&mut *self.value_mut(), value);
        self.notify_receivers();
        old
    }

    /// Changes the value in place, whether or not there are receivers.
    ///
    /// # Panics
    ///
    /// Panics while the value is borrowed. The closure borrows it, so it must not use the channel.
    /// If the closure panics, its changes stay without a notification.
    ///
    /// ```
    /// use windlass::sync::watch;
    ///
    /// let (sender, receiver) = watch::channel(vec![1]);
    /// sender.send_modify(|list| list.push(2));
    /// assert!(receiver.has_changed());
    /// assert_eq!(*receiver.borrow(), [1, 2]);
    /// ```
    #[track_caller]
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value_mut());
        self.notify_receivers();
    }

    /// Borrows the value.
    ///
    /// # Panics
    ///
    /// Panics inside the closure of [`send_modify`](Self::send_modify).
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    /// Creates a receiver that counts the current value as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver {
            inner: self.0.clone(),
            seen: self.0.version.get(),
        }
    }

    /// Returns true if all receivers are gone.
    pub fn is_closed(&self) -> bool {
        self.0.receivers.get() == 0
    }

    #[track_caller]
    fn value_mut(&self) -> RefMut<'_, T> {
        match self.0.value.try_borrow_mut() {
            Ok(value) => value,
            Err(_) => panic!("the value of the channel is borrowed: drop the `Ref` before sending"),
        }
    }

    fn notify_receivers(&self) {
        self.0.version.set(self.0.version.get() + 1);
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.changed.notify_all();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("receivers", &self.0.receivers.get())
            .finish_non_exhaustive()
    }
}

/// The receiving end of a [`channel`]. A clone has seen the same values.
pub struct Receiver<T> {
    inner: Rc<Inner<T>>,
    /// The last version that was seen.
    seen: u64,
}

impl<T> Receiver<T> {
    /// Waits for an unseen value, and marks it as seen.
    ///
    /// # Errors
    ///
    /// Returns an error if the sender is gone and its last value was seen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing. The value is marked as seen only when it completes.
    pub fn changed(&mut self) -> impl Future<Output = Result<(), Closed>> {
        let Receiver { inner, seen } = self;
        let (inner, mut listener) = (&**inner, None);
        poll_at(move |cx, place| {
            while *seen == inner.version.get() && !inner.closed.get() {
                let listen = || inner.changed.listen_at(place);
                ready!(Pin::new(listener.get_or_insert_with(listen)).poll(cx));
                listener = None;
            }
            ready!(budget::poll_charge(cx));
            if *seen == inner.version.get() {
                return Poll::Ready(Err(Closed));
            }
            *seen = inner.version.get();
            Poll::Ready(Ok(()))
        })
    }

    /// Returns true if the value is unseen.
    pub fn has_changed(&self) -> bool {
        self.seen != self.inner.version.get()
    }

    /// Borrows the value, without marking it as seen.
    ///
    /// # Panics
    ///
    /// Panics inside the closure of [`Sender::send_modify`].
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.inner.value.borrow()
    }

    /// Borrows the value and marks it as seen.
    ///
    /// # Panics
    ///
    /// Panics as [`borrow`](Self::borrow) does.
    #[track_caller]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.inner.version.get();
        self.inner.value.borrow()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.inner.receivers.set(self.inner.receivers.get() + 1);
        Receiver {
            inner: self.inner.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.inner.receivers.set(self.inner.receivers.get() - 1);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("has_changed", &self.has_changed())
            .finish_non_exhaustive()
    }
}
