//! A child of a group or a scope.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use windlass_executor::discard_panic;

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs a future to its end and drops it, and turns a panic of either into a value. So the future
/// and everything that it holds is gone when its end is reported.
///
/// Boxed, because an async function around the future would take twice its size.
pub(crate) struct Caught<'env, R>(Option<Pin<Box<dyn Future<Output = R> + 'env>>>);

impl<'env, R> Caught<'env, R> {
    /// Takes a box, so that debug builds do not copy the future in every function on the way here.
    pub(crate) fn new(future: Box<dyn Future<Output = R> + 'env>) -> Self {
        Caught(Some(Box::into_pin(future)))
    }

    /// Drops a future that has not ended.
    pub(crate) fn clear(&mut self) {
        drop_each(self.0.take());
    }
}

impl<R> Future for Caught<'_, R> {
    type Output = Result<R, Payload>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0.is_none() {
            return Poll::Pending;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // If the poll panics, the future is dropped while the thread is panicking.
            let running = Running(&mut self.0);
            let polled = match &mut *running.0 {
                Some(future) => future.as_mut().poll(cx),
                None => Poll::Pending,
            };
            mem::forget(running);
            polled
        }));
        let returned = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(returned)) => returned,
            Err(payload) => return Poll::Ready(Err(payload)),
        };
        match catch_unwind(AssertUnwindSafe(|| self.0 = None)) {
            Ok(()) => Poll::Ready(Ok(returned)),
            Err(payload) => {
                discard_panic(|| drop(returned));
                Poll::Ready(Err(payload))
            }
        }
    }
}

/// A future during its poll. If the poll panics, this drops the future. The panic of the poll takes
/// precedence over one of the drop.
struct Running<'a, 'env, R>(&'a mut Option<Pin<Box<dyn Future<Output = R> + 'env>>>);

impl<R> Drop for Running<'_, '_, R> {
    fn drop(&mut self) {
        discard_panic(|| *self.0 = None);
    }
}

/// The location of a call of `spawn`.
pub(crate) type SpawnedAt = &'static Location<'static>;

/// The number of children per location, for `Debug`.
pub(crate) fn count_by_location(
    locations: impl Iterator<Item = SpawnedAt>,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for location in locations {
        *counts.entry(location.to_string()).or_insert(0) += 1;
    }
    counts
}

/// Drops values one by one. A panic of one drop does not prevent the others.
pub(crate) fn drop_each<T>(all: impl IntoIterator<Item = T>) {
    all.into_iter().for_each(|one| discard_panic(|| drop(one)));
}
