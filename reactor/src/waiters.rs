//! The wakers of the tasks that wait for a source.

use std::cell::Cell;
use std::collections::HashMap;
use std::mem::{self, offset_of};
use std::ptr;
use std::task::{RawWakerVTable, Waker};

use crate::poller::Interest;
use crate::wake::{drop_all, wake_all};

/// The wakers of a source. A single waker, the usual case, takes no allocation. Any number may
/// wait, each waker once per interest.
pub(crate) struct Waiters {
    first: Cell<Option<Waker>>,
    /// The interest of the first waker.
    interest: Cell<Interest>,
    /// Zero if the first waker is a leftover of a wait that has ended.
    holders: Cell<Holders>,
    /// Allocated for the second waiter, and kept.
    others: Cell<Option<Box<Others>>>,
}

/// Counts the futures that wait with a waker. They remove it when they are dropped. `UNTICKETED` is
/// added if a poll method has left the waker, because such a waker stays until an event.
type Holders = u32;
const UNTICKETED: Holders = 1 << 31;

/// The wakers beside the first, by interest.
#[derive(Default)]
pub(crate) struct Others([Crowd; 4]);

pub(crate) const INTERESTS: [Interest; 4] = [
    Interest::Read,
    Interest::Write,
    Interest::Priority,
    Interest::Error,
];

/// The wakers of one interest, each once.
#[derive(Default)]
struct Crowd {
    waiters: Vec<Waiter>,
    /// Present if there are more than `FEW`.
    index: Option<Box<Index>>,
}

pub(crate) struct Waiter {
    waker: Waker,
    holders: Holders,
}

/// Up to this number, wakers are searched one by one.
const FEW: usize = 16;

/// A silent source accepts at least this number of new wakers without a ticket before it checks
/// those that it has.
const UNCHECKED: usize = 64;

/// Finds a waker in constant time, and bounds the wakers without a ticket.
///
/// A poll method leaves its waker with the source until the next event. If the task stops waiting,
/// the waker stays, and on a silent source such wakers would accumulate. After a number of new
/// ones, a check removes and wakes all of them once. Tasks that still wait register again.
///
/// Checks stop by themselves. A check needs new waiters, at least [`UNCHECKED`] and at least twice
/// as many as returned after the previous check. A returning waiter is recognized, because its
/// identity is stored for a number of turns that grows with the crowd. So each new waiter costs a
/// constant number of wakes, and a crowd that only waits is free.
#[derive(Default)]
struct Index {
    positions: HashMap<Identity, usize>,
    /// The wakers that a check has called, with the number of its turn.
    checked: HashMap<Identity, u32>,
    /// The number of waiters that the last event woke. So many may return and count as known.
    expected: usize,
    /// The new and the returning waiters since the last check.
    new: usize,
    returned: usize,
    /// The number of turns that a waiter may take to return after a check. A later one counts as
    /// new, because the waker of a new task may have the address of one that the check dropped.
    patience: u32,
    /// The turn in which old entries of `checked` were last removed.
    cleaned: u32,
}

/// Two wakers of equal identity wake the same task. `Waker::will_wake` compares the same.
pub(crate) type Identity = (usize, usize);

#[inline]
pub(crate) fn identity(waker: &Waker) -> Identity {
    (waker.data().addr(), ptr::from_ref(waker.vtable()).addr())
}

/// The two parts of a waker.
pub(crate) fn identity_parts(waker: &Waker) -> (*const (), &'static RawWakerVTable) {
    (waker.data(), waker.vtable())
}

impl Waiters {
    pub(crate) const FIRST_OFFSET: usize = offset_of!(Waiters, first);
    pub(crate) const INTEREST_OFFSET: usize = offset_of!(Waiters, interest);
    pub(crate) const HOLDERS_OFFSET: usize = offset_of!(Waiters, holders);
    pub(crate) const OTHERS_OFFSET: usize = offset_of!(Waiters, others);

    pub(crate) const fn new() -> Self {
        Waiters {
            first: Cell::new(None),
            interest: Cell::new(Interest::Read),
            holders: Cell::new(0),
            others: Cell::new(None),
        }
    }

