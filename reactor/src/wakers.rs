//! Calling and dropping wakers, which is user code.
//!
//! A waker may do anything: panic, turn the reactor, drop a future. So these functions are called
//! while no borrow and no lock is held.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls wakers. A panic of one doesn't keep the others from being called.
#[inline]
pub fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        discard_panic(|| waker.wake());
    }
}

/// Drops wakers. A panic of one doesn't end the process when several panic.
pub fn drop_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        discard_panic(|| drop(waker));
    }
}

/// Runs user code whose panic has no caller to go to. The panic hook has reported it.
#[inline]
pub fn discard_panic(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        discard(payload);
    }
}

/// Drops the payload of a panic. If that panics as well, the second payload is leaked.
#[cold]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
