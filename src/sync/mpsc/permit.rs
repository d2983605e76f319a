//! Reserved capacity of a channel.

use std::fmt;
use std::iter::FusedIterator;

use super::inner::Inner;
use crate::sync::error::SendError;
use crate::sync::semaphore::{self, Semaphore};

/// Reserved capacity for one value (see [`Sender::reserve`](super::Sender::reserve)). Dropping it
/// frees the capacity.
#[must_use = "dropping this frees the capacity for the next sender"]
pub struct Permit<'a, T> {
    pub(super) inner: &'a Inner<T>,
    pub(super) permit: semaphore::Permit<&'a Semaphore>,
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

/// Reserved capacity for several values (see
/// [`Sender::reserve_many`](super::Sender::reserve_many)), an iterator of [`Permit`]s. Dropping it
/// frees the rest of the capacity.
#[must_use = "dropping this frees the capacity for the next sender"]
pub struct PermitIterator<'a, T> {
    pub(super) inner: &'a Inner<T>,
    pub(super) permits: semaphore::Permit<&'a Semaphore>,
}

impl<'a, T> Iterator for PermitIterator<'a, T> {
    type Item = Permit<'a, T>;

    fn next(&mut self) -> Option<Permit<'a, T>> {
        let permit = self.permits.split(1)?;
        let inner = self.inner;
        Some(Permit { inner, permit })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.permits.num_permits();
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for PermitIterator<'_, T> {}
impl<T> FusedIterator for PermitIterator<'_, T> {}

impl<T> fmt::Debug for PermitIterator<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitIterator")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
