//! The readiness of one direction of a source.

use std::cell::Cell;
use std::io;

/// The readiness of one direction: whether it may be ready, and a tick that each event increments.
///
/// The poller reports edges. A direction counts as ready at first, and from an event on until an
/// operation returns `WouldBlock`. The operation remembers the tick at its start, so that it does
/// not clear the readiness of an event that came in the middle of it, from a nested turn.
///
/// Bit 0 is the readiness, the others are the tick.
pub(crate) struct ReadinessCell(Cell<u32>);

impl ReadinessCell {
    pub(crate) const fn new(is_ready: bool) -> Self {
        ReadinessCell(Cell::new(is_ready as u32))
    }

    pub(crate) fn reset(&self, is_ready: bool) {
        self.0.set(is_ready.into());
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.0.get() & 1 != 0
    }

    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.0.get() >> 1
    }

    /// An event has come.
    #[inline]
    pub(crate) fn set_ready(&self) {
        self.0.set((self.0.get() | 1).wrapping_add(2));
    }

    /// Makes the next operation try without an event.
    pub(crate) fn assume_ready(&self) {
        self.0.set(self.0.get() | 1);
    }

    /// Clears the readiness, unless an event has come since `tick`.
    #[inline]
    pub(crate) fn clear_ready(&self, tick: u32) {
        if tick == self.tick() {
            self.0.set(tick << 1);
        }
    }

    /// Clears the readiness and returns what it was.
    #[cfg(unix)]
    pub(crate) fn take_ready(&self) -> bool {
        let was_ready = self.is_ready();
        self.clear_ready(self.tick());
        was_ready
    }

    /// Tries an operation once. Returns `None` after `WouldBlock`, which clears the readiness.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        operation: &mut impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let tick = self.tick();
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.clear_ready(tick);
                    return None;
                }
                result => return Some(result),
            }
        }
    }
}
