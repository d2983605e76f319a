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

use futures_core::future::FusedFuture;

use windlass_executor::budget;

use super::error::{Closed, SendError};
use super::event::Event;
use super::wait_queue::QueueOwner;
use crate::waits::poll_fused_at;

/// Creates a channel that holds an initial value, which the receiver counts as seen.
#[track_caller]
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(Inner {
        value: RefCell::new(initial),
        version: Cell::new(0),
        changed: Event::of(QueueOwner::Watch, Location::caller()),
        closed: Cell::new(false),
        receivers: Cell::new(0),
        receivers_gone: Event::of(QueueOwner::ChannelEnd, Location::caller()),
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
    /// Notified when the last receiver is dropped.
    receivers_gone: Event,
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
    /// assert_eq!(receiver.has_changed(), Ok(true));
    /// assert_eq!(*receiver.borrow(), [1, 2]);
    /// ```
    #[track_caller]
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value_mut());
        self.notify_receivers();
    }

    /// Changes the value in place, and notifies the receivers if the closure returns true. Returns
    /// the closure's result.
    ///
    /// # Panics
    ///
    /// Panics as [`send_modify`](Self::send_modify) does.
    ///
    /// ```
    /// use windlass::sync::watch;
    ///
    /// let (highest, receiver) = watch::channel(3);
    /// let raise = |to: u8| highest.send_if_modified(|level| {
    ///     let is_higher = to > *level;
    ///     *level = to.max(*level);
    ///     is_higher
    /// });
    /// assert!(!raise(2));
    /// assert_eq!(receiver.has_changed(), Ok(false));
    /// assert!(raise(5));
    /// assert_eq!(receiver.has_changed(), Ok(true));
    /// ```
    #[track_caller]
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let is_modified = change(&mut self.value_mut());
        if is_modified {
            self.notify_receivers();
        }
        is_modified
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

    /// Waits until all receivers are gone, to stop work on unneeded values.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// use windlass::sync::watch;
    /// use windlass::{block_on, spawn};
    ///
    /// block_on(async {
    ///     let (sender, receiver) = watch::channel(0);
    ///     spawn(async move { drop(receiver) }).detach();
    ///     sender.closed().await;
    ///     assert!(sender.is_closed());
    /// });
    /// ```
    pub fn closed(&self) -> impl FusedFuture<Output = ()> {
        self.0.receivers_gone.until(|| self.is_closed())
    }

    /// Returns the number of receivers.
    pub fn receiver_count(&self) -> usize {
        self.0.receivers.get()
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
    pub fn changed(&mut self) -> impl FusedFuture<Output = Result<(), Closed>> {
        let Receiver { inner, seen } = self;
        let (inner, mut listener) = (&**inner, None);
        poll_fused_at(move |cx, place| {
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

    /// Waits until the condition is true for the value, which may be the present one. Returns the
    /// value and marks it as seen.
    ///
    /// The condition is checked for each value that this receiver gets to see, and for some twice.
    ///
    /// # Errors
    ///
    /// Returns an error if the sender is gone and the condition is false for its last value.
    ///
    /// # Panics
    ///
    /// Panics inside the closure of [`Sender::send_modify`]. The condition borrows the value, so
    /// sending inside of it panics.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no value for which the condition is true. Values for which it was
    /// false are marked as seen.
    ///
    /// ```
    /// use windlass::sync::watch;
    /// use windlass::{block_on, spawn, yield_now};
    ///
    /// block_on(async {
    ///     let (tide, mut receiver) = watch::channel(0);
    ///     spawn(async move {
    ///         for level in 1..5 {
    ///             yield_now().await;
    ///             tide.send_replace(level);
    ///         }
    ///     })
    ///     .detach();
    ///     assert_eq!(*receiver.wait_for(|level| *level >= 3).await?, 3);
    ///     Ok::<_, windlass::sync::Closed>(())
    /// })?;
    /// # Ok::<_, windlass::sync::Closed>(())
    /// ```
    pub fn wait_for(
        &mut self,
        mut is_met: impl FnMut(&T) -> bool,
    ) -> impl FusedFuture<Output = Result<Ref<'_, T>, Closed>> {
        let Receiver { inner, seen } = self;
        let (inner, mut listener, mut checked) = (&**inner, None, None);
        poll_fused_at(move |cx, place| {
            loop {
                let (version, is_closed) = (inner.version.get(), inner.closed.get());
                if checked != Some(version) {
                    let is_met = is_met(&inner.value.borrow());
                    // Before the end of the future, so that the next poll checks the value again.
                    if is_met {
                        ready!(budget::poll_charge(cx));
                    }
                    (checked, *seen) = (Some(version), version);
                    if is_met {
                        return Poll::Ready(Ok(inner.value.borrow()));
                    }
                } else if is_closed {
                    ready!(budget::poll_charge(cx));
                    return Poll::Ready(Err(Closed));
                } else {
                    let listen = || inner.changed.listen_at(place);
                    ready!(Pin::new(listener.get_or_insert_with(listen)).poll(cx));
                    listener = None;
                }
            }
        })
    }

    /// Returns true if the value is unseen. Then [`changed`](Self::changed) returns at once.
    ///
    /// # Errors
    ///
    /// Returns an error if the sender is gone and its last value was seen.
    ///
    /// ```
    /// use windlass::sync::{Closed, watch};
    ///
    /// let (sender, mut receiver) = watch::channel(0);
    /// sender.send(1)?;
    /// drop(sender);
    /// assert_eq!(receiver.has_changed(), Ok(true));
    /// receiver.mark_unchanged();
    /// assert_eq!(receiver.has_changed(), Err(Closed));
    /// # Ok::<_, windlass::sync::SendError<i32>>(())
    /// ```
    pub fn has_changed(&self) -> Result<bool, Closed> {
        match self.is_unseen() {
            false if self.is_closed() => Err(Closed),
            is_unseen => Ok(is_unseen),
        }
    }

    /// Returns true if the sender is gone. Its last value may still be unseen.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.get()
    }

    /// Marks the value as unseen, so that [`changed`](Self::changed) returns at once.
    ///
    /// ```
    /// use windlass::sync::watch;
    ///
    /// let (_sender, mut receiver) = watch::channel(0);
    /// receiver.mark_changed();
    /// assert_eq!(receiver.has_changed(), Ok(true));
    /// ```
    pub fn mark_changed(&mut self) {
        self.seen = self.inner.version.get().wrapping_sub(1);
    }

    /// Marks the value as seen, so that [`changed`](Self::changed) waits for the next one.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.inner.version.get();
    }

    fn is_unseen(&self) -> bool {
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
        let left = self.inner.receivers.get() - 1;
        self.inner.receivers.set(left);
        if left == 0 {
            self.inner.receivers_gone.notify_all();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("has_changed", &self.is_unseen())
            .finish_non_exhaustive()
    }
}
