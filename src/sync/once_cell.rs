//! A cell with a value that an asynchronous function computes once.

use std::cell::OnceCell as StdOnceCell;
use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use windlass_executor::budget;

use super::mutex::Mutex;

/// A cell with a value that is computed once, by an asynchronous function.
///
/// The first task that needs the value computes it, and the others wait. If that task is cancelled,
/// panics or fails, the next one computes it with its own function.
///
/// The list of waits ([`inspect`](crate::inspect)) shows the others as waiting for a lock, which
/// the computing task holds.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use windlass::sync::OnceCell;
/// use windlass::{block_on, spawn, yield_now};
///
/// block_on(async {
///     let config = Rc::new(OnceCell::new());
///     let readers = ["first", "second"].map(|name| {
///         let config = config.clone();
///         spawn(async move {
///             let read = async || {
///                 yield_now().await; // the read
///                 name
///             };
///             *config.get_or_init(read).await
///         })
///     });
///     for reader in readers {
///         assert_eq!(reader.await, "first");
///     }
///     assert_eq!(config.get(), Some(&"first"));
/// });
/// ```
pub struct OnceCell<T> {
    value: StdOnceCell<T>,
    /// Locked while a task computes the value.
    computing: Mutex<()>,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<T: UnwindSafe> UnwindSafe for OnceCell<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceCell<T> {}

impl<T> OnceCell<T> {
    /// Creates an empty cell.
    #[track_caller]
    pub const fn new() -> Self {
        OnceCell {
            value: StdOnceCell::new(),
            computing: Mutex::new(()),
        }
    }

    /// Returns the value. If there is none, computes it, or waits until another task has computed
    /// it.
    ///
    /// A function that calls this for the same cell waits forever.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it computes the value, it drops the future of the function,
    /// and the next waiter starts with its own function.
    pub async fn get_or_init(&self, init: impl AsyncFnOnce() -> T) -> &T {
        let init = async || Ok::<_, Infallible>(init().await);
        match self.get_or_try_init(init).await {
            Ok(value) => value,
            Err(impossible) => match impossible {},
        }
    }

    /// Returns the value. If there is none, tries to compute it, or waits until another task has
    /// computed it.
    ///
    /// # Errors
    ///
    /// Returns the error of the function. The cell stays empty, and the next waiter starts with its
    /// own function.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`get_or_init`](Self::get_or_init).
    ///
    /// ```
    /// use windlass::block_on;
    /// use windlass::sync::OnceCell;
    ///
    /// block_on(async {
    ///     let cell = OnceCell::new();
    ///     assert_eq!(cell.get_or_try_init(async || Err("a leak")).await, Err("a leak"));
    ///     assert_eq!(cell.get_or_try_init(async || Ok::<_, ()>(1)).await, Ok(&1));
    ///     assert_eq!(cell.get_or_try_init(async || Err("never called")).await, Ok(&1));
    /// });
    /// ```
    pub async fn get_or_try_init<E>(
        &self,
        init: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if let Some(value) = self.get() {
            budget::charge().await;
            return Ok(value);
        }
        let _computing = self.computing.lock().await;
        if let Some(value) = self.get() {
            return Ok(value); // the previous holder of the lock has computed it
        }
        let value = init().await?;
        Ok(self.value.get_or_init(|| value))
    }

    /// Returns the value, or `None` if it was not computed yet.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Returns the value, or `None` if it was not computed yet. The `&mut` shows that no task
    /// computes it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// Returns the value if the cell has one, if a task computes one, or if tasks are about to do
    /// so.
    ///
    /// ```
    /// use windlass::sync::OnceCell;
    ///
    /// let cell = OnceCell::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// assert_eq!(cell.get(), Some(&1));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        match self.computing.try_lock() {
            Some(_computing) => self.value.set(value),
            None => Err(value),
        }
    }

    /// Takes the value out, and leaves the cell empty.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    /// Returns the value and drops the cell.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    #[track_caller]
    fn default() -> Self {
        OnceCell::new()
    }
}

/// Returns a cell with this value.
impl<T> From<T> for OnceCell<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        OnceCell {
            value: value.into(),
            computing: Mutex::new(()),
        }
    }
}

// Without the value, because formatting it is user code.
impl<T> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceCell")
            .field("is_set", &self.get().is_some())
            .finish_non_exhaustive()
    }
}
