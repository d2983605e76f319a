//! A lock that may be held over an await.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::semaphore::{Acquire, Permit, Semaphore};

/// A lock that may be held over an await.
///
/// On one thread only what is held over an await needs a lock; for all else a `Cell` or a
/// `RefCell` does, at less. It is for steps that belong together and wait in between: a request
/// and its reply on a connection that several tasks use, say.
///
/// Fair: first come, first served, handed over directly. There is no poisoning: when a task panics
/// or is dropped while it has the lock, the next one gets it, and the value as it is then.
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
///                 yield_now().await; // others run, but none of them gets the lock
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
    /// The one permit to use the value.
    lock: Semaphore,
    /// Borrowed while there is a guard. Between two guards, when the lock has been handed over and
    /// the next one was not polled yet, only `lock` knows that it is taken.
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// A lock, open, around a value.
    pub const fn new(value: T) -> Self {
        Mutex {
            lock: Semaphore::new(1),
            value: RefCell::new(value),
        }
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock, which is open again when the guard is dropped.
    ///
    /// A task that has the lock and waits for it once more waits for ever.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, its place in the line is lost, and a lock that it has been given
    /// already is handed on.
    pub fn lock(&self) -> Lock<'_, T> {
        Lock {
            mutex: self,
            acquire: self.lock.acquire(1),
        }
    }

    /// The lock, if it can be had at once: nobody has it, and nobody waits for it.
    ///
    /// ```
    /// use windlass::sync::Mutex;
    ///
    /// let mutex = Mutex::new(1);
    /// let guard = mutex.try_lock().expect("it is open");
    /// assert!(mutex.try_lock().is_none());
    /// ```
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let permit = self.lock.try_acquire(1).ok()?;
        Some(self.guard(permit))
    }

    /// The value; that nobody else has the lock is plain from the `&mut`.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    fn guard<'a>(&'a self, permit: Permit<&'a Semaphore>) -> MutexGuard<'a, T> {
        MutexGuard {
            value: self.value.borrow_mut(),
            _permit: permit,
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

// Without the value: to format it is user code.
impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("locked", &(self.lock.available_permits() == 0))
            .finish_non_exhaustive()
    }
}

/// The lock of a [`Mutex`]. Dropped, it is handed to the next who waits.
#[must_use = "the lock is open again when this is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    // In this order: the borrow ends before the next one is told.
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

/// The future of [`Mutex::lock`]. It joins the line when it is first polled.
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Lock<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    acquire: Acquire<&'a Semaphore>,
}

impl<'a, T: ?Sized> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let permit = ready!(Pin::new(&mut self.acquire).poll(cx));
        Poll::Ready(self.mutex.guard(permit.expect("a mutex is never closed")))
    }
}

impl<T: ?Sized> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}
