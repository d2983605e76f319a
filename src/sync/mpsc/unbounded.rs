//! The sending end of an unbounded channel.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

use futures_core::future::FusedFuture;

use super::inner::{Handle, Inner};
use crate::sync::error::SendError;

/// The sending end of an [`unbounded_channel`](super::unbounded_channel).
pub struct UnboundedSender<T>(pub(super) Handle<T>);

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

    /// Waits until the receiver is gone or closed, as [`Sender::closed`](super::Sender::closed)
    /// does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn closed(&self) -> impl FusedFuture<Output = ()> {
        self.0.0.closed()
    }

    /// Returns true if both send to the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        std::ptr::eq(&*self.0.0, &*other.0.0)
    }

    /// Returns a handle that leaves the channel open only as long as other senders do, as
    /// [`Sender::downgrade`](super::Sender::downgrade) does.
    pub fn downgrade(&self) -> WeakUnboundedSender<T> {
        WeakUnboundedSender(self.0.0.clone())
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

/// A handle that leaves a channel open only as long as other senders do (see
/// [`UnboundedSender::downgrade`]).
pub struct WeakUnboundedSender<T>(Pin<Rc<Inner<T>>>);

impl<T> WeakUnboundedSender<T> {
    /// Returns a sender, unless all senders are gone.
    pub fn upgrade(&self) -> Option<UnboundedSender<T>> {
        Handle::upgrade(&self.0).map(UnboundedSender)
    }
}

impl<T> Clone for WeakUnboundedSender<T> {
    fn clone(&self) -> Self {
        WeakUnboundedSender(self.0.clone())
    }
}

impl<T> fmt::Debug for WeakUnboundedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakUnboundedSender")
            .finish_non_exhaustive()
    }
}
