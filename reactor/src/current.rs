//! This thread's reactor. It is in a thread-local variable, and a forked child has another one.
//!
//! The hub of a thread is its `ReactorInner`, the state that handles, sources and timers share.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::task::Waker;

use crate::fork;
use crate::reactor::{REACTOR, ReactorInner};
use crate::timers::TimerKey;

thread_local! {
    static HUB: Cell<Option<Kept>> = const { Cell::new(None) };
    /// The hub that a forked child uses in place of the one that its thread has inherited.
    static CHILD_HUB: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// The reference of a thread to its hub. A forked child leaks an inherited hub, because dropping
/// its poller there would remove descriptors from the epoll instance that the parent uses.
struct Kept(Rc<ReactorInner>);

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            std::mem::forget(self.0.clone());
        }
    }
}

/// Returns this thread's hub, and creates it if there is none.
#[inline]
pub(crate) fn hub() -> io::Result<Rc<ReactorInner>> {
    first_hub().map_or_else(make_hub, Ok)
}

/// Returns this thread's hub, if it was ever made and the thread is not ending.
#[inline]
pub(crate) fn made_hub() -> Option<Rc<ReactorInner>> {
    first_hub().or_else(child_hub)
}

/// Returns the hub that this thread made first, or `None` in a forked child that has inherited it.
#[inline]
fn first_hub() -> Option<Rc<ReactorInner>> {
    let found = with_kept(|hub| {
        let hub = &hub?.0;
        (!hub.is_inherited()).then(|| hub.clone())
    });
    found.flatten()
}

/// Calls `read` with the hub that this thread made first. Returns None while the thread ends.
///
/// The hub is taken out of its cell meanwhile, which is cheaper than a `RefCell`. `read` runs no
/// user code, does not panic and makes no hub.
#[inline]
fn with_kept<R>(read: impl FnOnce(Option<&Kept>) -> R) -> Option<R> {
    let result = HUB.try_with(|place| {
        let hub = place.take();
        let result = read(hub.as_ref());
        mem::forget(place.replace(hub)); // nothing
        result
    });
    result.ok()
}

#[cold]
fn make_hub() -> io::Result<Rc<ReactorInner>> {
    if let Some(hub) = child_hub() {
        return Ok(hub);
    }
    let new = Rc::new(ReactorInner::new()?);
    let kept = HUB.try_with(|place| {
        match place.take() {
            None => place.set(Some(Kept(new.clone()))),
            inherited => {
                place.set(inherited);
                CHILD_HUB.try_with(|hub| hub.replace(Some(Kept(new.clone()))))?;
            }
        }
        Ok(())
    });
    match kept.and_then(|kept| kept) {
        Ok(()) => Ok(new),
        Err(_) => Err(io::Error::other(
            "the thread is ending, and its reactor is gone",
        )),
    }
}

/// Stops a timer of the hub `id`, if that is this thread's. Returns its waker, which the caller
/// drops without a borrow.
#[inline]
pub(crate) fn stop_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    // This includes an inherited hub, because its timers are the child's own memory.
    let first = |hub: Option<&Kept>| {
        let hub = &hub.filter(|hub| hub.0.id() == id)?.0;
        Some(hub.stop_timer(timer))
    };
    match with_kept(first) {
        Some(Some(stopped)) => stopped,
        _ => stop_child_timer(id, timer),
    }
}

#[cold]
fn stop_child_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    child_hub().filter(|hub| hub.id() == id)?.stop_timer(timer)
}

/// Returns the hub that this thread has made since the process was forked.
#[cold]
fn child_hub() -> Option<Rc<ReactorInner>> {
    let found = CHILD_HUB.try_with(|hub| {
        let hub = hub.borrow();
        let here = hub.as_ref().filter(|hub| !hub.0.is_inherited());
        here.map(|hub| hub.0.clone())
    });
    found.ok().flatten()
}

/// Drops this thread's reactor and closes its file descriptors, unless a `Reactor` or a registered
/// source of the thread still uses it.
///
/// For idle threads, such as the threads of a pool between two closures. The next use creates
/// another reactor.
pub fn release_reactor() {
    if first_hub().is_none() {
        return;
    }
    let unused = HUB.try_with(|place| {
        let mut hub = place.take();
        let unused = hub.take_if(|hub| Rc::strong_count(&hub.0) == 1);
        place.set(hub);
        unused
    });
    drop(unused); // ends operations on files
}

/// Returns whether something turns this thread's reactor.
pub fn is_driven() -> bool {
    made_hub().is_some_and(|hub| hub.has_drivers())
}

/// Returns an error if nothing turns this thread's reactor, so that a future can fail instead of
/// waiting forever.
///
/// # Errors
///
/// The error names the remedy. In a forked child that is still inside of the parent's loop, it
/// reports that the reactor belongs to the parent.
pub fn check_driven() -> io::Result<()> {
    match is_driven() {
        true => Ok(()),
        false => Err(nobody_turns()),
    }
}

/// The error of a future that would wait without a driver to wake it.
#[cold]
pub(crate) fn nobody_turns() -> io::Error {
    // In a forked child that is still inside of the parent's loop, that is the cause.
    let inherited = |hub: &Kept| hub.0.is_inherited() && hub.0.has_drivers();
    if with_kept(|hub| hub.is_some_and(inherited)) == Some(true) {
        return fork::error(REACTOR);
    }
    io::Error::other(
        "no reactor turns on this thread, so this would wait for ever: run it inside of \
         `windlass::block_on` (or `windlass_reactor::block_on`), or hold a \
         `windlass_reactor::Reactor` and call its `turn`",
    )
}
