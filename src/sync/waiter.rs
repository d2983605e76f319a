//! Where one may wait.

use std::cell::Cell;
use std::task::Waker;

use windlass_executor::discard_panic;

/// Where one may wait: the owner of a group, or the one end of a channel that isn't shared.
pub(crate) struct Waiter(Cell<Option<Waker>>);

impl Waiter {
    pub(crate) const fn new() -> Self {
        Waiter(Cell::new(None))
    }

    /// Leaves a waker. That may run user code, so look at what is waited for afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        let own = self.0.take();
        let known = own.as_ref().is_some_and(|own| own.will_wake(waker));
        self.0.set(own);
        if !known {
            drop(self.0.replace(Some(waker.clone())));
        }
    }

    #[inline]
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            discard_panic(|| waker.wake());
        }
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&self) {
        discard_panic(|| drop(self.0.take()));
    }
}
