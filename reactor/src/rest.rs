//! Whether the loop is awake: so that only wakes that have to end a sleep ring the bell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::atomic::{AtomicU8, Ordering::AcqRel};
use std::task::Wake;

use crate::fork::Origin;
use crate::poller::Notifier;

/// The loop will look at what was woken before it sleeps.
const AWAKE: u8 = 0;
/// Something was woken since: the loop must not sleep.
const WOKEN: u8 = 1;
/// The loop sleeps, or is not on the stack at all: who wakes must ring.
const ASLEEP: u8 = 2;

/// ```text
///          rest()                  rise(): the wait ends
///   AWAKE ────────► ASLEEP ──────────────────────────────► AWAKE
///     │               │                                      ▲
///     │ rouse()       │ rouse(), rings the bell              │ rise(): the turn ends, and
///     └────► WOKEN ◄──┘──────────────────────────────────────┘ all that was woken is looked at
/// ```
#[derive(Debug)]
pub(crate) struct Rest {
    state: AtomicU8,
    bell: Notifier,
    origin: Origin,
}

impl Rest {
    pub(crate) fn new(bell: Notifier) -> Self {
        Rest {
            state: AtomicU8::new(ASLEEP),
            bell,
            origin: Origin::here(),
        }
    }

    /// From any thread: the loop shall look again. What it shall find was stored before this call.
    pub(crate) fn rouse(&self) {
        if self.state.swap(WOKEN, AcqRel) == ASLEEP {
            self.ring();
        }
    }

    /// Not in a forked child: that would wake the parent.
    #[cold]
    fn ring(&self) {
        if self.origin.is_here() {
            self.bell.notify();
        }
    }

    /// The loop is about to sleep. False if something was woken since it last looked.
    pub(crate) fn rest(&self) -> bool {
        self.state
            .compare_exchange(AWAKE, ASLEEP, AcqRel, Acquire)
            .is_ok()
    }

    /// The loop looks again, at all that was woken before.
    pub(crate) fn rise(&self) {
        self.state.swap(AWAKE, AcqRel);
    }

    /// The loop leaves the stack. A wake that it has not looked at must be heard outside, so the
    /// bell rings, and the poller's descriptor becomes readable.
    pub(crate) fn leave(&self) {
        if self.state.swap(ASLEEP, AcqRel) == WOKEN {
            self.ring();
        }
    }
}

/// As a waker: for loops that look at everything after each turn.
impl Wake for Rest {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

/// The waker of one `block_on`. Each has a flag of its own: a nested `block_on` on the same
/// reactor must not swallow the wake of the outer one.
#[derive(Debug)]
pub(crate) struct Parker {
    woken: AtomicBool,
    rest: Arc<Rest>,
}

impl Parker {
    pub(crate) fn new(rest: Arc<Rest>) -> Self {
        Parker {
            woken: AtomicBool::new(true),
            rest,
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Acquire)
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, AcqRel)
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, AcqRel) {
            self.rest.rouse();
        }
    }
}
