//! A lock that may be held across an await.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::future::FusedFuture;

use super::semaphore::{Acquire, Permit, Semaphore};
use super::wait_queue::QueueOwner;
use crate::waits::{WakerId, poll_fused_at};

/// A lock that may be held across an await.
///
/// On one thread only state that stays locked across an await needs a lock. A `Cell` or a `RefCell`
/// is enough for everything else, and cheaper. Use the lock for steps that belong together and
/// await in between, such as a request and its reply on a connection that several tasks share.
///
/// Waiters are served first in, first out, and the lock is handed over directly. If a task panics
/// or is dropped while it holds the lock, the next waiter gets the lock and the value as it is.
/// There is no poisoning.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use windlass::sync::Mutex;
/// use windlass::{block_on, spawn, yield_now};
///
/// block_on(async {
///     let log = Rc::new(Mutex::new(Vec::new()));
///     let lines = ["a1 a2", "b1 b2"].map(|line| {
///         let log = log.clone();
///         spawn(async move {
///             let mut log = log.lock().await;
///             for word in line.split(' ') {
///                 yield_now().await; // other tasks run, but none of them gets the lock
///                 log.push(word);
///             }
///         })
///     });
///     for line in lines {
///         line.await;
///     }
///     assert_eq!(*log.lock().await, ["a1", "a2", "b1", "b2"]);
/// });
/// ```
pub struct Mutex<T: ?Sized> {
    /// Has one permit, which allows the use of the value.
    lock: Semaphore,
    /// The waker of the future that has locked it last, until a list of waiters has it. `None`
    /// after `try_lock`.
    holder: Cell<Option<WakerId>>,
    /// Borrowed while there is a `MutexGuard`. An `OwnedMutexGuard` uses a pointer. After a
    /// handover and before the next owner is polled, only `lock` shows that the mutex is locked.
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex around a value.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Mutex {
            lock: Semaphore::of(QueueOwner::Mutex, 1, Location::caller()),
            holder: Cell::new(None),
            value: RefCell::new(value),
        }
    }

    /// Returns the value and drops the mutex.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock. Dropping the guard unlocks it.
    ///
    /// A task that waits for a lock which it already holds waits forever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses its position in the queue. A lock that it was already granted goes
    /// to the next waiter.
    pub fn lock(&self) -> Lock<'_, T> {
        Lock {
            mutex: self,
            acquire: self.lock.acquire(1),
        }
    }

    /// Takes the lock if it is free and has no waiters.
    ///
    /// ```
    /// use windlass::sync::Mutex;
    ///
    /// let mutex = Mutex::new(1);
    /// let guard = mutex.try_lock().expect("it is unlocked");
    /// assert!(mutex.try_lock().is_none());
    /// ```
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let permit = self.lock.try_acquire(1).ok()?;
        Some(self.guard(permit, None))
    }

    /// Like [`lock`](Self::lock), for a guard that is `'static` and can move into a task.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`lock`](Self::lock).
    ///
    /// ```
    /// use std::rc::Rc;
    /// use windlass::sync::Mutex;
    /// use windlass::{block_on, spawn};
    ///
    /// block_on(async {
    ///     let mutex = Rc::new(Mutex::new(1));
    ///     let mut guard = mutex.clone().lock_owned().await;
    ///     let task = spawn(async move { *guard += 1 });
    ///     assert!(mutex.try_lock().is_none());
    ///     task.await;
    ///     assert_eq!(*mutex.lock().await, 2);
    /// });
    /// ```
    pub fn lock_owned(self: Rc<Self>) -> impl FusedFuture<Output = OwnedMutexGuard<T>> {
        let mut acquire = Acquire::new(OwnedLock(self), 1);
        poll_fused_at(move |cx, place| {
            let Poll::Ready(permit) = acquire.poll_at(cx, place) else {
                if let Some(OwnedLock(mutex)) = acquire.semaphore() {
                    mutex.list_waiting();
                }
                return Poll::Pending;
            };
            let permit = permit.expect("a mutex is never closed");
            let holder = WakerId::of(cx.waker());
            permit.semaphore().0.set_holder(Some(holder));
            Poll::Ready(OwnedMutexGuard { permit })
        })
    }

    /// Like [`try_lock`](Self::try_lock), for a guard that is `'static`.
    ///
    /// ```
    /// use std::rc::Rc;
    /// use windlass::sync::Mutex;
    ///
    /// let mutex = Rc::new(Mutex::new(1));
    /// let guard = mutex.clone().try_lock_owned().expect("it is unlocked");
    /// assert!(mutex.try_lock().is_none());
    /// drop(guard);
    /// assert!(mutex.try_lock().is_some());
    /// ```
    pub fn try_lock_owned(self: Rc<Self>) -> Option<OwnedMutexGuard<T>> {
        let permit = Permit::try_acquire(OwnedLock(self), 1).ok()?;
        permit.semaphore().0.set_holder(None);
        Some(OwnedMutexGuard { permit })
    }

    /// Returns the value. The `&mut` shows that no guard exists.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    fn guard<'a>(
        &'a self,
        permit: Permit<&'a Semaphore>,
        holder: Option<WakerId>,
    ) -> MutexGuard<'a, T> {
        self.set_holder(holder);
        MutexGuard {
            value: self.value.borrow_mut(),
            _permit: permit,
        }
    }

    /// Notes the future that has locked it.
    #[inline]
    fn set_holder(&self, holder: Option<WakerId>) {
        let waiters = self.lock.waiters();
        waiters.holder().unwrap_or(&self.holder).set(holder);
    }

    /// Called after a future has joined the queue.
    #[inline]
    fn list_waiting(&self) {
        if let Some(holder) = self.holder.take() {
            self.list_holder(holder);
        }
    }

    /// Moves the holder to the list that the first waiter has created.
    #[cold]
    fn list_holder(&self, holder: WakerId) {
        if let Some(listed) = self.lock.waiters().holder() {
            listed.set(Some(holder));
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

// Without the value, because formatting it is user code.
impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("locked", &(self.lock.available_permits() == 0))
            .finish_non_exhaustive()
    }
}

