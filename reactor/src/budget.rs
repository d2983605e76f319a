//! How many operations a task may complete before it yields.
//!
//! A source that is always ready would otherwise keep its task running, and with it the loop.

use std::task::{Context, Poll};

use crate::current::existing_reactor;

/// Charges the budget of the current task for one operation that is about to complete. Once the
/// budget is exhausted, the task is woken in the next turn, and the operation has to wait for that.
///
/// Without it, a task that uses many operations which complete at once would keep the loop to
/// itself. An operation that has to wait after all takes the charge back with [`refund`].
#[inline]
pub fn poll_charge(cx: &mut Context<'_>) -> Poll<()> {
    existing_reactor().map_or(Poll::Ready(()), |reactor| reactor.poll_charge(cx))
}

/// Charges the budget of the current task for one operation that is about to complete, and returns
/// whether the budget allows it. If it returns false, the operation must wait in some other way.
#[inline]
pub fn try_charge(cx: &mut Context<'_>) -> bool {
    existing_reactor()
        .is_none_or(|reactor| reactor.budget().charge(cx.waker(), reactor.turn_number()))
}

/// Takes back the charge of the last [`poll_charge`] or [`try_charge`].
#[inline]
pub fn refund() {
    if let Some(reactor) = existing_reactor() {
        reactor.refund();
    }
}

/// Charges the current task for operations in addition to the one of [`poll_charge`], for example
/// for a copy of much data. Takes effect at the next operation of the task.
pub fn charge(operations: usize) {
    if let Some(reactor) = existing_reactor() {
        reactor.charge_more(operations);
    }
}
