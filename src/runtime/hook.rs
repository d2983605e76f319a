//! The wake hook, which notifies a host that watches no file descriptor.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering::AcqRel;
use std::task::{Wake, Waker};

#[cfg(all(windlass_loom, test))]
use loom::sync::atomic::AtomicBool;
#[cfg(not(all(windlass_loom, test)))]
use std::sync::atomic::AtomicBool;

#[cfg(all(windlass_loom, test))]
#[path = "hook_models.rs"]
mod models;

/// A function of the host.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    pub(crate) fn new(hook: impl Fn() + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(hook))
    }
}

// It is `Sync`, so state that it changes is behind locks or atomics.
impl UnwindSafe for Hook {}
impl RefUnwindSafe for Hook {}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

/// The waker of a runtime that has a hook. It wakes the reactor, and calls the hook unless it has
/// done so since the host's last turn.
pub(crate) struct HookWaker {
    reactor: Waker,
    hook: Hook,
    /// The host is in a turn or was notified to take one, so it will see all wakes.
    notified: AtomicBool,
}

impl HookWaker {
    pub(crate) fn new(reactor: Waker, hook: Hook) -> HookWaker {
        HookWaker {
            reactor,
            hook,
            notified: AtomicBool::new(false),
        }
    }

    /// Suspends the hook at the start of a turn or a `block_on`.
    pub(crate) fn suspend(&self) {
        self.notified.swap(true, AcqRel);
    }

    /// Resumes the hook at the end of a turn. Wakes during the turn were stored before they got to
    /// this flag, so the caller sees their tasks now, and has to wake if any are ready.
    pub(crate) fn resume(&self) {
        self.notified.swap(false, AcqRel);
    }
}

impl Wake for HookWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reactor.wake_by_ref();
        if !self.notified.swap(true, AcqRel) {
            (self.hook.0)();
        }
    }
}