    pub(crate) fn is_empty(&self, interest: Interest) -> bool {
        let no_first = self.interest.get() != interest || peek(&self.first, Option::is_none);
        let no_other = |others: &Option<Box<Others>>| {
            let crowd = others.as_ref().map(|others| &others.0[interest as usize]);
            crowd.is_none_or(|crowd| crowd.waiters.is_empty())
        };
        no_first && peek(&self.others, no_other)
    }

    /// Passes each waker of a wait that has not ended to `visit`, which must not run user code.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Interest, &Waker)) {
        if self.holders.get() != 0 {
            let interest = self.interest.get();
            peek(&self.first, |first| {
                first.iter().for_each(|waker| visit(interest, waker));
            });
        }
        peek(&self.others, |others| {
            let crowds = others
                .iter()
                .flat_map(|others| INTERESTS.iter().zip(&others.0));
            for (&interest, crowd) in crowds {
                let waiters = crowd.waiters.iter();
                waiters.for_each(|waiter| visit(interest, &waiter.waker));
            }
        });
    }

    /// Moves the wakers of an interest to `woken`.
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
        others.crowd(interest).take(woken);
        self.others.set(Some(others));
    }

    /// Moves all wakers out.
    #[inline]
    pub(crate) fn take_all(&self) -> Waiters {
        Waiters {
            first: Cell::new(self.first.take()),
            interest: self.interest.clone(),
            holders: self.holders.clone(),
            others: Cell::new(self.others.take()),
        }
    }

    /// Drops all wakers, which is user code.
    #[inline]
    pub(crate) fn discard(self) {
        if let Some(first) = self.first.into_inner() {
            drop_all([first]);
        }
        if let Some(others) = self.others.into_inner() {
            others.discard();
        }
    }

    /// Moves all wakers to `woken`. Returns whether one of them was of a wait that has not ended.
    #[cold]
    pub(crate) fn append_to(self, woken: &mut Vec<Waker>) -> bool {
        let mut waits = false;
        self.for_each(|_, _| waits = true);
        for interest in INTERESTS {
            self.take(interest, woken);
        }
        waits
    }

    /// Adds a waker until the next event, unless it is registered already. `turn` is the number of
    /// the current turn.
    #[inline]
    pub(crate) fn add(&self, interest: Interest, waker: &Waker, turn: u32) {
        self.add_as(UNTICKETED, interest, waker, turn);
    }

    /// As `add`, for a future that removes the waker again unless an event comes first.
    #[inline]
    pub(crate) fn add_holder(&self, interest: Interest, waker: &Waker, turn: u32) {
        self.add_as(1, interest, waker, turn);
    }

    #[inline]
    fn add_as(&self, holder: Holders, interest: Interest, waker: &Waker, turn: u32) {
        if self.is_first(interest, waker) {
            self.holders.set(hold(self.holders.get(), holder));
            return;
        }
        if !peek(&self.others, Option::is_none) && self.others_hold(interest, waker, holder) {
            return;
        }
        let waker = waker.clone(); // user code: all cells are filled
        if peek(&self.first, Option::is_none) {
            self.interest.set(interest);
            self.holders.set(holder);
            self.first.set(Some(waker));
        } else if self.holders.get() == 0 {
            self.replace_first(interest, waker, holder);
        } else {
            self.add_other(interest, waker, holder, turn);
        }
    }

    /// Replaces a first waker that is a leftover.
    #[cold]
    fn replace_first(&self, interest: Interest, waker: Waker, holder: Holders) {
        self.interest.set(interest);
        self.holders.set(holder);
        drop_all(self.first.replace(Some(waker)));
    }

    /// Ends the wait of a future. Must be called once per `add_holder`, unless an event has come
    /// since.
    ///
    /// The first waker stays until another one needs its slot or an event takes it. A task that
    /// cancelled a wait often waits again, which then saves a clone of its waker.
    #[inline(never)]
    pub(crate) fn remove_holder(&self, interest: Interest, waker: Identity) {
        let is = |first: &Option<Waker>| first.as_ref().is_some_and(|it| identity(it) == waker);
        if self.interest.get() == interest && peek(&self.first, is) {
            self.holders.set(release(self.holders.get()));
        } else {
            drop_all(self.with_others(|others| others.crowd(interest).remove_holder(waker)));
        }
    }

    #[inline]
    fn is_first(&self, interest: Interest, waker: &Waker) -> bool {
        let is_first = |first: &Option<Waker>| first.as_ref().is_some_and(|w| w.will_wake(waker));
        self.interest.get() == interest && peek(&self.first, is_first)
    }

    #[cold]
    fn others_hold(&self, interest: Interest, waker: &Waker, holder: Holders) -> bool {
        self.with_others(|others| others.crowd(interest).hold(waker, holder))
    }

    #[cold]
    fn add_other(&self, interest: Interest, waker: Waker, holder: Holders, turn: u32) {
        let (spare, checked) =
            self.with_others(|others| others.crowd(interest).add(waker, holder, turn));
        drop_all(spare);
        wake_all(checked);
    }

    /// Gives access to the wakers beside the first. `change` must not run user code.
    fn with_others<R>(&self, change: impl FnOnce(&mut Others) -> R) -> R {
        let mut others = self.others.take().unwrap_or_default();
        let result = change(&mut others);
        self.others.set(Some(others));
        result
    }
}

