//! Who waits: one line, first come, first served, for all that has waiters here.
//!
//! ```text
//!   join ──► waiting ──serve────► served ────┐
//!               │ └────dismiss──► dismissed ─┤ told by `poll`, or left half-way
//!               └────── left half-way ───────┴──► free
//! ```
//!
//! The places are slots of a vector, linked in both directions by index: to join, to be served and
//! to leave half-way take constant time, and allocate only if the line is longer than it was
//! lately: after a burst the slots at the end are given back.
//! A place belongs to one future, which gives it back when it is ready or dropped. So no index is
//! ever stale, and none needs a generation. A future that is forgotten, not dropped, keeps its
//! place.
//!
//! To clone, wake or drop a waker is user code: none of it runs under a borrow.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::shrink::shrink_vec;
use windlass_executor::discard_panic;

pub(crate) struct Waiters {
    line: RefCell<Line>,
    /// Nothing here is shared between threads now; so that it need not be later, it isn't sent.
    _not_send: PhantomData<Rc<()>>,
}

/// A place in the line. It must be given back.
#[derive(Debug)]
pub(crate) struct Place(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Waiting,
    /// It has got what it wants, and hands it on if it doesn't use it.
    Served,
    /// Sent away together with all others, with nothing.
    Dismissed,
}

impl Waiters {
    pub(crate) const fn new() -> Self {
        let line = Line {
            slots: Vec::new(),
            free: NIL,
            first: NIL,
            last: NIL,
            far_free: NIL,
            far: 0,
            left: 0,
            give_back_below: 0,
        };
        Waiters {
            line: RefCell::new(line),
            _not_send: PhantomData,
        }
    }

    /// True if nobody waits to be served.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.line.borrow().first == NIL
    }

    /// Takes the last place in the line.
    pub(crate) fn join(&self, wants: usize, waker: Option<Waker>) -> Place {
        self.line.borrow_mut().join(wants, waker)
    }

    /// Whether the turn has come; then the place is given back. If not, the waker is left there.
    pub(crate) fn poll(&self, place: &mut Option<Place>, waker: &Waker) -> Poll<Turn> {
        let index = place.as_ref().expect("polled after it was ready").0;
        let mut turn = self.line.borrow().slots[index as usize].turn;
        if turn == Turn::Waiting {
            turn = self.wait(index, waker);
        }
        if turn == Turn::Waiting {
            return Poll::Pending;
        }
        *place = None;
        let (turn, _taken) = self.line.borrow_mut().leave(index);
        Poll::Ready(turn)
    }

    fn wait(&self, index: u32, waker: &Waker) -> Turn {
        let own = |line: &Line| line.slots[index as usize].has(waker);
        if own(&self.line.borrow()) {
            return Turn::Waiting;
        }
        let mut other = Some(waker.clone());
        {
            let slot = &mut self.line.borrow_mut().slots[index as usize];
            if slot.turn == Turn::Waiting {
                std::mem::swap(&mut slot.waker, &mut other);
            }
        }
        drop(other);
        // The clone, or the drop, may have been what serves us.
        self.line.borrow().slots[index as usize].turn
    }

    /// Gives a place back before its future is ready. If that was served, the caller hands it on;
    /// if it was waiting, those behind it may be served now.
    pub(crate) fn leave(&self, place: Place) -> Turn {
        let (turn, waker) = self.line.borrow_mut().leave(place.0);
        discard_panic(|| drop(waker)); // the caller must get to hand it on
        turn
    }

    /// Serves the first in the line while the supply lasts for what the first one wants. Returns
    /// what is left of it, and whom to wake.
    pub(crate) fn serve(&self, mut supply: usize) -> (usize, Woken) {
        let (mut line, mut woken) = (self.line.borrow_mut(), Woken::default());
        while let Some(wants) = line.wants().filter(|&wants| wants <= supply) {
            supply -= wants;
            woken.add(line.call(Turn::Served));
        }
        (supply, woken)
    }

    /// Sends all away. Who joins later isn't concerned.
    pub(crate) fn dismiss(&self) -> Woken {
        let (mut line, mut woken) = (self.line.borrow_mut(), Woken::default());
        while line.first != NIL {
            woken.add(line.call(Turn::Dismissed));
        }
        woken
    }
}

/// Wakers whose turn has come: to be called when everything is in order again.
#[must_use]
#[derive(Default)]
pub(crate) struct Woken {
    /// Nearly always it's one, and then nothing is allocated.
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Woken {
    fn add(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_none() => self.first = Some(waker),
            waker => self.others.extend(waker),
        }
    }

