//! A semaphore with any number of permits.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::Deref;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::future::FusedFuture;

use windlass_executor::{budget, discard_panic};

use super::error::{Closed, TryAcquireError};
use super::wait_queue::{QueueOwner, WaitKey, WaitQueue, WaitState};
use crate::waits::Place;

/// A number of permits, which limits how many tasks do something at once.
///
/// Waiters are served first in, first out. A waiter for many permits is never overtaken by waiters
/// for few. A request for more permits than will ever exist blocks all waiters behind it.
///
/// # Examples
///
/// At most three downloads run at once:
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use windlass::sync::Semaphore;
/// use windlass::{block_on, spawn, yield_now};
///
/// block_on(async {
///     let limit = Rc::new(Semaphore::new(3));
///     let running = Rc::new(Cell::new(0));
///     let mut downloads = Vec::new();
///     for _ in 0..10 {
///         let permit = limit.clone().acquire_owned(1).await?;
///         let running = running.clone();
///         downloads.push(spawn(async move {
///             running.set(running.get() + 1);
///             assert!(running.get() <= 3);
///             yield_now().await; // the download
///             running.set(running.get() - 1);
///             drop(permit);
///         }));
///     }
///     for download in downloads {
///         download.await;
///     }
///     Ok::<_, windlass::sync::Closed>(())
/// })?;
/// # Ok::<_, windlass::sync::Closed>(())
/// ```
pub struct Semaphore {
    /// Available permits. While tasks wait, these are fewer than the request of the first waiter.
    available: Cell<usize>,
    closed: Cell<bool>,
    waiters: WaitQueue,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl Semaphore {
    /// Creates a semaphore with this many permits.
    #[track_caller]
    pub const fn new(permits: usize) -> Self {
        Semaphore::of(QueueOwner::Semaphore, permits, Location::caller())
    }

    pub(super) const fn of(owner: QueueOwner, permits: usize, created_at: Place) -> Self {
        Semaphore {
            available: Cell::new(permits),
            closed: Cell::new(false),
            waiters: WaitQueue::new(owner, created_at),
        }
    }

    /// Waits for this many permits. Dropping the [`Permit`] returns them.
    ///
    /// # Errors
    ///
    /// Returns an error if the semaphore is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses its position in the queue. Permits that it was already granted go
    /// to the next waiter.
    pub fn acquire(&self, permits: usize) -> Acquire<&Self> {
        Acquire::new(self, permits)
    }

    /// Like [`acquire`](Self::acquire), for a permit that is `'static` and can move into a task.
    pub fn acquire_owned(self: Rc<Self>, permits: usize) -> Acquire<Rc<Self>> {
        Acquire::new(self, permits)
    }

    /// Takes this many permits if they are available and no task waits for permits.
    ///
    /// # Errors
    ///
    /// Returns an error if too few permits are available, if others wait for permits, or if the
    /// semaphore is closed.
    ///
    /// ```
    /// use windlass::sync::{Semaphore, TryAcquireError};
    ///
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire(1)?;
    /// assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    /// drop(permit);
    /// assert!(semaphore.try_acquire(1).is_ok());
    /// # Ok::<_, TryAcquireError>(())
    /// ```
    pub fn try_acquire(&self, permits: usize) -> Result<Permit<&Self>, TryAcquireError> {
        Permit::try_acquire(self, permits).map_err(|(_, error)| error)
    }

    /// Like [`try_acquire`](Self::try_acquire), for a permit that is `'static` and can move into a
    /// task.
    ///
    /// # Errors
    ///
    /// Returns the same errors.
    ///
    /// ```
    /// use std::rc::Rc;
    /// use windlass::sync::Semaphore;
    ///
    /// let semaphore = Rc::new(Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned(1)?;
    /// assert!(semaphore.try_acquire(1).is_err());
    /// drop(permit);
    /// assert!(semaphore.try_acquire(1).is_ok());
    /// # Ok::<_, windlass::sync::TryAcquireError>(())
    /// ```
    pub fn try_acquire_owned(
        self: Rc<Self>,
        permits: usize,
    ) -> Result<Permit<Rc<Self>>, TryAcquireError> {
        Permit::try_acquire(self, permits).map_err(|(_, error)| error)
    }

    /// Adds permits.
    ///
    /// # Panics
    ///
    /// Panics if the number of permits exceeds `usize::MAX`.
    pub fn add_permits(&self, permits: usize) {
        let limit = usize::MAX - self.available.get();
        assert!(
            permits <= limit,
            "a semaphore holds at most `usize::MAX` permits"
        );
        self.give(permits);
    }

    /// Removes up to this many available permits for good. Returns the number of removed ones,
    /// which is lower if fewer are available.
    ///
    /// ```
    /// use windlass::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// assert_eq!(semaphore.forget_permits(2), 2);
    /// assert_eq!(semaphore.forget_permits(2), 1);
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget_permits(&self, permits: usize) -> usize {
        let forgotten = permits.min(self.available.get());
        self.serve(self.available.get() - forgotten);
        forgotten
    }

    /// Returns permits. Saturates, because only `add_permits` can cause an overflow, for which the
    /// returning task must not panic.
    fn give(&self, permits: usize) {
        let available = self.available.get().saturating_add(permits);
        if self.waiters.is_empty() {
            self.available.set(available);
        } else {
            self.serve(available);
        }
    }

    #[inline(never)]
    fn serve(&self, available: usize) {
        let (left, woken) = self.waiters.serve(available);
        self.available.set(left);
        woken.wake();
    }

    /// The number of available permits. While tasks wait, these are reserved for the first one.
    pub fn available_permits(&self) -> usize {
        self.available.get()
    }

    /// Closes the semaphore. Current and later calls that acquire permits return an error. Permits
    /// that are already held stay valid.
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::{Closed, Semaphore};
    ///
    /// let semaphore = Semaphore::new(1);
    /// semaphore.close();
    /// assert_eq!(block_on(semaphore.acquire(1)).unwrap_err(), Closed);
    /// ```
    pub fn close(&self) {
        self.closed.set(true);
        self.waiters.dismiss_all().wake();
    }

    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Where the list of waiters is, for readers outside of the process.
    pub(super) const LIST_OFFSET: usize =
        mem::offset_of!(Semaphore, waiters) + WaitQueue::LIST_OFFSET;

    pub(super) fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    #[inline]
    fn take(&self, permits: usize) -> Result<(), TryAcquireError> {
        if self.closed.get() {
            return Err(TryAcquireError::Closed);
        }
        match self.available.get().checked_sub(permits) {
            Some(left) if self.waiters.is_empty() => {
                self.available.set(left);
                Ok(())
            }
            _ => Err(TryAcquireError::NoPermits),
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available.get())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`]. Dropping this returns them.
#[must_use = "dropping this returns the permits"]
pub struct Permit<S: Deref<Target = Semaphore>> {
    semaphore: S,
    permits: usize,
}

impl<S: Deref<Target = Semaphore>> Permit<S> {
    /// Takes permits. On failure returns the semaphore as well.
    #[inline]
    pub(super) fn try_acquire(semaphore: S, permits: usize) -> Result<Self, (S, TryAcquireError)> {
        match semaphore.take(permits) {
            Ok(()) => Ok(Permit { semaphore, permits }),
            Err(error) => Err((semaphore, error)),
        }
    }

    pub(super) fn semaphore(&self) -> &S {
        &self.semaphore
    }

    /// Returns the number of permits.
    pub fn num_permits(&self) -> usize {
        self.permits
    }

    /// Takes this many permits out, to be returned separately. Returns `None` if there are fewer.
    ///
    /// ```
    /// use windlass::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(5);
    /// let mut all = semaphore.try_acquire(5)?;
    /// let two = all.split(2).expect("there are 5");
    /// assert!(all.split(4).is_none());
    /// drop(all);
    /// assert_eq!((semaphore.available_permits(), two.num_permits()), (3, 2));
    /// # Ok::<_, windlass::sync::TryAcquireError>(())
    /// ```
    pub fn split(&mut self, permits: usize) -> Option<Self>
    where
        S: Clone,
    {
        let left = self.permits.checked_sub(permits)?;
        let semaphore = self.semaphore.clone();
        self.permits = left;
        Some(Permit { semaphore, permits })
    }

    /// Adds the permits of another one, to be returned together.
    ///
    /// # Panics
    ///
    /// Panics if the permits are of different semaphores.
    ///
    /// ```
    /// use windlass::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// let mut permit = semaphore.try_acquire(1)?;
    /// permit.merge(semaphore.try_acquire(2)?);
    /// assert_eq!(permit.num_permits(), 3);
    /// # Ok::<_, windlass::sync::TryAcquireError>(())
    /// ```
    #[track_caller]
    pub fn merge(&mut self, mut other: Self) {
        assert!(
            ptr::eq(&*self.semaphore, &*other.semaphore),
            "only permits of the same semaphore can be merged"
        );
        self.permits = self.permits.saturating_add(mem::take(&mut other.permits));
    }

    /// Drops the permits without returning them to the semaphore.
    ///
    /// ```
    /// use windlass::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// semaphore.try_acquire(1)?.forget();
    /// assert_eq!(semaphore.available_permits(), 2);
    /// # Ok::<_, windlass::sync::TryAcquireError>(())
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl<S: Deref<Target = Semaphore>> Drop for Permit<S> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.give(self.permits);
    }
}

impl<S: Deref<Target = Semaphore>> fmt::Debug for Permit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

/// The future of [`Semaphore::acquire`] and [`Semaphore::acquire_owned`].
///
/// It joins the queue when it is first polled.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Acquire<S: Deref<Target = Semaphore>> {
    /// `None` after completion.
    semaphore: Option<S>,
    permits: usize,
    key: Option<WaitKey>,
}

