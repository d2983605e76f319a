//! A number of permits.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::error::{Closed, TryAcquireError};
use super::waiters::{Place, Turn, Waiters};
use windlass_executor::budget;
use windlass_executor::discard_panic;

/// A number of permits, for what only so many may do at once.
///
/// Fair: first come, first served. Who asks for many isn't overtaken by those who ask for few, so
/// whoever asks for more than there will ever be keeps all others waiting behind.
///
/// # Examples
///
/// Three downloads at once:
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
    /// Permits that nobody has. While somebody waits, they are less than the first one wants.
    free: Cell<usize>,
    closed: Cell<bool>,
    waiters: Waiters,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: usize) -> Self {
        Semaphore {
            free: Cell::new(permits),
            closed: Cell::new(false),
            waiters: Waiters::new(),
        }
    }

    /// Waits for so many permits; they come back when the [`Permit`] is dropped.
    ///
    /// # Errors
    ///
    /// If the semaphore is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, its place in the line is lost, and permits that it has been given
    /// already are handed on.
    pub fn acquire(&self, permits: usize) -> Acquire<&Self> {
        Acquire::new(self, permits)
    }

    /// As [`acquire`](Self::acquire), for a permit that borrows nothing: it may move into a task.
    pub fn acquire_owned(self: Rc<Self>, permits: usize) -> Acquire<Rc<Self>> {
        Acquire::new(self, permits)
    }

    /// So many permits, if they can be had at once.
    ///
    /// # Errors
    ///
    /// If there are not so many, if others wait for permits, or if the semaphore is closed.
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
        self.take(permits)?;
        Ok(Permit {
            semaphore: self,
            permits,
        })
    }

    /// Adds permits.
    ///
    /// # Panics
    ///
    /// If there are more than a `usize` counts.
    pub fn add_permits(&self, permits: usize) {
        let most = usize::MAX - self.free.get();
        assert!(permits <= most, "more permits than a `usize` counts");
        self.give(permits);
    }

    /// Permits that come back. There are too many only if some were added meanwhile: then it is
    /// no fault of the one who gives them back.
    fn give(&self, permits: usize) {
        let free = self.free.get().saturating_add(permits);
        if self.waiters.is_empty() {
            self.free.set(free);
        } else {
            let (left, woken) = self.waiters.serve(free);
            self.free.set(left);
            woken.wake();
        }
    }

    /// How many permits nobody has. While others wait, these are spoken for.
    pub fn available_permits(&self) -> usize {
        self.free.get()
    }

    /// No more permits are given: all who wait, and all who ask later, get an error. Permits that
    /// are out stay good.
    ///
    /// ```
    /// use windlass::sync::{Closed, Semaphore};
    /// use windlass::block_on;
    ///
    /// let semaphore = Semaphore::new(1);
    /// semaphore.close();
    /// assert_eq!(block_on(semaphore.acquire(1)).unwrap_err(), Closed);
    /// ```
    pub fn close(&self) {
        self.closed.set(true);
        self.waiters.dismiss().wake();
    }

    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    #[inline]
    fn take(&self, permits: usize) -> Result<(), TryAcquireError> {
        if self.closed.get() {
            return Err(TryAcquireError::Closed);
        }
        match self.free.get().checked_sub(permits) {
            Some(left) if self.waiters.is_empty() => {
                self.free.set(left);
                Ok(())
            }
            _ => Err(TryAcquireError::NoPermits),
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.free.get())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`]: they go back when this is dropped.
#[must_use = "the permits go back when this is dropped"]
pub struct Permit<S: Deref<Target = Semaphore>> {
    semaphore: S,
    permits: usize,
}

impl<S: Deref<Target = Semaphore>> Permit<S> {
    /// The permits never go back.
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
/// It joins the line when it is first polled.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Acquire<S: Deref<Target = Semaphore>> {
    /// None once it is ready.
    semaphore: Option<S>,
    permits: usize,
    place: Option<Place>,
}

impl<S: Deref<Target = Semaphore>> Acquire<S> {
    fn new(semaphore: S, permits: usize) -> Self {
        Acquire {
            semaphore: Some(semaphore),
            permits,
            place: None,
        }
    }

    fn poll_permits(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let semaphore = self.semaphore.as_ref().expect("polled after it was ready");
        if self.place.is_some() {
            let turn = semaphore.waiters.poll(&mut self.place, cx.waker());
            return turn.map(|turn| match turn {
                Turn::Served => Ok(()),
                _ => Err(Closed),
            });
        }
        match semaphore.take(self.permits) {
            Err(TryAcquireError::NoPermits) => self.join(cx),
            taken => Poll::Ready(taken.map_err(|_| Closed)),
        }
    }

    #[cold]
    fn join(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let semaphore = self.semaphore.as_ref().expect("it was there");
        let waker = cx.waker().clone();
        // To clone is user code, which may have given permits: look again.
        match semaphore.take(self.permits) {
            Err(TryAcquireError::NoPermits) => {
                self.place = Some(semaphore.waiters.join(self.permits, Some(waker)));
                Poll::Pending
            }
            taken => {
                discard_panic(|| drop(waker)); // a panic must not cost the permits
                Poll::Ready(taken.map_err(|_| Closed))
            }
        }
    }
}

// Nothing is pinned in it.
impl<S: Deref<Target = Semaphore>> Unpin for Acquire<S> {}

impl<S: Deref<Target = Semaphore>> Future for Acquire<S> {
    type Output = Result<Permit<S>, Closed>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let acquired = ready!(budget::poll_with(cx, |cx| self.poll_permits(cx)));
        let semaphore = self.semaphore.take().expect("it was there");
        let permits = self.permits;
        Poll::Ready(acquired.map(|()| Permit { semaphore, permits }))
    }
}

impl<S: Deref<Target = Semaphore>> Drop for Acquire<S> {
    fn drop(&mut self) {
        let (Some(semaphore), Some(place)) = (&self.semaphore, self.place.take()) else {
            return;
        };
        match semaphore.waiters.leave(place) {
            Turn::Served => semaphore.give(self.permits),
            // It may have been in the way of those who want less.
            Turn::Waiting => semaphore.give(0),
            Turn::Dismissed => {}
        }
    }
}

impl<S: Deref<Target = Semaphore>> fmt::Debug for Acquire<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("permits", &self.permits)
            .field("waiting", &self.place.is_some())
            .finish_non_exhaustive()
    }
}
