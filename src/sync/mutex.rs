//! A lock that may be held across an await.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::semaphore::{Acquire, Permit, Semaphore};
use super::wait_queue::QueueOwner;
use crate::waits::WakerId;

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
    /// Borrowed while there is a guard. After a handover and before the next owner is polled, only
    /// `lock` shows that the mutex is locked.
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
        self.lock
            .waiters()
            .holder()
            .unwrap_or(&self.holder)
            .set(holder);
        MutexGuard {
            value: self.value.borrow_mut(),
            _permit: permit,
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
            if let Some(holder) = self.mutex.holder.take() {
                self.mutex.list_holder(holder);
            }
            return Poll::Pending;
        };
        let permit = permit.expect("a mutex is never closed");
        let holder = WakerId::of(cx.waker());
        Poll::Ready(self.mutex.guard(permit, Some(holder)))
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}
