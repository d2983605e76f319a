//! This thread's reactor. It is in a thread-local variable, and a forked child has another one.
//!
//! The reactor of a thread is its `ReactorInner`, the state that handles, sources and timers share.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::task::Waker;

use crate::fork;
use crate::inner::{REACTOR, ReactorInner};
use crate::timers::TimerKey;

thread_local! {
    static CURRENT: Cell<Option<Kept>> = const { Cell::new(None) };
    /// The reactor that a forked child uses in place of the one that its thread has inherited.
    static IN_CHILD: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// The reference of a thread to its reactor. A forked child leaks an inherited reactor, because
/// dropping its poller there would remove descriptors from the epoll instance that the parent uses.
pub(crate) struct Kept(Rc<ReactorInner>);

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            std::mem::forget(self.0.clone());
        }
    }
}

/// Returns this thread's reactor, and creates it if there is none.
#[inline]
pub(crate) fn current_reactor() -> io::Result<Rc<ReactorInner>> {
    first_reactor().map_or_else(create_reactor, Ok)
}

/// Returns this thread's reactor, if it was ever made and the thread is not ending.
#[inline]
pub(crate) fn existing_reactor() -> Option<Rc<ReactorInner>> {
    first_reactor().or_else(child_reactor)
}

/// Returns the reactor that this thread made first, or `None` in a forked child that inherited it.
#[inline]
fn first_reactor() -> Option<Rc<ReactorInner>> {
    let found = with_kept(|reactor| {
        let reactor = &reactor?.0;
        (!reactor.is_inherited()).then(|| reactor.clone())
    });
    found.flatten()
}

/// Calls `read` with the reactor that this thread made first. Returns None while the thread ends.
///
/// The reactor is out of its cell meanwhile, which is cheaper than a `RefCell`. `read` runs no
/// user code, does not panic and makes no reactor.
#[inline]
fn with_kept<R>(read: impl FnOnce(Option<&Kept>) -> R) -> Option<R> {
    let result = CURRENT.try_with(|place| {
        let reactor = place.take();
        let result = read(reactor.as_ref());
        mem::forget(place.replace(reactor)); // nothing
        result
    });
    result.ok()
}

#[cold]
fn create_reactor() -> io::Result<Rc<ReactorInner>> {
    if let Some(reactor) = child_reactor() {
        return Ok(reactor);
    }
    let new = Rc::new(ReactorInner::new()?);
    let kept = CURRENT.try_with(|place| {
        match place.take() {
            None => place.set(Some(Kept(new.clone()))),
            inherited => {
                place.set(inherited);
                IN_CHILD.try_with(|reactor| reactor.replace(Some(Kept(new.clone()))))?;
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

/// Stops a timer of the reactor `id`, if that is this thread's. Returns its waker, which the caller
/// drops without a borrow.
#[inline]
pub(crate) fn stop_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    // Also of an inherited reactor: its timers are the child's own memory.
    let first = |reactor: Option<&Kept>| {
        let reactor = &reactor.filter(|reactor| reactor.0.id() == id)?.0;
        Some(reactor.stop_timer(timer))
    };
    match with_kept(first) {
        Some(Some(stopped)) => stopped,
        _ => stop_child_timer(id, timer),
    }
}

#[cold]
fn stop_child_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    child_reactor()
        .filter(|reactor| reactor.id() == id)?
        .stop_timer(timer)
}

/// Returns the reactor that this thread has made since the process was forked.
#[cold]
fn child_reactor() -> Option<Rc<ReactorInner>> {
    let found = IN_CHILD.try_with(|reactor| {
        let reactor = reactor.borrow();
        let here = reactor.as_ref().filter(|reactor| !reactor.0.is_inherited());
        here.map(|reactor| reactor.0.clone())
    });
    found.ok().flatten()
}

/// Gives the thread another reactor. Returns the previous one.
#[cfg(all(target_os = "linux", not(windlass_portable)))]
pub(crate) fn replace_reactor(reactor: Option<Kept>) -> Option<Kept> {
    CURRENT
        .try_with(|place| place.replace(reactor))
        .ok()
        .flatten()
}

/// Drops this thread's reactor and closes its file descriptors, unless a `Reactor` or a registered
/// source of the thread still uses it.
///
/// For idle threads, such as the threads of a pool between two closures. The next use creates
/// another reactor.
pub fn release_reactor() {
    if first_reactor().is_none() {
        return;
    }
    let unused = CURRENT.try_with(|place| {
        let mut reactor = place.take();
        let unused = reactor.take_if(|reactor| Rc::strong_count(&reactor.0) == 1);
        place.set(reactor);
        unused
    });
    drop(unused); // ends operations on files
}

/// Returns whether something turns this thread's reactor.
pub fn is_driven() -> bool {
    existing_reactor().is_some_and(|reactor| reactor.has_drivers())
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
        false => Err(not_driven_here()),
    }
}

/// Returns an error if nothing turns the reactor. For operations that are about to wait.
#[inline]
pub(crate) fn check_driven_by(reactor: &ReactorInner) -> io::Result<()> {
    if reactor.is_driven() {
        Ok(())
    } else {
        Err(not_driven(reactor))
    }
}

/// Returns the error of an operation that would wait forever for this reactor.
#[cold]
pub(crate) fn not_driven(reactor: &ReactorInner) -> io::Error {
    let inherited = reactor.check_origin();
    inherited.err().unwrap_or_else(not_driven_here)
}

/// Returns the error of an operation that would wait forever on this thread. In a forked child that
/// is still inside of the parent's loop, that is the cause.
#[cold]
fn not_driven_here() -> io::Error {
    let inherited = |reactor: &Kept| reactor.0.is_inherited() && reactor.0.has_drivers();
    if with_kept(|reactor| reactor.is_some_and(inherited)) == Some(true) {
        return fork::error(REACTOR);
    }
    io::Error::other(
        "no reactor turns on this thread, so this would wait for ever: run it inside of \
         `windlass::block_on` (or `windlass_reactor::block_on`), or hold a \
         `windlass_reactor::Reactor` and call its `turn`",
    )
}
