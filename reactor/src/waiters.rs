//! Who waits for one direction of a source.

use std::cell::Cell;
use std::task::Waker;

use crate::reactor::wake_all;

/// Nearly always it's one. Any number may wait, each once.
pub(crate) struct Waiters {
    first: Cell<Option<Waker>>,
    others: Cell<Option<Box<Crowd>>>,
}

struct Crowd {
    waiters: Vec<Waker>,
    /// How many there is room for, and the turn in which that last was too little.
    room: usize,
    too_little: u32,
}

/// How many are normal, beside the first.
const FEW: usize = 16;

impl Waiters {
    pub(crate) fn new() -> Self {
        Waiters {
            first: Cell::new(None),
            others: Cell::new(None),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        peek(&self.first, Option::is_none)
    }

    /// Moves all of them to `woken`.
    #[inline]
    pub(crate) fn take(&self, woken: &mut Vec<Waker>) {
        if let Some(first) = self.first.take() {
            woken.push(first);
        }
        if let Some(crowd) = self.others.take() {
            self.take_crowd(crowd, woken);
        }
    }

    #[cold]
    fn take_crowd(&self, mut crowd: Box<Crowd>, woken: &mut Vec<Waker>) {
        woken.append(&mut crowd.waiters);
        self.others.set(Some(crowd));
    }

    /// Adds one, unless it waits already. `turn` is the number of this turn.
    #[inline]
    pub(crate) fn add(&self, waker: &Waker, turn: u32) {
        if !self.is_empty() && self.has(waker) {
            return;
        }
        let waker = waker.clone(); // user code: nothing is out of its place meanwhile
        if self.is_empty() {
            self.first.set(Some(waker));
        } else {
            wake_all(self.add_other(waker, turn));
        }
    }

    fn has(&self, waker: &Waker) -> bool {
        let is_first = |first: &Option<Waker>| first.as_ref().is_some_and(|w| w.will_wake(waker));
        let is_other = |others: &Option<Box<Crowd>>| {
            let mut others = others.iter().flat_map(|crowd| &crowd.waiters);
            others.any(|w| w.will_wake(waker))
        };
        peek(&self.first, is_first) || peek(&self.others, is_other)
    }

    /// Hands back those that there are too many of, to be woken.
    ///
    /// A future that is dropped leaves its waker behind until the next event, which is then a
    /// spurious wake. So that such wakers don't pile up on a source that stays silent, all are
    /// woken when they are many, and those who still wait come back. If they are back by the next
    /// turn it is a real crowd, and gets more room. What comes within one turn proves nothing.
    #[cold]
    fn add_other(&self, waker: Waker, turn: u32) -> Vec<Waker> {
        let mut crowd = self.others.take().unwrap_or_else(|| {
            Box::new(Crowd {
                waiters: Vec::new(),
                room: FEW,
                too_little: 0,
            })
        });
        let mut surplus = Vec::new();
        if crowd.waiters.len() >= crowd.room {
            match turn.wrapping_sub(crowd.too_little) {
                0 => {}
                1 => crowd.room = crowd.room.saturating_mul(2),
                _ => crowd.room = FEW,
            }
            crowd.too_little = turn;
            surplus = std::mem::take(&mut crowd.waiters);
        }
        crowd.waiters.push(waker);
        self.others.set(Some(crowd));
        surplus
    }
}

/// Looks at what is in a cell. The look must not be user code: the cell is empty meanwhile.
#[inline]
fn peek<T, R>(cell: &Cell<Option<T>>, look: impl FnOnce(&Option<T>) -> R) -> R {
    let value = cell.take();
    let seen = look(&value);
    cell.set(value);
    seen
}
