//! How the loop reports its polls. It chooses once per turn, so that an unobserved poll costs
//! nothing.

use std::rc::Rc;

use crate::cell::{DONE, EMPTY, Ref};
use crate::inner::ExecutorInner;
use crate::observe::Observer;
use crate::panic::discard_panic;
use crate::task_id::TaskId;

/// How the loop reports its polls.
pub(crate) trait Report {
    fn polling(&self, inner: &ExecutorInner, cell: &Ref);
    fn polled(&self, task: Option<TaskId>);
}

/// Reports nothing.
pub(crate) struct Unobserved;

impl Report for Unobserved {
    #[inline(always)]
    fn polling(&self, _: &ExecutorInner, _: &Ref) {}

    #[inline(always)]
    fn polled(&self, _: Option<TaskId>) {}
}

/// Publishes where the task was spawned.
pub(crate) struct Published;

impl Report for Published {
    #[inline(always)]
    fn polling(&self, inner: &ExecutorInner, cell: &Ref) {
        inner.pulse.set_spawned_at(cell.spawned_at);
    }

    #[inline(always)]
    fn polled(&self, _: Option<TaskId>) {}
}

impl Report for Rc<dyn Observer> {
    fn polling(&self, inner: &ExecutorInner, cell: &Ref) {
        Published.polling(inner, cell);
        if cell.has(DONE | EMPTY) {
            return; // it has ended while it was queued, so no poll follows
        }
        if let Some(task) = TaskId::of_key(cell.key.get()) {
            discard_panic(|| Observer::polling(&**self, task));
        }
    }

    fn polled(&self, task: Option<TaskId>) {
        if let Some(task) = task {
            discard_panic(|| Observer::polled(&**self, task));
        }
    }
}
