//! Which types may be used after a panic that was caught while they were in use.
//!
//! No user code runs while the state of these is inconsistent. So a panic leaves all of them
//! usable, and the tests see to it. That they hold cells or values of any type doesn't matter, as
//! with [`std::thread::JoinHandle`]. What holds these is unwind safe as well, if the rest of it is.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::cell::OutputRef;
use crate::inner::ExecutorInner;

macro_rules! unwind_safe {
    ($([$($parameter:tt),*] $type:ty;)+) => { $(
        impl<$($parameter),*> UnwindSafe for $type {}
        impl<$($parameter),*> RefUnwindSafe for $type {}
    )+ };
}

unwind_safe! {
    [] ExecutorInner;
    [T] OutputRef<T>;
}