/// Adds a holder, which is one future or `UNTICKETED`. If the count would overflow, the waker stays
/// until the next event.
fn hold(holders: Holders, holder: Holders) -> Holders {
    match holder {
        UNTICKETED => holders | UNTICKETED,
        _ if holders & !UNTICKETED == UNTICKETED - 1 => holders | UNTICKETED,
        _ => holders + 1,
    }
}

/// Subtracts one future.
fn release(holders: Holders) -> Holders {
    match holders & !UNTICKETED {
        0 => holders,
        _ => holders - 1,
    }
}

impl Waiter {
    pub(crate) const WAKER_OFFSET: usize = offset_of!(Waiter, waker);
}

impl Others {
    /// Where the lists of wakers are, in the order of the interests.
    pub(crate) const WAITERS_OFFSETS: [usize; 4] = {
        let first = offset_of!(Others, 0) + offset_of!(Crowd, waiters);
        let size = size_of::<Crowd>();
        [first, first + size, first + 2 * size, first + 3 * size]
    };

    fn crowd(&mut self, interest: Interest) -> &mut Crowd {
        &mut self.0[interest as usize]
    }

    #[cold]
    fn discard(self) {
        let waiters = self.0.into_iter().flat_map(|crowd| crowd.waiters);
        drop_all(waiters.map(|waiter| waiter.waker));
    }
}

impl Crowd {
    fn find(&self, waker: Identity) -> Option<usize> {
        let mut all = self.waiters.iter();
        match &self.index {
            Some(index) => index.positions.get(&waker).copied(),
            None => all.position(|it| identity(&it.waker) == waker),
        }
    }

    /// Adds a holder to a waker. Returns false if the waker is missing.
    fn hold(&mut self, waker: &Waker, holder: Holders) -> bool {
        let found = self.find(identity(waker));
        if let Some(position) = found {
            let holders = &mut self.waiters[position].holders;
            *holders = hold(*holders, holder);
        }
        found.is_some()
    }

    /// Returns the waker if an equal one is there, and the wakers that a check has to call.
    fn add(&mut self, waker: Waker, holder: Holders, turn: u32) -> (Option<Waker>, Vec<Waker>) {
        if self.hold(&waker, holder) {
            return (Some(waker), Vec::new());
        }
        let mut checked = Vec::new();
        if holder == UNTICKETED && self.is_check_due(identity(&waker), turn) {
            checked = self.take_unticketed(turn);
        }
        if let Some(index) = &mut self.index {
            index.positions.insert(identity(&waker), self.waiters.len());
        }
        let holders = holder;
        self.waiters.push(Waiter { waker, holders });
        if self.waiters.len() > FEW {
            self.index.get_or_insert_default().fill(&self.waiters);
        }
        (None, checked)
    }

