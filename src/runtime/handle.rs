//! A handle to a runtime, for code on its thread.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use windlass_executor::Task;

use super::enter::EnterGuard;
use super::remote::Remote;

/// Spawns tasks on a runtime of this thread. Returned by [`Runtime::current`] and
/// [`Runtime::handle`].
///
/// It is `Clone` and belongs to the thread; [`Remote`] is the handle for other threads. It does not
/// keep the runtime. After the runtime was dropped, spawned futures are dropped at once, and
/// awaiting such a task panics.
///
/// # The current runtime
///
/// | here | [`spawn`](crate::spawn()), [`Runtime::current`] and [`Remote::current`] use |
/// |---|---|
/// | in a task, a turn or a `block_on` | its runtime, whatever guards there are |
/// | between turns, under guards of [`Runtime::enter`] | the runtime of the newest guard |
/// | elsewhere | none: `spawn` and `current` panic, and `try_current` returns `None` |
///
/// # Examples
///
/// ```
/// use windlass::{Handle, Runtime};
///
/// /// A library that spawns where it is used, also from callbacks between turns.
/// struct Logger {
///     handle: Handle,
/// }
///
/// impl Logger {
///     fn log(&self, line: &'static str) {
///         self.handle.spawn(async move { println!("{line}") }).detach();
///     }
/// }
///
/// let runtime = Runtime::new()?;
/// let logger = runtime.block_on(async {
///     Logger { handle: Runtime::current() }
/// });
/// logger.log("between turns");
/// runtime.turn(None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [`Remote`]: crate::Remote
/// [`Remote::current`]: crate::Remote::current
/// [`Runtime::current`]: crate::Runtime::current
/// [`Runtime::enter`]: crate::Runtime::enter
/// [`Runtime::handle`]: crate::Runtime::handle
#[derive(Clone)]
pub struct Handle {
    pub(super) executor: windlass_executor::Handle,
}

impl Handle {
    /// Returns a handle to the current runtime. `None` if there is none.
    pub(crate) fn current() -> Option<Handle> {
        let executor = windlass_executor::Handle::current()?;
        Some(Handle { executor })
    }

    /// Spawns a task on the runtime, as [`Runtime::spawn`](crate::Runtime::spawn) does.
    ///
    /// ```
    /// let runtime = windlass::Runtime::new()?;
    /// let task = runtime.handle().spawn(async { 7 });
    /// assert_eq!(runtime.block_on(task), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        #[cfg(feature = "tracing")]
        let future = crate::tracing::traced(Location::caller(), future);
        self.executor.spawn_at(Location::caller(), future)
    }

    /// Returns a handle that spawns tasks on the runtime from other threads.
    #[track_caller]
    pub fn remote(&self) -> Remote {
        Remote::of(&self.executor, Location::caller())
    }

    /// Makes the runtime the current one between turns. See
    /// [`Runtime::enter`](crate::Runtime::enter).
    ///
    /// The guard has no effect once the runtime is dropped.
    pub fn enter(&self) -> EnterGuard<'_> {
        EnterGuard::new(&self.executor)
    }

    /// Returns true once the runtime drops its tasks or was dropped.
    pub fn is_closed(&self) -> bool {
        self.executor.is_closed()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
