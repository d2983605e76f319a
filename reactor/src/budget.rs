//! How many operations a task may complete before it yields.
//!
//! A source that is always ready would otherwise keep its task running, and with it the loop.

use std::task::{Context, Poll};

use crate::current;

/// Charges the budget of the current task for one operation that is about to complete. Once the
/// budget is exhausted, the task is woken in the next turn, and the operation has to wait for that.
///
/// Without it, a task that uses many operations which complete at once would keep the loop to
/// itself. An operation that has to wait after all takes the charge back with [`refund`].
#[inline]
pub fn poll_charge(cx: &mut Context<'_>) -> Poll<()> {
    current::poll_charge(cx)
}

/// Charges the budget of the current task for one operation that is about to complete, and returns
/// whether the budget allows it. If it returns false, the operation must wait in some other way.
#[inline]
pub fn try_charge(cx: &mut Context<'_>) -> bool {
    current::try_charge(cx)
}

/// Takes back the charge of the last [`poll_charge`] or [`try_charge`].
#[inline]
pub fn refund() {
    current::refund();
}

/// Charges the current task for operations in addition to the one of [`poll_charge`], for example
/// for a copy of much data. Takes effect at the next operation of the task.
pub fn charge(operations: usize) {
    current::with_reactor(|reactor| {
        if let Some(reactor) = reactor {
            reactor.budget().charge_more(operations);
        }
    });
}