    fn is_check_due(&mut self, waker: Identity, turn: u32) -> bool {
        let index = self.index.as_mut();
        index.is_some_and(|index| index.note_waiter(waker, turn))
    }

    /// Removes all wakers without a ticket.
    fn take_unticketed(&mut self, turn: u32) -> Vec<Waker> {
        let all = mem::take(&mut self.waiters).into_iter();
        let (unticketed, held): (Vec<_>, _) = all.partition(|waiter| waiter.holders == UNTICKETED);
        self.waiters = held;
        let unticketed: Vec<_> = unticketed.into_iter().map(|waiter| waiter.waker).collect();
        if let Some(index) = &mut self.index {
            index.positions.clear();
            index.fill(&self.waiters);
            index.note_check(&unticketed, turn);
        }
        unticketed
    }

    fn remove_holder(&mut self, waker: Identity) -> Option<Waker> {
        let position = self.find(waker)?;
        let holders = &mut self.waiters[position].holders;
        *holders = release(*holders);
        if *holders != 0 {
            return None;
        }
        let removed = self.waiters.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.positions.remove(&waker);
            if let Some(moved) = self.waiters.get(position) {
                index.positions.insert(identity(&moved.waker), position);
            }
            if index.positions.capacity() > 8 * self.waiters.len().max(FEW) {
                index.positions.shrink_to(2 * self.waiters.len());
                self.waiters.shrink_to(2 * self.waiters.len());
            }
        }
        Some(removed.waker)
    }

    /// Moves all to `woken`, and frees the memory of a crowd.
    fn take(&mut self, woken: &mut Vec<Waker>) {
        self.index = None;
        if self.waiters.len() > FEW {
            let expected = self.waiters.len();
            self.index.get_or_insert_default().expected = expected;
        }
        woken.extend(self.waiters.drain(..).map(|waiter| waiter.waker));
        if self.waiters.capacity() > FEW {
            self.waiters = Vec::new();
        }
    }
}

impl Index {
    /// Indexes all wakers, unless they are indexed already.
    fn fill(&mut self, waiters: &[Waiter]) {
        if self.positions.len() < waiters.len() {
            let all = waiters.iter().enumerate();
            let positions = all.map(|(position, waiter)| (identity(&waiter.waker), position));
            self.positions.extend(positions);
        }
    }

    /// Counts a waiter. Returns true if it is new, and so many are new that a check is due.
    fn note_waiter(&mut self, waker: Identity, turn: u32) -> bool {
        let checked = self.checked.remove(&waker);
        if checked.is_some_and(|woken| turn.wrapping_sub(woken) <= self.patience) {
            self.returned += 1;
        } else if self.expected > 0 {
            self.expected -= 1;
        } else {
            self.new += 1;
            return self.new > UNCHECKED.max(2 * self.returned);
        }
        false
    }

    /// Records the wakers that a check is about to call.
    fn note_check(&mut self, waiters: &[Waker], turn: u32) {
        // Limits the spurious wakes to 16 per turn.
        self.patience = ((self.checked.len() + waiters.len()) / 16).clamp(4, 4096) as u32;
        if turn.wrapping_sub(self.cleaned) > self.patience / 4 {
            self.checked
                .retain(|_, woken| turn.wrapping_sub(*woken) <= self.patience);
            self.checked.shrink_to(2 * self.checked.len());
            self.cleaned = turn;
        }
        let woken = waiters.iter().map(|waker| (identity(waker), turn));
        self.checked.extend(woken);
        self.new = 0;
        self.returned = 0;
    }
}

/// Inspects the value of a cell. `inspect` must not run user code, because the cell is empty while
/// it runs.
#[inline]
fn peek<T, R>(cell: &Cell<Option<T>>, inspect: impl FnOnce(&Option<T>) -> R) -> R {
    let value = cell.take();
    let result = inspect(&value);
    cell.set(value);
    result
}
