//! The types that may be used after a panic was caught.
//!
//! The compiler assumes that a panic can leave a cell half changed. In this crate, user code runs
//! only while every table is consistent and unborrowed. Wakers are called, cloned and dropped
//! before or after a change. So all state is consistent whenever user code can panic.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::entry::SourceEntry;
use crate::reactor::{Awake, Reactor};
use crate::source::Source;

macro_rules! unwind_safe {
    ($($type:ty),*) => { $(
        impl UnwindSafe for $type {}
        impl RefUnwindSafe for $type {}
    )* };
}

// Every type with a descriptor contains a source.
unwind_safe!(Source, SourceEntry);
unwind_safe!(Reactor, Awake<'_>);
