//! This thread's reactor. It is in a thread-local variable, and a forked child has another one.
//!
//! The reactor of a thread is its `ReactorInner`, the state that handles, sources and timers share.

use std::cell::Cell;
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::LocalKey;

use crate::entry::{EntryRef, LocalEntry};
use crate::fork;
use crate::inner::{REACTOR, ReactorInner};
use crate::timers::TimerKey;

thread_local! {
    static CURRENT: Cell<Option<Kept>> = const { Cell::new(None) };
    /// The reactor that a forked child uses in place of the one that its thread has inherited.
    static IN_CHILD: Cell<Option<Kept>> = const { Cell::new(None) };
    /// The reactor that the thread uses, which one of the two keeps, or null. An inherited one is
    /// here until the child makes its own. It has no destructor, so reading it is one load.
    static HERE: Cell<*const ReactorInner> = const { Cell::new(ptr::null()) };
}

/// The reference of a thread to its reactor. A forked child leaks an inherited reactor, because
/// dropping its poller there would remove descriptors from the epoll instance that the parent uses.
pub(crate) struct Kept(Rc<ReactorInner>);

impl Drop for Kept {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            std::mem::forget(self.0.clone());
        }
        if HERE.get() == Rc::as_ptr(&self.0) {
            HERE.set(ptr::null());
        }
    }
}

/// Calls `read` with the reactor that this thread uses, if there is one. It may be an inherited
/// one. `read` runs no user code.
#[inline(always)]
pub(crate) fn with_reactor<R>(read: impl FnOnce(Option<&ReactorInner>) -> R) -> R {
    // SAFETY: the pointer is null, or `Rc::as_ptr` of the reactor in a `Kept` of this thread. The
    // drop of the `Kept` resets it, and only user code could drop it meanwhile.
    read(unsafe { HERE.get().as_ref() })
}

/// Returns access to the state of an entry, if it belongs to the reactor that this thread uses.
#[inline(always)]
pub(crate) fn local(entry: EntryRef<'_>) -> Option<LocalEntry<'_>> {
    entry.local(HERE.get().cast())
}

/// Returns this thread's reactor, and creates it if there is none.
#[inline]
pub(crate) fn current_reactor() -> io::Result<Rc<ReactorInner>> {
    existing_reactor().map_or_else(create_reactor, Ok)
}

/// Returns this thread's reactor, if it was ever made and the thread is not ending. In a forked
/// child it is the child's.
#[inline]
pub(crate) fn existing_reactor() -> Option<Rc<ReactorInner>> {
    kept_reactor().filter(|reactor| !reactor.is_inherited())
}

/// Returns the reactor that this thread uses, which may be an inherited one.
#[inline]
fn kept_reactor() -> Option<Rc<ReactorInner>> {
    let reactor = HERE.get();
    if reactor.is_null() {
        return None;
    }
    // SAFETY: it is a pointer of `Rc::as_ptr`, see `with_reactor`, and a `Kept` holds a reference.
    unsafe {
        Rc::increment_strong_count(reactor);
        Some(Rc::from_raw(reactor))
    }
}

#[cold]
fn create_reactor() -> io::Result<Rc<ReactorInner>> {
    let new = Rc::new(ReactorInner::new()?);
    let kept = Kept(new.clone());
    let kept = CURRENT.try_with(|first| match first.take() {
        None => {
            first.set(Some(kept));
            Ok(())
        }
        inherited => {
            first.set(inherited);
            IN_CHILD.try_with(|place| place.set(Some(kept)))
        }
    });
    match kept.and_then(|kept| kept) {
        Ok(()) => {
            HERE.set(Rc::as_ptr(&new));
            Ok(new)
        }
        Err(_) => Err(io::Error::other(
            "the thread is ending, and its reactor is gone",
        )),
    }
}

/// Calls `read` with a reactor of this thread. Returns `None` while the thread ends.
///
/// The reactor is out of its cell meanwhile, which is cheaper than a `RefCell`. `read` runs no
/// user code, does not panic and makes no reactor.
fn with_kept<R>(
    place: &'static LocalKey<Cell<Option<Kept>>>,
    read: impl FnOnce(Option<&Kept>) -> R,
) -> Option<R> {
    let result = place.try_with(|place| {
        let reactor = place.take();
        let result = read(reactor.as_ref());
        mem::forget(place.replace(reactor)); // nothing
        result
    });
    result.ok()
}

/// Stops a timer of the reactor `id`, if that is this thread's. Returns its waker, which the caller
/// drops without a borrow.
#[inline]
pub(crate) fn stop_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    let stop = |reactor: Option<&ReactorInner>| {
        let reactor = reactor.filter(|reactor| reactor.id() == id);
        reactor.map(|reactor| reactor.stop_timer(timer))
    };
    with_reactor(stop).unwrap_or_else(|| stop_inherited_timer(id, timer))
}

