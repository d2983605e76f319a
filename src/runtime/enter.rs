//! A guard that makes a runtime the current one between its turns.

use std::fmt;
use std::marker::PhantomData;

use windlass_executor::{Fallback, Handle};

/// The panic where a current runtime is needed and there is none.
pub(super) const NOT_CURRENT: &str = "no runtime is current on this thread: call this inside of \
    `windlass::block_on` or a task, hold the guard of `Runtime::enter`, or pass a `Handle` or, to \
    another thread, a `Remote`";

/// The guard of [`Runtime::enter`](crate::Runtime::enter) and
/// [`Handle::enter`](crate::Handle::enter).
#[must_use = "the runtime is current until this is dropped: bind it to a name, since `let _ =` \
              drops it at once"]
pub struct EnterGuard<'a> {
    /// `None` if the runtime of a handle was dropped.
    fallback: Option<Fallback>,
    /// The guard of a `Runtime` does not outlive it.
    runtime: PhantomData<&'a ()>,
}

impl EnterGuard<'_> {
    pub(super) fn new(executor: &Handle) -> Self {
        EnterGuard {
            fallback: executor.fall_back(),
            runtime: PhantomData,
        }
    }
}

impl fmt::Debug for EnterGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnterGuard")
            .field("closed", &self.fallback.is_none())
            .finish_non_exhaustive()
    }
}
