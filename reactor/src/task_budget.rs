//! How many operations the current task may still complete.

use std::cell::Cell;
use std::task::Waker;

/// How many operations one refill allows. The system call of a turn costs little beside 32
/// operations.
const OPERATIONS: u32 = 32;

pub(crate) struct TaskBudget {
    /// How many operations may complete until the next refill.
    left: Cell<u32>,
    /// Calls the executor's function.
    refill: Cell<fn() -> Option<bool>>,
    /// Used while `refill` returns `None`.
    own: Own,
}

/// The last refill of a budget per task and turn.
struct Own {
    /// The data of the task's waker, and the turn.
    task: Cell<(*const (), u32)>,
    /// How many refills were refused since, and how many before.
    refused: Cell<u32>,
    refused_before: Cell<u32>,
}

impl TaskBudget {
    pub(crate) const fn new() -> TaskBudget {
        TaskBudget {
            left: Cell::new(OPERATIONS),
            refill: Cell::new(|| None),
            own: Own {
                task: Cell::new((std::ptr::null(), u32::MAX)),
                refused: Cell::new(0),
                refused_before: Cell::new(0),
            },
        }
    }

    pub(crate) fn share(&self, refill: fn() -> Option<bool>) {
        self.refill.set(refill);
    }

    /// Charges one operation. False if the budget is exhausted, which [`refill`] may change.
    ///
    /// [`refill`]: TaskBudget::refill
    #[inline(always)]
    pub(crate) fn charge(&self) -> bool {
        let (left, is_empty) = self.left.get().overflowing_sub(1);
        self.left.set(left);
        !is_empty
    }

    /// Takes back the last charge.
    #[inline(always)]
    pub(crate) fn refund(&self) {
        self.left.set(self.left.get() + 1);
    }

    /// Charges more for the last operation, which did the work of several.
    pub(crate) fn charge_more(&self, operations: usize) {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(operations));
    }

    /// Called after `charge` has returned false. Returns whether the task of `waker` may complete
    /// the operation. Runs user code.
    #[cold]
    pub(crate) fn refill(&self, waker: &Waker, turn: u32) -> bool {
        let by_executor = self.refill.get()();
        let is_granted = by_executor.unwrap_or_else(|| self.own.try_refill(waker, turn));
        self.left.set(if is_granted { OPERATIONS - 1 } else { 0 });
        is_granted
    }
}

impl Own {
    /// A task is granted one refill per turn, and one more for another of its futures each time.
    /// Otherwise the futures that it polls last would starve while the first is always ready.
    fn try_refill(&self, waker: &Waker, turn: u32) -> bool {
        let task = (waker.data(), turn);
        if self.task.replace(task) != task {
            self.refused_before.set(self.refused.replace(0));
            return true;
        }
        let refused = self.refused.replace(self.refused.get() + 1);
        let others = self.refused_before.get().saturating_sub(1);
        others > 0 && refused == 1 + turn % others
    }
}