    /// One that panics keeps neither the others nor the caller from going on.
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

/// So many slots are not given back.
const KEPT: u32 = 32;

/// The end of a list.
const NIL: u32 = u32::MAX;

struct Line {
    slots: Vec<Slot>,
    /// Free slots below KEPT, the latest first. They are used before the others.
    free: u32,
    /// Free slots from KEPT on.
    far_free: u32,
    /// Those who wait.
    first: u32,
    last: u32,
    /// How many slots from KEPT on aren't free.
    far: u32,
    /// How many of these were left since free ones were given back.
    left: u32,
    /// With fewer waiters in these, the free slots at the end are given back.
    give_back_below: u32,
}

struct Slot {
    turn: Turn,
    is_free: bool,
    wants: usize,
    waker: Option<Waker>,
    /// The neighbours of one who waits; of a free slot, `after` is the next free one.
    before: u32,
    after: u32,
}

impl Slot {
    fn has(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }
}

impl Line {
    fn join(&mut self, wants: usize, waker: Option<Waker>) -> Place {
        let slot = Slot {
            turn: Turn::Waiting,
            is_free: false,
            wants,
            waker,
            before: self.last,
            after: NIL,
        };
        let mut index = self.free;
        if index == NIL {
            index = self.add_far(slot);
        } else {
            let free = &mut self.slots[index as usize];
            self.free = free.after;
            *free = slot;
        }
        *self.link_after(self.last) = index;
        self.last = index;
        Place(index)
    }

    /// What the first one wants.
    fn wants(&self) -> Option<usize> {
        self.slots.get(self.first as usize).map(|slot| slot.wants)
    }

    /// Takes the first one out of the line, and tells why.
    fn call(&mut self, turn: Turn) -> Option<Waker> {
        let index = self.first;
        self.unlink(index);
        let slot = &mut self.slots[index as usize];
        slot.turn = turn;
        slot.waker.take()
    }

    #[inline]
    fn leave(&mut self, index: u32) -> (Turn, Option<Waker>) {
        if index >= KEPT {
            return self.leave_far(index);
        }
        self.release(index)
    }

    #[inline(always)]
    fn release(&mut self, index: u32) -> (Turn, Option<Waker>) {
        let turn = self.slots[index as usize].turn;
        if turn == Turn::Waiting {
            self.unlink(index);
        }
        let slot = &mut self.slots[index as usize];
        slot.is_free = true;
        slot.after = self.free;
        self.free = index;
        (turn, slot.waker.take())
    }

    /// No slot below KEPT is free: takes another one, or makes it.
    #[cold]
    fn add_far(&mut self, slot: Slot) -> u32 {
        let mut index = self.far_free;
        if index == NIL {
            index = self.slots.len() as u32;
            assert!(index < NIL, "more than 4 billion waiters");
            self.slots.push(slot);
        } else {
            let free = &mut self.slots[index as usize];
            self.far_free = free.after;
            *free = slot;
        }
        if index >= KEPT {
            self.far += 1;
            self.give_back_below = self.give_back_below.max(self.far / 4).max(1);
        }
        index
    }

    #[cold]
    fn leave_far(&mut self, index: u32) -> (Turn, Option<Waker>) {
        let near = std::mem::replace(&mut self.free, self.far_free);
        let left = self.release(index);
        self.far_free = std::mem::replace(&mut self.free, near);
        self.far -= 1;
        self.left += 1;
        let slots = self.slots.len() as u32;
        let is_due = self.left >= slots && self.far <= slots / 4;
        if self.far < self.give_back_below || is_due {
            self.give_back();
        }
        left
    }

    /// Gives back the free slots at the end. Later waiters take the lowest ones. It's done once per
    /// halving of those that wait, and once per so many that leave as there are slots: that costs a
    /// constant for each.
    fn give_back(&mut self) {
        let kept = KEPT as usize;
        while self.slots.len() > kept && self.slots.last().is_some_and(|slot| slot.is_free) {
            self.slots.pop();
        }
        shrink_vec(&mut self.slots);
        self.far_free = NIL;
        for (index, slot) in self.slots.iter_mut().enumerate().skip(kept).rev() {
            if slot.is_free {
                slot.after = self.far_free;
                self.far_free = index as u32;
            }
        }
        self.left = 0;
        self.give_back_below = (self.far / 2).max(1);
    }

    fn unlink(&mut self, index: u32) {
        let Slot { before, after, .. } = self.slots[index as usize];
        *self.link_after(before) = after;
        *self.link_before(after) = before;
    }

    /// The link that leads on from a slot; from no slot, it leads to the first.
    fn link_after(&mut self, index: u32) -> &mut u32 {
        match self.slots.get_mut(index as usize) {
            Some(slot) => &mut slot.after,
            None => &mut self.first,
        }
    }

    fn link_before(&mut self, index: u32) -> &mut u32 {
        match self.slots.get_mut(index as usize) {
            Some(slot) => &mut slot.before,
            None => &mut self.last,
        }
    }
}
