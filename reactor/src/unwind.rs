//! What may be used after a panic was caught.
//!
//! The compiler takes cells for state that a panic can leave half changed. Here no code of the user
//! runs while a table is borrowed or a value is half changed: wakers are called, cloned and dropped
//! before or after. So all of this is consistent whenever a panic can come by.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::reactor::{Awake, Reactor};
use crate::source::Source;

macro_rules! unwind_safe {
    ($($type:ty),*) => { $(
        impl UnwindSafe for $type {}
        impl RefUnwindSafe for $type {}
    )* };
}

// All that has a descriptor has a source.
unwind_safe!(Source);
unwind_safe!(Reactor, Awake<'_>);
