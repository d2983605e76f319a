//! How many operations a task may complete before it yields.
//!
//! A source that is always ready would otherwise keep its task running, and with it the loop.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

use crate::current::made_hub;
use crate::reactor::{Reactor, ReactorInner};

/// How many operations one refill allows. The system call of a turn costs little beside 32
/// operations.
const OPERATIONS: u32 = 32;

pub(crate) struct Budget {
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

impl Budget {
    pub(crate) const fn new() -> Budget {
        Budget {
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

    /// Charges one operation of the task of `waker`. Returns false if its budget is exhausted.
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
    pub(crate) fn charge_more(&self, operations: usize) {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX);
        self.left.set(self.left.get().saturating_sub(operations));
    }

    #[cold]
    fn refill(&self, waker: &Waker, turn: u32) -> bool {
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

impl Reactor {
    /// Shares the budget of an executor, which limits the operations on sockets, pipes and files
    /// that one poll of a task completes. After that, its next operation returns `Pending`, and the
    /// task is woken in the next turn. So a task with sources that are always ready delays neither
    /// timers nor other tasks.
    ///
    /// `refill` is called for each 32 operations. It returns whether the current poll may complete
    /// 32 more, and `None` while no task is being polled. `windlass_executor` has such a function.
    /// Without one, the waker identifies the task, which has 32 to 64 operations per turn. It
    /// counts for all reactors of this thread.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use windlass_reactor::Reactor;
    ///
    /// thread_local! {
    ///     static MAY_REFILL: Cell<bool> = const { Cell::new(true) };
    /// }
    ///
    /// let reactor = Reactor::current()?;
    /// reactor.share_budget(|| Some(MAY_REFILL.replace(false)));
    /// // Before each poll of a task:
    /// MAY_REFILL.set(true);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn share_budget(&self, refill: fn() -> Option<bool>) {
        self.hub().budget().share(refill);
    }
}

impl ReactorInner {
    /// Charges one operation that is about to complete. Once the budget is exhausted, the task
    /// waits for the next turn.
    #[inline]
    pub(crate) fn poll_charge(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.budget().charge(cx.waker(), self.turn_number()) {
            return Poll::Ready(());
        }
        self.poll_next_turn(cx)
    }

    #[cold]
    fn poll_next_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_driven() {
            return Poll::Ready(()); // no turn would come
        }
        self.park().defer(cx.waker().clone());
        Poll::Pending
    }

    /// Takes back the last charge, because the operation waits.
    #[inline]
    pub(crate) fn refund(&self) {
        self.budget().refund();
    }

    pub(crate) fn charge_more(&self, operations: usize) {
        self.budget().charge_more(operations);
    }
}

/// Charges the budget of the current task for one operation that is about to complete. Once the
/// budget is exhausted, the task is woken in the next turn, and the operation has to wait for that.
///
/// Without it, a task that uses many operations which complete at once would keep the loop to
/// itself. An operation that has to wait after all takes the charge back with [`refund`].
#[inline]
pub fn poll_charge(cx: &mut Context<'_>) -> Poll<()> {
    made_hub().map_or(Poll::Ready(()), |hub| hub.poll_charge(cx))
}

/// Charges the budget of the current task for one operation that is about to complete, and returns
/// whether the budget allows it. If it returns false, the operation must wait in some other way.
#[inline]
pub fn try_charge(cx: &mut Context<'_>) -> bool {
    made_hub().is_none_or(|hub| hub.budget().charge(cx.waker(), hub.turn_number()))
}

/// Takes back the charge of the last [`poll_charge`] or [`try_charge`].
#[inline]
pub fn refund() {
    if let Some(hub) = made_hub() {
        hub.refund();
    }
}

/// Charges the current task for operations in addition to the one of [`poll_charge`], for example
/// for a copy of much data. Takes effect at the next operation of the task.
pub fn charge(operations: usize) {
    if let Some(hub) = made_hub() {
        hub.charge_more(operations);
    }
}
