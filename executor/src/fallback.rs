//! The executors that `spawn` uses while the thread runs no loop.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;

use crate::inner::ExecutorInner;

/// Each with the number of its guard, in the order of the guards.
type Fallbacks = ManuallyDrop<Vec<(u64, Rc<ExecutorInner>)>>;

// `ManuallyDrop`, so that a guard may be dropped while the thread ends.
thread_local! {
    static FALLBACKS: RefCell<Fallbacks> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// The guard of [`Handle::fall_back`](crate::Handle::fall_back).
#[derive(Debug)]
#[must_use = "`spawn` uses the executor until this is dropped"]
pub struct Fallback {
    number: u64,
    /// It belongs to this thread.
    not_send: PhantomData<*const ()>,
}

pub(crate) fn add(inner: Rc<ExecutorInner>) -> Fallback {
    let number = LAST_NUMBER.get() + 1;
    LAST_NUMBER.set(number);
    FALLBACKS.with_borrow_mut(|all| all.push((number, inner)));
    Fallback {
        number,
        not_send: PhantomData,
    }
}

/// The newest executor that still exists.
#[cold]
pub(crate) fn newest() -> Option<Rc<ExecutorInner>> {
    FALLBACKS.with_borrow(|all| {
        let newest = all.iter().rev().find(|(_, inner)| !inner.is_closed());
        newest.map(|(_, inner)| inner.clone())
    })
}

impl Drop for Fallback {
    fn drop(&mut self) {
        let removed = FALLBACKS.with_borrow_mut(|all| {
            let position = all.iter().position(|(number, _)| *number == self.number)?;
            let removed = all.remove(position);
            if all.is_empty() {
                drop(mem::take(&mut **all)); // the end of the thread would not free it
            }
            Some(removed)
        });
        drop(removed); // user code, perhaps, outside of the borrow
    }
}
