//! The run queue: a list through the cells themselves, so that to wake never allocates.

use std::ptr::NonNull;

use crate::cell::{Head, Ref};

/// Tasks that are ready, first in, first out. A task is in it at most once.
pub(crate) struct Queue {
    head: Option<Ref>,
    /// The last of the list, if there is a first.
    tail: NonNull<Head>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Queue {
            head: None,
            tail: NonNull::dangling(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Queues a cell, unless it is queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&mut self, cell: &Ref) -> bool {
        match cell.queued() {
            Some(queued) => {
                self.push(queued);
                true
            }
            None => false,
        }
    }

    /// `cell` is what [`Ref::queued`] or [`Ref::new`] has made for this.
    #[inline]
    pub(crate) fn push(&mut self, cell: Ref) {
        let last = NonNull::from(&*cell);
        let before = if self.head.is_none() {
            self.head.replace(cell)
        } else {
            // SAFETY: there is a first, so the tail is in the list, whose links keep it alive.
            unsafe { self.tail.as_ref() }.next.replace(Some(cell))
        };
        self.tail = last;
        std::mem::forget(before); // None: spares the look
    }

    /// Takes the first out. It still says QUEUED, so that this can change with what comes next.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Ref> {
        let cell = self.head.take()?;
        self.head = cell.next.take();
        Some(cell)
    }
}

impl Drop for Queue {
    /// One after the other: links that drop what they link would take a stack as long as the list.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
