//! Which types may be used after a panic that was caught while they were in use.
//!
//! No user code runs while the state of these is inconsistent, and a value in a channel is there as
//! a whole or not at all. So a panic leaves all of them usable, and the tests see to it. That they
//! hold cells or values of any type doesn't matter, as with [`std::thread::JoinHandle`] and the
//! channels of std. What holds these is unwind safe as well, if the rest of it is.
//!
//! Not unwind safe: a [`watch`](crate::sync::watch) channel and a [`Mutex`](crate::sync::Mutex) by
//! reference, whose values are changed in place, without poisoning; and a
//! [`Coroutine`](crate::coroutine::Coroutine), whose body may borrow anything.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::sync::{Event, Semaphore};

macro_rules! unwind_safe {
    ($([$($parameter:tt),*] $type:ty;)+) => { $(
        impl<$($parameter),*> UnwindSafe for $type {}
        impl<$($parameter),*> RefUnwindSafe for $type {}
    )+ };
}

unwind_safe! {
    [R] crate::group::Shared<R>;
    ['env, R] crate::scope::Children<'env, R>;
    [] Event;
    [] Semaphore;
    [T] crate::sync::mpsc::Shared<T>;
    [T] crate::sync::oneshot::Shared<T>;
}
