//! Long chains of tasks that own each other, on a small stack.

// Each test file uses a different part of this module.
#![allow(dead_code)]

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::thread;

use windlass_executor::{Executor, Task};

use crate::common::{hold, on_drop, settle};

/// Far more recursive drops than fit on a stack of `STACK` bytes.
pub(crate) const LENGTH: usize = 100_000;

/// An eighth of the default stack of a thread, in bytes.
pub(crate) const STACK: usize = 256 * 1024;

/// Counts dropped guards, to check that all destructors have run.
#[derive(Clone, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn guard(&self) -> impl Sized + use<> {
        let count = self.clone();
        on_drop(move || count.0.set(count.0.get() + 1))
    }

    #[track_caller]
    pub(crate) fn is(&self, expected: usize) {
        assert_eq!(self.0.replace(0), expected);
    }
}

/// Runs a test on a small stack.
#[track_caller]
pub(crate) fn on_a_small_stack(test: impl FnOnce(Executor, Count) + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK);
    let thread = thread.spawn(|| test(Executor::new(), Count::default()));
    thread.unwrap().join().expect("the test passes");
}

/// Creates a chain of tasks from its end. `link` creates a future that holds the rest.
pub(crate) fn chain<T: 'static, F>(
    executor: &Executor,
    mut link: impl FnMut(Option<Task<T>>) -> F,
) -> Task<T>
where
    F: Future<Output = T> + 'static,
{
    let mut rest = None;
    for _ in 0..LENGTH {
        rest = Some(executor.spawn(link(rest)));
    }
    settle(executor);
    rest.expect("there is a link")
}

pub(crate) fn pending_chain(executor: &Executor, count: &Count) -> Task<()> {
    chain(executor, |rest| hold((rest, count.guard())))
}
