//! Who waits for a source.

use std::cell::Cell;
use std::task::Waker;

use crate::reactor::wake_all;
use crate::source::Interest;

/// Nearly always it's one, for one direction. Any number may wait, each once.
pub(crate) struct Waiters {
    first: Cell<Option<Waker>>,
    /// What the first waits for.
    interest: Cell<Interest>,
    /// Made when there is another, and kept.
    others: Cell<Option<Box<Others>>>,
}

struct Others {
    read: Crowd,
    write: Crowd,
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
            interest: Cell::new(Interest::Read),
            others: Cell::new(None),
        }
    }

    pub(crate) fn is_empty(&self, interest: Interest) -> bool {
        let no_first = self.interest.get() != interest || peek(&self.first, Option::is_none);
        let no_other =
            |others: &Option<Box<Others>>| others.iter().all(|it| it.get(interest).is_empty());
        no_first && peek(&self.others, no_other)
    }

    /// Moves all that wait for the direction to `woken`.
    #[inline]
    pub(crate) fn take(&self, interest: Interest, woken: &mut Vec<Waker>) {
        if self.interest.get() == interest {
            if let Some(first) = self.first.take() {
                woken.push(first);
            }
        }
        if let Some(others) = self.others.take() {
            self.take_others(others, interest, woken);
        }
    }

    #[cold]
    fn take_others(&self, mut others: Box<Others>, interest: Interest, woken: &mut Vec<Waker>) {
        woken.append(&mut others.crowd(interest).waiters);
        self.others.set(Some(others));
    }

    /// Moves all out.
    pub(crate) fn take_all(&self) -> Waiters {
        Waiters {
            first: Cell::new(self.first.take()),
            interest: self.interest.clone(),
            others: Cell::new(self.others.take()),
        }
    }

    /// Adds one, unless it waits already. `turn` is the number of this turn.
    #[inline]
    pub(crate) fn add(&self, interest: Interest, waker: &Waker, turn: u32) {
        if self.has(interest, waker) {
            return;
        }
        let waker = waker.clone(); // user code: nothing is out of its place meanwhile
        if peek(&self.first, Option::is_none) {
            self.interest.set(interest);
            self.first.set(Some(waker));
        } else {
            wake_all(self.add_other(interest, waker, turn));
        }
    }

    #[inline]
    fn has(&self, interest: Interest, waker: &Waker) -> bool {
        let is_first = |first: &Option<Waker>| first.as_ref().is_some_and(|w| w.will_wake(waker));
        let is_first = self.interest.get() == interest && peek(&self.first, is_first);
        is_first || !peek(&self.others, Option::is_none) && self.others_have(interest, waker)
    }

    #[cold]
    fn others_have(&self, interest: Interest, waker: &Waker) -> bool {
        peek(&self.others, |others| {
            let mut others = others.iter().flat_map(|it| it.get(interest));
            others.any(|other| other.will_wake(waker))
        })
    }

    /// Hands back those that there are too many of, to be woken.
    ///
    /// A future that is dropped leaves its waker behind until the next event, which is then a
    /// spurious wake. So that such wakers don't pile up on a source that stays silent, all are
    /// woken when they are many, and those who still wait come back. If they are back by the next
    /// turn it is a real crowd, and gets more room. What comes within one turn proves nothing.
    #[cold]
    fn add_other(&self, interest: Interest, waker: Waker, turn: u32) -> Vec<Waker> {
        let mut others = self.others.take().unwrap_or_else(Others::new);
        let crowd = others.crowd(interest);
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
        self.others.set(Some(others));
        surplus
    }
}

impl Others {
    fn new() -> Box<Others> {
        let crowd = || Crowd {
            waiters: Vec::new(),
            room: FEW,
            too_little: 0,
        };
        Box::new(Others {
            read: crowd(),
            write: crowd(),
        })
    }

    fn get(&self, interest: Interest) -> &[Waker] {
        match interest {
            Interest::Read => &self.read.waiters,
            Interest::Write => &self.write.waiters,
        }
    }

    fn crowd(&mut self, interest: Interest) -> &mut Crowd {
        match interest {
            Interest::Read => &mut self.read,
            Interest::Write => &mut self.write,
        }
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
