//! Which executors live on this thread, and which one is running.

use std::cell::RefCell;
use std::rc::Rc;

use crate::executor::Core;

thread_local! {
    /// The executors that live here. A wake looks here first: what it finds needs no lock.
    static LIVING: RefCell<Vec<Rc<Core>>> = const { RefCell::new(Vec::new()) };
    /// The one that `spawn` means.
    static ENTERED: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

// Each access allows for a thread that is ending and whose values are gone already: wakes then
// take the way of foreign wakes, and `spawn` says that there is no executor.

pub(crate) fn add(core: Rc<Core>) {
    let _ = LIVING.try_with(|living| living.borrow_mut().push(core));
}

pub(crate) fn remove(executor: u16) {
    let core = LIVING.try_with(|living| {
        let mut living = living.borrow_mut();
        let position = living.iter().position(|core| core.id() == executor)?;
        Some(living.swap_remove(position))
    });
    drop(core); // not under the borrow
}

#[inline]
pub(crate) fn find(executor: u16) -> Option<Rc<Core>> {
    let found = |living: &RefCell<Vec<Rc<Core>>>| {
        living
            .borrow()
            .iter()
            .find(|core| core.id() == executor)
            .cloned()
    };
    LIVING.try_with(found).ok().flatten()
}

/// True inside of a poll of the entered executor, that is, inside of a task.
pub(crate) fn is_running() -> bool {
    entered().is_some_and(|core| core.is_running())
}

pub(crate) fn entered() -> Option<Rc<Core>> {
    ENTERED
        .try_with(|entered| entered.borrow().clone())
        .ok()
        .flatten()
}

/// While it lives, `spawn` on this thread means its executor.
#[derive(Debug)]
#[must_use = "the executor is left again when this is dropped"]
pub struct Entered {
    before: Option<Rc<Core>>,
}

pub(crate) fn enter(core: Rc<Core>) -> Entered {
    let before = ENTERED.try_with(|entered| entered.replace(Some(core)));
    Entered {
        before: before.ok().flatten(),
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let left = ENTERED.try_with(|entered| entered.replace(before));
        drop(left); // not under the borrow
    }
}
