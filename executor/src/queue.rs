//! The run queue, a list linked through the cells themselves, so that a wake never allocates.

use std::cell::Cell;
use std::iter;
use std::mem;
use std::ptr::NonNull;

use crate::cell::{Head, Ref};

/// Tasks that are ready, first in, first out. A task is in it at most once.
pub(crate) struct Queue {
    head: Cell<Option<Ref>>,
    /// The last cell of the list. Dangling while the list is empty.
    tail: Cell<NonNull<Head>>,
}

// `mem::forget` of a value that is known to be `None` spares the check whether to drop it.
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
        mem::forget(self.head.replace(head));
        is_empty
    }

    /// Queues a cell, unless it is queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&self, cell: &Ref) -> bool {
        cell.queued().map(|queued| self.push(queued)).is_some()
    }

    /// Appends a reference of [`Ref::queued`], or one that [`Ref::poll`] returned.
    #[inline]
    pub(crate) fn push(&self, cell: Ref) {
        let last = NonNull::from(&*cell);
        let before = match self.head.take() {
            None => self.head.replace(Some(cell)),
            head => {
                mem::forget(self.head.replace(head));
                // SAFETY: the list isn't empty, so its links keep the tail alive.
                unsafe { self.tail.get().as_ref() }.next.replace(Some(cell))
            }
        };
        mem::forget(before);
        self.tail.set(last);
    }

    /// Takes the first cell out. It keeps the flag QUEUED, which [`Ref::poll`] clears together with
    /// its other changes of the state.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Ref> {
        let cell = self.head.take()?;
        mem::forget(self.head.replace(cell.next.take()));
        Some(cell)
    }

    /// Moves a task to the front. `choose` gets the number of tasks, if there are several, and
    /// returns the position of the one to move.
    #[cold]
    pub(crate) fn bring_forward(&self, choose: impl FnOnce(usize) -> usize) {
        // While the choice is made, which is user code, all tasks are in the queue.
        let tasks = self.take_all();
        let len = tasks.len();
        tasks.into_iter().for_each(|task| self.push(task));
        if len < 2 {
            return;
        }
        let chosen = choose(len);
        let mut tasks = self.take_all();
        if chosen > 0 && chosen < tasks.len() {
            let chosen = tasks.remove(chosen);
            tasks.insert(0, chosen);
        }
        tasks.into_iter().for_each(|task| self.push(task));
    }

    fn take_all(&self) -> Vec<Ref> {
        iter::from_fn(|| self.pop()).collect()
    }
}

impl Drop for Queue {
    /// Drops cell by cell. A link that drops the next one would take a stack as deep as the list.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
