//! A cell for one waker.

use std::cell::Cell;
use std::task::Waker;

use windlass_executor::discard_panic;

use crate::waits::WakerId;

/// A slot for one waker, of the owner of a group or of a channel end with one task.
pub(crate) struct WakerCell(Cell<Option<Waker>>);

impl WakerCell {
    pub(crate) const fn new() -> Self {
        WakerCell(Cell::new(None))
    }

    /// Stores a waker. Cloning it and dropping the old one is user code, so the caller checks its
    /// condition afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        let stored = self.0.take();
        let is_same = stored.as_ref().is_some_and(|own| own.will_wake(waker));
        self.0.set(stored);
        if !is_same {
            drop(self.0.replace(Some(waker.clone())));
        }
    }

    #[inline]
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            discard_panic(|| waker.wake());
        }
    }

    /// The identity of the waker, to be listed.
    pub(crate) fn id(&self) -> Option<WakerId> {
        let stored = self.0.take();
        let id = stored.as_ref().map(WakerId::of);
        self.0.set(stored);
        id
    }

    /// Drops the waker.
    pub(crate) fn clear(&self) {
        discard_panic(|| drop(self.0.take()));
    }
}
