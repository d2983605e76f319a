//! The simulated host that this thread runs in.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

use super::disk::Disk;
use super::signals::HostSignals;

thread_local! {
    /// Whether [`DISK`] is set. It has no destructor, so reading it is one load.
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    static DISK: RefCell<Option<Rc<Disk>>> = const { RefCell::new(None) };
    static SIGNALS: RefCell<Option<Rc<HostSignals>>> = const { RefCell::new(None) };
}

/// Returns whether this thread runs in a simulated host.
#[inline]
pub(crate) fn is_simulated() -> bool {
    IS_SIMULATED.get()
}

/// Returns the disk of the host that this thread runs in.
#[inline]
pub(crate) fn current_disk() -> Option<Rc<Disk>> {
    match is_simulated() {
        true => disk(),
        false => None,
    }
}

#[cold]
fn disk() -> Option<Rc<Disk>> {
    DISK.try_with(|disk| disk.borrow().clone()).ok().flatten()
}

/// Returns the signals of the host that this thread runs in.
pub(crate) fn signals() -> Option<Rc<HostSignals>> {
    SIGNALS
        .try_with(|signals| signals.borrow().clone())
        .ok()
        .flatten()
}

/// Makes the signals of a host those of this thread. Returns the previous ones.
pub(super) fn replace_signals(signals: Option<Rc<HostSignals>>) -> Option<Rc<HostSignals>> {
    SIGNALS.try_with(|it| it.replace(signals)).ok().flatten()
}

/// Returns an error in a simulated host, which has no access to a part of the real system.
pub(crate) fn refuse(what: &str) -> io::Result<()> {
    if !is_simulated() {
        return Ok(());
    }
    let text = format!("a simulated host has no {what}");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// A part of the program that runs in a host. When it is dropped, the thread is in the previous
/// host again.
#[must_use]
pub(crate) struct Entered {
    previous: Option<Rc<Disk>>,
}

/// Makes the host of this disk the one that this thread runs in.
pub(crate) fn enter(disk: Rc<Disk>) -> Entered {
    Entered {
        previous: replace(Some(disk)),
    }
}

fn replace(disk: Option<Rc<Disk>>) -> Option<Rc<Disk>> {
    IS_SIMULATED.set(disk.is_some());
    DISK.try_with(|it| it.replace(disk)).ok().flatten()
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(replace(self.previous.take()));
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}
