//! The run queue: a list through the cells themselves, so that to wake never allocates.

use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;

use crate::cell::{Head, Ref};

/// Tasks that are ready, first in, first out. A task is in it at most once.
pub(crate) struct Queue {
    head: Cell<Option<Ref>>,
    /// The last of the list, if there is a first.
    tail: Cell<NonNull<Head>>,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Queue {
            head: Cell::new(None),
            tail: Cell::new(NonNull::dangling()),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.take();
        let is_empty = head.is_none();
        mem::forget(self.head.replace(head)); // None: spares the look
        is_empty
    }

    /// Queues a cell, unless it is queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&self, cell: &Ref) -> bool {
        match cell.queued() {
            Some(queued) => {
                self.push(queued);
                true
            }
            None => false,
        }
    }

    /// `cell` is of [`Ref::queued`] or [`Ref::new`], or what [`Ref::poll`] has handed back.
    #[inline]
    pub(crate) fn push(&self, cell: Ref) {
        let last = NonNull::from(&*cell);
        let before = match self.head.take() {
            None => self.head.replace(Some(cell)),
            head => {
                mem::forget(self.head.replace(head));
                // SAFETY: there is a first, so the tail is in the list, whose links keep it alive.
                unsafe { self.tail.get().as_ref() }.next.replace(Some(cell))
            }
        };
        mem::forget(before);
        self.tail.set(last);
    }

    /// Takes the first out. It still says QUEUED, so that this can change with what comes next.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Ref> {
        let cell = self.head.take()?;
        mem::forget(self.head.replace(cell.next.take()));
        Some(cell)
    }
}

impl Drop for Queue {
    /// One after the other: links that drop what they link would take a stack as long as the list.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
