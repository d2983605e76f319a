//! The simulated system that is in effect on this thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::system::System;

thread_local! {
    /// Whether [`SYSTEM`] is present. It has no destructor, so reading it is one load.
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// The system of the entered host.
    static SYSTEM: RefCell<Option<Rc<dyn System>>> = const { RefCell::new(None) };
}

/// A system was in effect on some thread.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Returns the system of the entered host.
pub(crate) fn current_system() -> Option<Rc<dyn System>> {
    let system = SYSTEM.try_with(|system| system.borrow().clone());
    system.ok().flatten()
}

/// Puts a system into effect on this thread. Returns the previous one.
pub(crate) fn replace_system(system: Option<Rc<dyn System>>) -> Option<Rc<dyn System>> {
    IS_USED.store(true, Relaxed);
    IS_SIMULATED.set(system.is_some());
    SYSTEM
        .try_with(|current| current.replace(system))
        .ok()
        .flatten()
}

/// Returns whether a host is entered on this thread.
#[inline]
pub fn is_simulated() -> bool {
    // The variable of the thread takes a register, so it is read only where hosts exist.
    IS_USED.load(Relaxed) && is_entered()
}

#[cold]
fn is_entered() -> bool {
    IS_SIMULATED.get()
}

/// Where the time of a world starts, on the clock of timers (ns). It is the same in each process,
/// because timers are sorted by parts of this number.
pub(crate) const START: u64 = 1 << 50;

/// The time on the entered host, on the clock of timers (ns).
pub(crate) fn now() -> Option<u64> {
    let now = SYSTEM.try_with(|system| Some(system.borrow().as_ref()?.now()));
    Some(START.saturating_add(now.ok().flatten()?))
}

thread_local! {
    /// Placeholders are duplicates of this descriptor.
    static PLACEHOLDER: RefCell<Option<OwnedFd>> = const { RefCell::new(None) };
}

/// Creates the descriptor of a simulated socket. Reads, writes and socket calls fail on it with
/// `EBADF`.
///
/// # Errors
///
/// Fails if the process has too many descriptors.
pub fn placeholder() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    PLACEHOLDER.with(|first| {
        let mut first = first.borrow_mut();
        if let Some(first) = &*first {
            return first.try_clone();
        }
        let new = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        first.insert(new).try_clone()
    })
}
