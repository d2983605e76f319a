//! The signals of a host.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};

/// The listeners for signals in a host.
#[derive(Default)]
pub(crate) struct HostSignals {
    /// The signals, and the flags that they set.
    listeners: RefCell<Vec<(i32, Weak<AtomicBool>)>>,
    wakers: RefCell<Vec<Waker>>,
}

impl HostSignals {
    /// Adds a listener, until the flag is dropped.
    pub(crate) fn add(&self, signal: i32, flag: &Arc<AtomicBool>) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.retain(|(_, flag)| flag.strong_count() > 0);
        listeners.push((signal, Arc::downgrade(flag)));
    }

    /// Registers a task for the next signal.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone(); // user code, before the borrow
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|known| known.will_wake(&waker)) {
            wakers.push(waker);
        }
    }

    /// Sends a signal. Returns false if nothing listens for it.
    pub(super) fn raise(&self, signal: i32) -> bool {
        let listeners = self.listeners.borrow();
        let flags = listeners.iter().filter(|(number, _)| *number == signal);
        let flags: Vec<_> = flags.filter_map(|(_, flag)| flag.upgrade()).collect();
        drop(listeners);
        for flag in &flags {
            flag.swap(true, AcqRel);
        }
        let wakers = mem::take(&mut *self.wakers.borrow_mut());
        windlass_reactor::wake::wake_all(wakers);
        !flags.is_empty()
    }
}

impl fmt::Debug for HostSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSignals").finish_non_exhaustive()
    }
}
