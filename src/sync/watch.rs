//! A value that one side sets and others watch: they see the newest, not each.
//!
//! ```
//! use windlass::sync::watch;
//! use windlass::{block_on, spawn};
//!
//! block_on(async {
//!     let (level, mut watcher) = watch::channel("info");
//!     spawn(async move {
//!         level.send("debug").expect("somebody watches");
//!         level.send("trace").expect("somebody watches");
//!     })
//!     .detach();
//!     watcher.changed().await?;
//!     assert_eq!(*watcher.borrow(), "trace");
//!     Ok::<_, windlass::sync::Closed>(())
//! })?;
//! # Ok::<_, windlass::sync::Closed>(())
//! ```
//!
//! `borrow` gives a [`Ref`] of a `RefCell`, and the rule of that holds: don't keep it over an
//! await. To send while there is one panics.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use super::error::{Closed, SendError};
use super::event::Event;
use windlass_executor::budget;

/// A channel that has a value from the start. The receiver has seen that one.
pub fn channel<T>(initial: T) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(initial),
        version: Cell::new(0),
        changed: Event::new(),
        closed: Cell::new(false),
        receivers: Cell::new(0),
    });
    let sender = Sender(shared);
    let receiver = sender.subscribe();
    (sender, receiver)
}

struct Shared<T> {
    value: RefCell<T>,
    /// How often the value was set.
    version: Cell<u64>,
    changed: Event,
    /// The sender is gone.
    closed: Cell<bool>,
    receivers: Cell<usize>,
}

/// Sets the value.
pub struct Sender<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sets the value. The old one is dropped.
    ///
    /// # Errors
    ///
    /// If there is no receiver the value comes back.
    ///
    /// # Panics
    ///
    /// While the value is borrowed.
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
    /// While the value is borrowed.
    #[track_caller]
    pub fn send_replace(&self, value: T) -> T {
        let old = std::mem::replace(&mut *self.value_mut(), value);
        self.tell();
        old
    }

    /// Changes the value in place, whether or not there are receivers.
    ///
    /// # Panics
    ///
    /// While the value is borrowed. The closure has it borrowed, so it must not use the channel.
    /// If the closure panics nobody is told of what it has changed.
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
        self.tell();
    }

    /// The value.
    ///
    /// # Panics
    ///
    /// Inside of the closure of [`send_modify`](Self::send_modify).
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    /// One more receiver, that has seen the value as it is.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver {
            shared: self.0.clone(),
            seen: self.0.version.get(),
        }
    }

    /// True if there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.0.receivers.get() == 0
    }

    #[track_caller]
    fn value_mut(&self) -> RefMut<'_, T> {
        match self.0.value.try_borrow_mut() {
            Ok(value) => value,
            Err(_) => panic!("the value of the channel is borrowed: drop the `Ref` first"),
        }
    }

    fn tell(&self) {
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

/// Watches the value. A clone has seen what this one has.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

impl<T> Receiver<T> {
    /// Waits until there is a value that wasn't seen yet, and counts it as seen.
    ///
    /// # Errors
    ///
    /// If the sender is gone, and its last value was seen.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: only what it has returned for counts as seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        while !self.has_changed() && !self.shared.closed.get() {
            self.shared.changed.listen().await;
        }
        budget::charge().await;
        if !self.has_changed() {
            return Err(Closed);
        }
        self.seen = self.shared.version.get();
        Ok(())
    }

    /// True if the value wasn't seen yet.
    pub fn has_changed(&self) -> bool {
        self.seen != self.shared.version.get()
    }

    /// The value. It doesn't count as seen by that.
    ///
    /// # Panics
    ///
    /// Inside of the closure of [`Sender::send_modify`].
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    /// The value, which counts as seen.
    ///
    /// # Panics
    ///
    /// As [`borrow`](Self::borrow).
    #[track_caller]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.shared.version.get();
        self.shared.value.borrow()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("has_changed", &self.has_changed())
            .finish_non_exhaustive()
    }
}