impl<S: Deref<Target = Semaphore>> Acquire<S> {
    pub(super) fn new(semaphore: S, permits: usize) -> Self {
        Acquire {
            semaphore: Some(semaphore),
            permits,
            key: None,
        }
    }

    /// Returns the semaphore, until completion.
    pub(super) fn semaphore(&self) -> Option<&S> {
        self.semaphore.as_ref()
    }

    /// As `poll`, for a future that is awaited at this place.
    #[inline(always)]
    pub(super) fn poll_at(
        &mut self,
        cx: &mut Context<'_>,
        place: Place,
    ) -> Poll<Result<Permit<S>, Closed>> {
        let acquired = ready!(budget::poll_with(cx, |cx| self.poll_permits(cx, place)));
        let semaphore = self.semaphore.take().expect("present until completion");
        let permits = self.permits;
        Poll::Ready(acquired.map(|()| Permit { semaphore, permits }))
    }

    #[inline(always)]
    fn poll_permits(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<Result<(), Closed>> {
        let semaphore = self.semaphore.as_ref().expect("polled after completion");
        if self.key.is_some() {
            return self.poll_queued(cx);
        }
        match semaphore.take(self.permits) {
            Err(TryAcquireError::NoPermits) => self.wait(cx, place),
            taken => Poll::Ready(taken.map_err(|_| Closed)),
        }
    }

    #[inline(never)]
    fn poll_queued(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let semaphore = self.semaphore.as_ref().expect("present until completion");
        let state = semaphore.waiters.poll(&mut self.key, cx.waker());
        state.map(|state| match state {
            WaitState::Served => Ok(()),
            _ => Err(Closed),
        })
    }

    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>, place: Place) -> Poll<Result<(), Closed>> {
        let semaphore = self.semaphore.as_ref().expect("present until completion");
        let waker = cx.waker().clone();
        // The clone is user code, which may have returned permits, so try again.
        match semaphore.take(self.permits) {
            Err(TryAcquireError::NoPermits) => {
                let available = semaphore.available.get();
                let waiters = &semaphore.waiters;
                let key = waiters.push(self.permits, available, Some(waker), place);
                self.key = Some(key);
                Poll::Pending
            }
            taken => {
                discard_panic(|| drop(waker)); // a panic must not lose the permits
                Poll::Ready(taken.map_err(|_| Closed))
            }
        }
    }
}

// Neither field is pinned.
impl<S: Deref<Target = Semaphore>> Unpin for Acquire<S> {}

impl<S: Deref<Target = Semaphore>> Future for Acquire<S> {
    type Output = Result<Permit<S>, Closed>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_at(cx, Location::caller())
    }
}

impl<S: Deref<Target = Semaphore>> FusedFuture for Acquire<S> {
    fn is_terminated(&self) -> bool {
        self.semaphore.is_none()
    }
}

impl<S: Deref<Target = Semaphore>> Drop for Acquire<S> {
    fn drop(&mut self) {
        let (Some(semaphore), Some(key)) = (&self.semaphore, self.key.take()) else {
            return;
        };
        match semaphore.waiters.remove(key) {
            WaitState::Served => semaphore.give(self.permits),
            // Waiters behind this one may need fewer permits.
            WaitState::Waiting => semaphore.give(0),
            WaitState::Dismissed => {}
        }
    }
}

impl<S: Deref<Target = Semaphore>> fmt::Debug for Acquire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("permits", &self.permits)
            .field("waiting", &self.key.is_some())
            .finish_non_exhaustive()
    }
}
