//! A first in, first out queue of waiters, shared by all types of this crate that have waiters.
//!
//! ```text
//!   push ──► Waiting ──serve───────► Served ────┐
//!               │ └─────dismiss_all─► Dismissed ─┤ returned by `poll`, or removed early
//!               └──────removed early────────────┴──► vacant
//! ```
//!
//! Waiters are entries of a slab, linked in both directions. To push, serve and remove one takes
//! constant time, and allocates only if the queue is longer than it was lately. A key belongs to
//! one future, which returns it when it completes or is dropped, so keys are never stale. A leaked
//! future keeps its entry.
//!
//! Cloning, waking and dropping a waker is user code, which runs only outside of borrows.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};

use windlass_executor::discard_panic;

use super::slab::{Index, Slab};

pub(crate) struct WaitQueue {
    list: RefCell<List>,
    /// Keeps the types from being `Send`, which leaves room for an implementation that relies on
    /// one thread.
    _not_send: PhantomData<Rc<()>>,
}

/// The position of a waiter, to be given back by [`WaitQueue::poll`] or [`WaitQueue::remove`].
#[derive(Debug)]
pub(crate) struct WaitKey(Index);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitState {
    #[default]
    Waiting,
    /// Was granted its request, and passes an unused grant on.
    Served,
    /// Dismissed together with all other waiters, without a grant.
    Dismissed,
}

impl WaitQueue {
    pub(crate) const fn new() -> Self {
        let list = List {
            waiters: Slab::new(),
            first: None,
            last: None,
        };
        WaitQueue {
            list: RefCell::new(list),
            _not_send: PhantomData,
        }
    }

    /// True if no waiter is `Waiting`.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().first.is_none()
    }

    /// Adds a waiter at the end.
    pub(crate) fn push(&self, wants: usize, waker: Option<Waker>) -> WaitKey {
        self.list.borrow_mut().push(wants, waker)
    }

    /// Returns `Served` or `Dismissed` and takes the key back, or else stores the waker.
    pub(crate) fn poll(&self, key: &mut Option<WaitKey>, waker: &Waker) -> Poll<WaitState> {
        let index = key.as_ref().expect("polled after completion").0;
        let mut state = self.list.borrow().waiters[index].state;
        if state == WaitState::Waiting {
            state = self.register(index, waker);
        }
        if state == WaitState::Waiting {
            return Poll::Pending;
        }
        *key = None;
        self.list.borrow_mut().waiters.release(index); // its waker was taken
        Poll::Ready(state)
    }

    fn register(&self, index: Index, waker: &Waker) -> WaitState {
        if self.list.borrow().waiters[index].has(waker) {
            return WaitState::Waiting;
        }
        let mut other = Some(waker.clone());
        {
            let waiter = &mut self.list.borrow_mut().waiters[index];
            if waiter.state == WaitState::Waiting {
                mem::swap(&mut waiter.waker, &mut other);
            }
        }
        drop(other);
        // The clone or the drop may have served this waiter.
        self.list.borrow().waiters[index].state
    }

    /// Removes a waiter before its future completes. A caller that gets `Served` passes that on.
    /// After `Waiting`, those behind may be served now.
    pub(crate) fn remove(&self, key: WaitKey) -> WaitState {
        let (state, waker) = self.list.borrow_mut().remove(key.0);
        discard_panic(|| drop(waker)); // the caller may still have to pass on a grant
        state
    }

    /// Serves waiters from the front while the supply covers the request of the first one. Returns
    /// the rest of the supply, and the wakers to call.
    pub(crate) fn serve(&self, mut supply: usize) -> (usize, WakeList) {
        let (mut list, mut woken) = (self.list.borrow_mut(), WakeList::default());
        while let Some(first) = list.first {
            let wants = list.waiters[first].wants;
            if wants > supply {
                break;
            }
            supply -= wants;
            woken.add(list.finish_first(first, WaitState::Served));
        }
        (supply, woken)
    }

    /// Dismisses all current waiters.
    pub(crate) fn dismiss_all(&self) -> WakeList {
        let (mut list, mut woken) = (self.list.borrow_mut(), WakeList::default());
        while let Some(first) = list.first {
            woken.add(list.finish_first(first, WaitState::Dismissed));
        }
        woken
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

/// Wakers to call once the caller's state is consistent.
#[must_use]
#[derive(Default)]
pub(crate) struct WakeList {
    /// Nearly always the only one, which then avoids an allocation.
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl WakeList {
    fn add(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            waker => self.others.extend(waker),
        }
    }

    /// Calls all wakers, and discards their panics.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(waker) = self.first {
            discard_panic(|| waker.wake());
        }
        for waker in self.others {
            discard_panic(|| waker.wake());
        }
    }
}

struct List {
    waiters: Slab<Waiter>,
    /// The ends of the list of those that are `Waiting`.
    first: Option<Index>,
    last: Option<Index>,
}

#[derive(Default)]
struct Waiter {
    state: WaitState,
    wants: usize,
    waker: Option<Waker>,
    before: Option<Index>,
    after: Option<Index>,
}

impl Waiter {
    fn has(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }
}

impl List {
    fn push(&mut self, wants: usize, waker: Option<Waker>) -> WaitKey {
        let (index, waiter) = self.waiters.acquire(|_| Waiter::default());
        *waiter = Waiter {
            state: WaitState::Waiting,
            wants,
            waker,
            before: self.last,
            after: None,
        };
        *self.link_after(self.last) = Some(index);
        self.last = Some(index);
        WaitKey(index)
    }

    /// Takes the first waiter out of the list, and leaves the reason for its future.
    fn finish_first(&mut self, first: Index, state: WaitState) -> Option<Waker> {
        let waiter = &mut self.waiters[first];
        waiter.state = state;
        let (waker, after) = (waiter.waker.take(), waiter.after);
        self.first = after;
        *self.link_before(after) = None;
        waker
    }

    #[inline]
    fn remove(&mut self, index: Index) -> (WaitState, Option<Waker>) {
        let waiter = &mut self.waiters[index];
        let (state, waker) = (waiter.state, waiter.waker.take());
        if state == WaitState::Waiting {
            self.unlink(index);
        }
        self.waiters.release(index);
        (state, waker)
    }

    fn unlink(&mut self, index: Index) {
        let Waiter { before, after, .. } = self.waiters[index];
        *self.link_after(before) = after;
        *self.link_before(after) = before;
    }

    /// The link that leads on from a waiter, or to the first one.
    fn link_after(&mut self, index: Option<Index>) -> &mut Option<Index> {
        match index {
            Some(index) => &mut self.waiters[index].after,
            None => &mut self.first,
        }
    }

    fn link_before(&mut self, index: Option<Index>) -> &mut Option<Index> {
        match index {
            Some(index) => &mut self.waiters[index].before,
            None => &mut self.last,
        }
    }
}