/// The lock of a [`Mutex`]. Dropping it unlocks the mutex for the next waiter.
#[must_use = "dropping this unlocks the mutex"]
pub struct MutexGuard<'a, T: ?Sized> {
    // In this order, so that the borrow ends before the next waiter is woken.
    value: RefMut<'a, T>,
    _permit: Permit<&'a Semaphore>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// The future of [`Mutex::lock`]. It joins the queue when it is first polled.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Lock<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    acquire: Acquire<&'a Semaphore>,
}

impl<'a, T: ?Sized> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(permit) = self.acquire.poll_at(cx, Location::caller()) else {
            self.mutex.list_waiting();
            return Poll::Pending;
        };
        let permit = permit.expect("a mutex is never closed");
        let holder = WakerId::of(cx.waker());
        Poll::Ready(self.mutex.guard(permit, Some(holder)))
    }
}

impl<T: ?Sized> FusedFuture for Lock<'_, T> {
    fn is_terminated(&self) -> bool {
        self.acquire.is_terminated()
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The lock of a [`Mutex`] that it owns (see [`Mutex::lock_owned`]). Dropping it unlocks the mutex
/// for the next waiter.
#[must_use = "dropping this unlocks the mutex"]
pub struct OwnedMutexGuard<T: ?Sized> {
    permit: Permit<OwnedLock<T>>,
}

/// The semaphore of a mutex that it owns.
struct OwnedLock<T: ?Sized>(Rc<Mutex<T>>);

impl<T: ?Sized> Deref for OwnedLock<T> {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0.lock
    }
}

impl<T: ?Sized> Deref for OwnedMutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = self.permit.semaphore().0.value.as_ptr();
        // SAFETY: the value is accessed only through `&mut Mutex`, which the `Rc` excludes, and by
        // the guard that has the one permit of `lock`, which is this one.
        unsafe { &*value }
    }
}

impl<T: ?Sized> DerefMut for OwnedMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        let value = self.permit.semaphore().0.value.as_ptr();
        // SAFETY: as in `deref`, and `&mut self` excludes references from it.
        unsafe { &mut *value }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for OwnedMutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
