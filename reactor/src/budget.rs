//! How many operations a task may complete before it yields.
//!
//! A source that is always ready would otherwise keep its task running, and with it the loop.

use std::cell::Cell;
use std::task::Waker;

/// How many operations one poll of a task may complete, at least; up to twice as many. The system
/// call of a turn costs little beside 32 operations.
const OPERATIONS: u32 = 32;

pub(crate) struct Budget {
    /// How many operations may complete until the poll is looked up.
    left: Cell<u32>,
    /// The poll of the last refill.
    poll: Cell<PollId>,
    /// Returns the executor's number of the current poll.
    number: Cell<fn() -> Option<u64>>,
}

/// What tells one poll of a task from another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PollId {
    Number(u64),
    /// Where no executor numbers its polls: the data of the waker, and the turn.
    Waker(*const (), u32),
}

impl Budget {
    pub(crate) const fn new() -> Budget {
        Budget {
            left: Cell::new(OPERATIONS),
            poll: Cell::new(PollId::Number(u64::MAX)),
            number: Cell::new(|| None),
        }
    }

    pub(crate) fn share(&self, number: fn() -> Option<u64>) {
        self.number.set(number);
    }

    /// Charges one operation of the task of `waker`. False if its budget is exhausted.
    #[inline(always)]
    pub(crate) fn charge(&self, waker: &Waker, turn: u32) -> bool {
        let (left, is_empty) = self.left.get().overflowing_sub(1);
        self.left.set(left);
        !is_empty || self.refill(waker, turn)
    }

    /// Takes back the last charge.
    #[inline(always)]
    pub(crate) fn refund(&self) {
        self.left.set(self.left.get() + 1);
    }

    /// Charges more for the last operation, which did the work of several.
    #[cfg(target_os = "linux")]
    pub(crate) fn charge_more(&self, operations: usize) {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(operations));
    }

    /// Refills the counter, unless the last refill was for this very poll. So an operation costs
    /// one decrement, and a poll nothing.
    #[cold]
    fn refill(&self, waker: &Waker, turn: u32) -> bool {
        let number = self.number.get()();
        let poll = number.map_or(PollId::Waker(waker.data(), turn), PollId::Number);
        if self.poll.replace(poll) == poll {
            self.left.set(0);
            return false;
        }
        self.left.set(OPERATIONS - 1);
        true
    }
}
