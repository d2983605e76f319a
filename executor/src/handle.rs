//! A handle that spawns tasks on an executor of this thread.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::rc::{Rc, Weak};

use crate::cell::OutputRef;
use crate::current;
use crate::fallback::{self, Fallback};
use crate::inner::ExecutorInner;
use crate::task::Task;

/// Spawns tasks on an executor of this thread, without a reference to the `Executor` itself.
///
/// It does not keep the executor alive. Once that was dropped, spawned futures are dropped at once.
///
/// # Examples
///
/// ```
/// use windlass_executor::{Executor, Handle, block_on};
///
/// let executor = Executor::new();
/// let answer = block_on(executor.run(async {
///     let handle = Handle::current().expect("the executor runs");
///     handle.spawn(async { 7 }).await
/// }));
/// assert_eq!(answer, 7);
/// ```
#[derive(Clone)]
pub struct Handle {
    inner: Weak<ExecutorInner>,
}

// A panic leaves an executor consistent.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl Handle {
    pub(crate) fn new(inner: &Rc<ExecutorInner>) -> Handle {
        Handle {
            inner: Rc::downgrade(inner),
        }
    }

    /// Returns a handle to the executor that [`spawn`](crate::spawn) uses here. `None` if there is
    /// none.
    pub fn current() -> Option<Handle> {
        let inner = current::entered().or_else(fallback::newest)?;
        Some(Handle::new(&inner))
    }

    /// Spawns a task. The loop polls it later, never at once.
    ///
    /// # Panics
    ///
    /// Panics as [`Executor::spawn`](crate::Executor::spawn) does.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> Task<F::Output> {
        self.spawn_at(Location::caller(), future)
    }

    /// Spawns a task on behalf of other code. See [`spawn_at`](crate::spawn_at).
    ///
    /// # Panics
    ///
    /// Panics as [`spawn`](Handle::spawn) does.
    pub fn spawn_at<F>(&self, spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        let cell = OutputRef::new(future, spawned_at);
        match self.inner.upgrade() {
            Some(inner) => Task::spawn(&inner, cell),
            None => Task::without_executor(cell),
        }
    }

    /// Returns true once the executor drops its tasks or was dropped.
    pub fn is_closed(&self) -> bool {
        self.inner.upgrade().is_none_or(|inner| inner.is_closed())
    }

    /// Returns true if both are handles to the same executor.
    pub fn is_same(&self, other: &Handle) -> bool {
        self.inner.ptr_eq(&other.inner)
    }

    /// Makes [`spawn`](crate::spawn) on this thread use this executor while none is entered, until
    /// the guard is dropped. This is for the code of a host between two turns of the loop.
    ///
    /// The executor of a loop, and one that is [entered](crate::Executor::enter), takes precedence.
    /// So a guard has no effect inside of tasks, and it may be held over turns and awaits. Of
    /// several guards the newest one counts, and they may be dropped in any order. A guard of an
    /// executor that was dropped has no effect. `None` if it is dropped already.
    ///
    /// ```
    /// use windlass_executor::{Executor, block_on, spawn};
    ///
    /// let (executor, other) = (Executor::new(), Executor::new());
    /// let _fallback = executor.handle().fall_back();
    /// spawn(async {}).detach();
    /// block_on(other.run(async { spawn(std::future::pending::<()>()).detach() }));
    /// assert_eq!((executor.tasks(), other.tasks()), (1, 1));
    /// ```
    pub fn fall_back(&self) -> Option<Fallback> {
        let inner = self.inner.upgrade()?;
        (!inner.is_closed()).then(|| fallback::add(inner))
    }

    /// Returns the value that [`set_extension`](Handle::set_extension) has stored in the executor.
    pub fn extension(&self) -> Option<Rc<dyn Any>> {
        self.inner.upgrade()?.extension.get().cloned()
    }

    /// Stores a value in the executor, unless it has one. It is dropped after the executor.
    ///
    /// ```
    /// # use std::rc::Rc;
    /// # use windlass_executor::Executor;
    /// let executor = Executor::new();
    /// executor.handle().set_extension(Rc::new(7));
    /// let extension = executor.handle().extension().unwrap();
    /// assert_eq!(extension.downcast_ref(), Some(&7));
    /// ```
    pub fn set_extension(&self, value: Rc<dyn Any>) {
        if let Some(inner) = self.inner.upgrade() {
            drop(inner.extension.set(value));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("executor", &self.inner.upgrade())
            .finish()
    }
}
