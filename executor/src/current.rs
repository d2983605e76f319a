//! Which executors live on this thread, and which one is entered.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use crate::inbox;
use crate::inner::ExecutorInner;
use crate::key::Key;

// `ManuallyDrop`, because a thread-local value without a destructor is reached in one instruction,
// and is still there for wakers and destructors that run while the thread ends. Nothing leaks: an
// executor that is dropped takes itself off the list, and a guard what it has put in.
thread_local! {
    /// The executors that live here: a wake of one of them needs no lock.
    static LIVING: RefCell<ManuallyDrop<Vec<Rc<ExecutorInner>>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// The one that `spawn` means, and most wakes: they look here first. It's out of its place for
    /// moments in which no user code runs.
    static ENTERED: Cell<ManuallyDrop<Option<Rc<ExecutorInner>>>> =
        const { Cell::new(ManuallyDrop::new(None)) };
}

pub(crate) fn add(core: Rc<ExecutorInner>) {
    LIVING.with_borrow_mut(|living| living.push(core));
}

pub(crate) fn remove(executor: u16) {
    let removed = LIVING.with_borrow_mut(|living| {
        let position = living.iter().position(|core| core.id() == executor)?;
        let removed = living.swap_remove(position);
        if living.is_empty() {
            living.shrink_to_fit();
        }
        Some(removed)
    });
    drop(removed); // not under the borrow
}

/// Wakes a task, of whichever executor it is.
#[inline]
pub(crate) fn wake(key: Key) {
    let queued = with_entered(|entered| entered.as_ref()?.wake(key));
    // What is seldom needed is out of the way, so that a wake needs hardly a register.
    match queued {
        Some(false) => {}
        Some(true) => wake_driver(),
        None => wake_another(key),
    }
}

/// The entered executor rested.
#[cold]
fn wake_driver() {
    if let Some(core) = entered() {
        core.wake_driver(); // user code, with all in its place
    }
}

/// A task of another executor of this thread, or of another thread.
#[cold]
fn wake_another(key: Key) {
    match living(key.executor()) {
        Some(core) if core.wake(key) == Some(true) => core.wake_driver(),
        Some(_) => {}
        None => inbox::of(key.executor()).post(key),
    }
}

/// The executor of that id, if it lives here.
#[cold]
pub(crate) fn living(executor: u16) -> Option<Rc<ExecutorInner>> {
    LIVING.with_borrow(|living| living.iter().find(|core| core.id() == executor).cloned())
}

/// True inside of a task of an executor of this crate: where blocking would stop all others.
///
/// ```
/// use windlass_executor::{block_on, in_task, Executor};
///
/// assert!(!in_task());
/// block_on(Executor::new().run(async { assert!(in_task()) }));
/// ```
pub fn in_task() -> bool {
    // Not only of the entered one: a task may have entered another.
    LIVING.with_borrow(|living| living.iter().any(|core| core.is_running()))
}

/// [`ExecutorInner::charge_turn`] of the innermost loop on this thread's stack.
#[cold]
pub(crate) fn charge_turn() -> Option<u64> {
    let entered = with_entered(|entered| entered.as_ref()?.charge_turn());
    // A task may have entered an executor that doesn't run.
    let running = |living: &ManuallyDrop<Vec<Rc<ExecutorInner>>>| {
        let mut numbers = living.iter().rev().map(|core| core.charge_turn());
        numbers.find_map(|number| number)
    };
    entered.or_else(|| LIVING.with_borrow(running))
}

/// True if another executor of this thread, which isn't being run, has a task that is ready.
#[inline]
pub(crate) fn others_ready(executor: u16) -> bool {
    // Most threads have one, and pay no more than this look.
    LIVING.with_borrow(|living| living.len() > 1 && any_ready(living, executor))
}

#[cold]
fn any_ready(living: &[Rc<ExecutorInner>], except: u16) -> bool {
    let mut others = living.iter().filter(|core| core.id() != except);
    others.any(|core| !core.is_running() && core.has_ready())
}

/// The entered executor.
#[cold]
pub(crate) fn entered() -> Option<Rc<ExecutorInner>> {
    with_entered(|entered| entered.clone())
}

/// Looks at the entered executor, in which no user code may run, and nothing may panic.
#[inline]
pub(crate) fn with_entered<R>(look: impl FnOnce(&Option<Rc<ExecutorInner>>) -> R) -> R {
    let entered = ENTERED.take();
    let seen = look(&entered);
    ENTERED.set(entered);
    seen
}

/// While it lives, `spawn` on this thread means its executor.
#[derive(Debug)]
#[must_use = "the executor is left again when this is dropped"]
pub struct Entered {
    before: Option<Rc<ExecutorInner>>,
}

pub(crate) fn enter(core: Rc<ExecutorInner>) -> Entered {
    Entered {
        before: replace(Some(core)),
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = replace(self.before.take());
        drop(left);
    }
}

/// What was there is handed out, to be dropped under no borrow.
fn replace(core: Option<Rc<ExecutorInner>>) -> Option<Rc<ExecutorInner>> {
    ManuallyDrop::into_inner(ENTERED.replace(ManuallyDrop::new(core)))
}