/// The timers of an inherited reactor are the child's own memory.
#[cold]
fn stop_inherited_timer(id: NonZeroU64, timer: TimerKey) -> Option<Waker> {
    let stop = |reactor: Option<&Kept>| {
        let reactor = reactor.filter(|reactor| reactor.0.id() == id)?;
        reactor.0.stop_timer(timer)
    };
    with_kept(&CURRENT, stop).flatten()
}

/// Gives the thread another reactor. Returns the previous one.
#[cfg(all(target_os = "linux", not(windlass_portable)))]
pub(crate) fn replace_reactor(reactor: Option<Kept>) -> Option<Kept> {
    let address = |kept: Option<&Kept>| kept.map_or(ptr::null(), |kept| Rc::as_ptr(&kept.0));
    let is_inherited = reactor.as_ref().is_some_and(|kept| kept.0.is_inherited());
    let mut here = address(reactor.as_ref());
    if is_inherited {
        let child = with_kept(&IN_CHILD, address).unwrap_or(ptr::null());
        here = if child.is_null() { here } else { child };
    }
    let replaced = CURRENT.try_with(|place| place.replace(reactor)).ok()?;
    HERE.set(here);
    replaced
}

/// Drops this thread's reactor and closes its file descriptors, unless a `Reactor` or a registered
/// source of the thread still uses it.
///
/// For idle threads, such as the threads of a pool between two closures. The next use creates
/// another reactor.
pub fn release_reactor() {
    let Some(reactor) = existing_reactor() else {
        return;
    };
    reactor.check_inbox();
    drop(reactor);
    let unused = CURRENT.try_with(|place| {
        let mut reactor = place.take();
        let is_unused = |reactor: &Rc<ReactorInner>| {
            Rc::strong_count(reactor) == 1 && !reactor.has_sources() && !reactor.is_inherited()
        };
        let unused = reactor.take_if(|reactor| is_unused(&reactor.0));
        place.set(reactor);
        unused
    });
    drop(unused); // ends operations on files
}

/// Charges one operation that is about to complete to the budget of the task. Once the budget is
/// exhausted, the task waits for the next turn.
#[inline(always)]
pub(crate) fn poll_charge(cx: &mut Context<'_>) -> Poll<()> {
    match has_budget() {
        true => Poll::Ready(()),
        false => poll_refill(cx),
    }
}

#[inline(always)]
fn has_budget() -> bool {
    with_reactor(|reactor| reactor.is_none_or(|reactor| reactor.budget().charge()))
}

/// Charges as `poll_charge` does. Returns whether the budget allows the operation.
#[inline]
pub(crate) fn try_charge(cx: &mut Context<'_>) -> bool {
    has_budget() || kept_reactor().is_none_or(|reactor| reactor.refill(cx.waker()))
}

#[cold]
fn poll_refill(cx: &mut Context<'_>) -> Poll<()> {
    kept_reactor().map_or(Poll::Ready(()), |reactor| reactor.poll_refill(cx))
}

/// Takes back the last charge.
#[inline(always)]
pub(crate) fn refund() {
    with_reactor(|reactor| {
        if let Some(reactor) = reactor {
            reactor.refund();
        }
    });
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
        Err(not_driven(Some(reactor)))
    }
}

/// Returns the number of the turn, or an error if nothing turns the reactor that this thread uses.
/// For operations that are about to wait.
#[inline(always)]
pub(crate) fn check_driven_here() -> io::Result<u32> {
    with_reactor(|reactor| match reactor {
        Some(reactor) if reactor.is_driven() => Ok(reactor.turn_number()),
        other => Err(not_driven(other)),
    })
}

/// Returns the error of an operation that would wait forever for this reactor.
#[cold]
pub(crate) fn not_driven(reactor: Option<&ReactorInner>) -> io::Error {
    let inherited = reactor.map(ReactorInner::check_origin);
    inherited
        .and_then(Result::err)
        .unwrap_or_else(not_driven_here)
}

/// Returns the error of an operation that would wait forever on this thread. In a forked child that
/// is still inside of the parent's loop, that is the cause.
#[cold]
fn not_driven_here() -> io::Error {
    let inherited = |reactor: &Kept| reactor.0.is_inherited() && reactor.0.has_drivers();
    if with_kept(&CURRENT, |reactor| reactor.is_some_and(inherited)) == Some(true) {
        return fork::error(REACTOR);
    }
    io::Error::other(
        "no reactor turns on this thread, so this would wait for ever: run it inside of \
         `windlass::block_on` (or `windlass_reactor::block_on`), or hold a \
         `windlass_reactor::Reactor` and call its `turn`",
    )
}
