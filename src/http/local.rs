//! A value that is `Send` and stays on its thread.
//!
//! hyper-util's pool requires `Send`, although a client and its connections stay on one thread.

use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
use std::thread::{self, ThreadId};

/// A value that only its own thread can reach. A use on another thread panics, and a drop there
/// leaks the value.
pub(super) struct Local<T> {
    value: ManuallyDrop<T>,
    thread: ThreadId,
}

// SAFETY: each access to the value, and its drop, checks that it is on the thread that made it.
unsafe impl<T> Send for Local<T> {}
// SAFETY: as for `Send`; a reference gives access to the value only through the same check.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    pub(super) fn new(value: T) -> Local<T> {
        Local {
            value: ManuallyDrop::new(value),
            thread: thread::current().id(),
        }
    }

    pub(super) fn into_inner(mut self) -> T {
        self.check();
        // SAFETY: nothing uses the value after it was taken, because its drop is skipped.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        mem::forget(self);
        value
    }

    fn check(&self) {
        assert!(
            thread::current().id() == self.thread,
            "an HTTP connection or body was used on another thread than its own"
        );
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.check();
        &self.value
    }
}

impl<T> DerefMut for Local<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.check();
        &mut self.value
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if thread::current().id() == self.thread {
            // SAFETY: nothing uses the value after this drop, which is on its own thread.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
