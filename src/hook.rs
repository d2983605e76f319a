//! The wake hook: word to a host that watches no descriptor.

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

/// What the host wants to be called.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    pub(crate) fn new(hook: impl Fn() + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(hook))
    }
}

// It's called from any thread, so what it changes is behind locks or atomics.
impl UnwindSafe for Hook {}
impl RefUnwindSafe for Hook {}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

/// The waker of a runtime that has a hook: ends the reactor's sleep, and calls the hook if the
/// host has not been called since its last turn.
pub(crate) struct Messenger {
    reactor: Waker,
    hook: Hook,
    /// The host is in a turn, or was told that it must take one: it will look at everything.
    told: AtomicBool,
}

impl Messenger {
    pub(crate) fn new(reactor: Waker, hook: Hook) -> Messenger {
        Messenger {
            reactor,
            hook,
            told: AtomicBool::new(false),
        }
    }

    /// A turn begins, or a `block_on`: until it ends, the host needn't be told.
    pub(crate) fn hold(&self) {
        self.told.swap(true, AcqRel);
    }

    /// It ends. What was woken while it lasted was stored before the wake, so the caller sees it
    /// now, and is to wake for what is left.
    pub(crate) fn release(&self) {
        self.told.swap(false, AcqRel);
    }
}

impl Wake for Messenger {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reactor.wake_by_ref();
        if !self.told.swap(true, AcqRel) {
            (self.hook.0)();
        }
    }
}
