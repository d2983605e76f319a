//! The times at which a thread takes the steps of a wake.

use std::{cell::RefCell, time::Instant};

/// The name of a step, and the time when it was done.
pub(super) type Mark = (&'static str, Instant);

thread_local! {
    static MARKS: RefCell<Option<Vec<Mark>>> = const { RefCell::new(None) };
}

/// Notes the time of a step, if this thread records its steps.
pub(super) fn mark(step: &'static str) {
    MARKS.with_borrow_mut(|marks| {
        if let Some(marks) = marks {
            marks.push((step, Instant::now()));
        }
    });
}

/// Runs the work, and returns the steps that it has taken.
pub(super) fn record(work: impl FnOnce()) -> Vec<Mark> {
    MARKS.set(Some(Vec::with_capacity(1 << 16)));
    work();
    MARKS.take().unwrap_or_default()
}
