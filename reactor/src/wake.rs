//! Calling and dropping wakers, which is user code.
//!
//! A waker may panic, turn the reactor, or drop a future. So call these functions only outside of
//! borrows and locks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls all wakers, even if some of them panic.
#[inline]
pub fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        discard_panic(|| waker.wake());
    }
}

/// Drops wakers one by one. If a drop of several panicked twice, the process would abort.
pub fn drop_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        discard_panic(|| drop(waker));
    }
}

/// Runs user code and discards its panic. The panic hook has reported it.
#[inline]
pub fn discard_panic(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        discard(payload);
    }
}

/// Drops the payload of a panic. The payload of a second panic, in that drop, is leaked.
#[cold]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
