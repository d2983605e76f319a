//! The wakers of the tasks that wait for a source.

use std::cell::Cell;
use std::collections::HashMap;
use std::mem;
use std::ptr;
use std::task::Waker;

use crate::poller::Interest;
use crate::wake::{drop_all, wake_all};

/// Nearly always one task waits, for one direction. Any number may wait, each of them once.
pub(crate) struct Waiters {
    first: Cell<Option<Waker>>,
    /// What the first waits for.
    interest: Cell<Interest>,
    /// What waits by the first waker; zero if nothing does any more.
    holders: Cell<Holders>,
    /// Made for the second waiter, and kept.
    others: Cell<Option<Box<Others>>>,
}

/// How many futures wait by a waker and will remove it when they are dropped; `LOOSE` is added if
/// it's also there for a poll method, which nothing removes.
type Holders = u32;
const LOOSE: Holders = 1 << 31;

/// The crowd of each interest.
#[derive(Default)]
struct Others([Crowd; 4]);

/// The wakers of one direction, each once.
#[derive(Default)]
struct Crowd {
    waiters: Vec<Waiter>,
    /// Made when there are more than `FEW`.
    index: Option<Box<Index>>,
}

struct Waiter {
    waker: Waker,
    holders: Holders,
}

/// How many wakers are searched one by one.
const FEW: usize = 16;

/// How many new loose waiters a silent source takes at least before those that it has are checked.
const UNCHECKED: usize = 64;

/// Finds a waker in constant time, and bounds the wakers that nothing removes.
///
/// A poll method leaves its waker with the source until the next event, though the task may have
/// given up by then. On a source that stays silent such wakers would pile up. So after a number of
/// new ones all of them are woken once: tasks that still wait come back, the other wakers are gone.
///
/// This comes to rest whatever the tasks do. A check needs new waiters, at least [`UNCHECKED`] and
/// at least twice as many as came back after the last check. A waiter that comes back isn't new:
/// its identity is remembered for a number of turns that grows with the crowd. So each new waiter
/// costs a constant number of wakes, and a crowd that only waits costs none.
#[derive(Default)]
struct Index {
    places: HashMap<Identity, usize>,
    /// Those that a check has woken, and the number of its turn.
    checked: HashMap<Identity, u32>,
    /// How many waiters the last event has woken, which are expected to come back. They aren't new.
    expected: usize,
    /// Since the last check: how many were new, and how many came back.
    new: usize,
    returned: usize,
    /// The turn in which `checked` was last cleaned.
    cleaned: u32,
}

/// Two wakers of equal identity wake the same task: this is what `Waker::will_wake` compares.
pub(crate) type Identity = (usize, usize);

#[inline]
pub(crate) fn identity(waker: &Waker) -> Identity {
    (waker.data().addr(), ptr::from_ref(waker.vtable()).addr())
}

impl Waiters {
    pub(crate) fn new() -> Self {
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
        others.crowd(interest).take(woken);
        self.others.set(Some(others));
    }

    /// Moves all out, of both directions and of all kinds of news.
    #[inline]
    pub(crate) fn take_all(&self) -> Waiters {
        Waiters {
            first: Cell::new(self.first.take()),
            interest: self.interest.clone(),
            holders: self.holders.clone(),
            others: Cell::new(self.others.take()),
        }
    }

    /// Drops all, which is user code.
    #[inline]
    pub(crate) fn discard(self) {
        if let Some(first) = self.first.into_inner() {
            drop_all([first]);
        }
        if let Some(others) = self.others.into_inner() {
            others.discard();
        }
    }

    /// Adds one until the next event, unless it waits already. `turn` is the number of this turn.
    #[inline]
    pub(crate) fn add(&self, interest: Interest, waker: &Waker, turn: u32) {
        self.add_as(LOOSE, interest, waker, turn);
    }

    /// As `add`, for a future that removes it again, unless an event comes first.
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
        let waker = waker.clone(); // user code: nothing is out of its place meanwhile
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

    /// Nothing waits by the first waker any more.
    #[cold]
    fn replace_first(&self, interest: Interest, waker: Waker, holder: Holders) {
        self.interest.set(interest);
        self.holders.set(holder);
        drop_all(self.first.replace(Some(waker)));
    }

    /// A future doesn't wait any more. To be called once after `add_holder`, and only if no event
    /// has come since.
    ///
    /// The first waker stays until another one needs its place, or the next event: a task that gave
    /// up often waits again, and then the waker isn't cloned anew.
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

    /// Changes what is kept beside the first. The change must not be user code.
    fn with_others<R>(&self, change: impl FnOnce(&mut Others) -> R) -> R {
        let mut others = self.others.take().unwrap_or_default();
        let result = change(&mut others);
        self.others.set(Some(others));
        result
    }
}

/// Adds a holder: one future, or `LOOSE`. What is too many to be counted stays until the event.
fn hold(holders: Holders, holder: Holders) -> Holders {
    match holder {
        LOOSE => holders | LOOSE,
        _ if holders & !LOOSE == LOOSE - 1 => holders | LOOSE,
        _ => holders + 1,
    }
}

/// Takes a future away.
fn release(holders: Holders) -> Holders {
    match holders & !LOOSE {
        0 => holders,
        _ => holders - 1,
    }
}

impl Others {
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
            Some(index) => index.places.get(&waker).copied(),
            None => all.position(|it| identity(&it.waker) == waker),
        }
    }

    /// One more waits by a waker that is there already.
    fn hold(&mut self, waker: &Waker, holder: Holders) -> bool {
        let found = self.find(identity(waker));
        if let Some(place) = found {
            let holders = &mut self.waiters[place].holders;
            *holders = hold(*holders, holder);
        }
        found.is_some()
    }

    /// Returns the waker if it's there by now, and wakers to be called in order to see whether they
    /// still wait.
    fn add(&mut self, waker: Waker, holder: Holders, turn: u32) -> (Option<Waker>, Vec<Waker>) {
        if self.hold(&waker, holder) {
            return (Some(waker), Vec::new());
        }
        let mut checked = Vec::new();
        if holder == LOOSE && self.is_check_due(identity(&waker)) {
            checked = self.take_loose(turn);
        }
        if let Some(index) = &mut self.index {
            index.places.insert(identity(&waker), self.waiters.len());
        }
        let holders = holder;
        self.waiters.push(Waiter { waker, holders });
        if self.waiters.len() > FEW {
            self.index.get_or_insert_default().fill(&self.waiters);
        }
        (None, checked)
    }

    fn is_check_due(&mut self, waker: Identity) -> bool {
        let index = self.index.as_mut();
        index.is_some_and(|index| index.is_new(waker) && index.has_many_new())
    }

    /// Takes all out that nothing removes.
    fn take_loose(&mut self, turn: u32) -> Vec<Waker> {
        let all = mem::take(&mut self.waiters).into_iter();
        let (loose, held): (Vec<_>, _) = all.partition(|waiter| waiter.holders == LOOSE);
        self.waiters = held;
        let loose: Vec<_> = loose.into_iter().map(|waiter| waiter.waker).collect();
        if let Some(index) = &mut self.index {
            index.places.clear();
            index.fill(&self.waiters);
            index.note_check(&loose, turn);
        }
        loose
    }

    fn remove_holder(&mut self, waker: Identity) -> Option<Waker> {
        let place = self.find(waker)?;
        let holders = &mut self.waiters[place].holders;
        *holders = release(*holders);
        if *holders != 0 {
            return None;
        }
        let removed = self.waiters.swap_remove(place);
        if let Some(index) = &mut self.index {
            index.places.remove(&waker);
            if let Some(moved) = self.waiters.get(place) {
                index.places.insert(identity(&moved.waker), place);
            }
            if index.places.capacity() > 8 * self.waiters.len().max(FEW) {
                index.places.shrink_to(2 * self.waiters.len());
                self.waiters.shrink_to(2 * self.waiters.len());
            }
        }
        Some(removed.waker)
    }

    /// Moves all to `woken`. The memory of a crowd goes back.
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
    /// Notes where each is, if it isn't noted yet.
    fn fill(&mut self, waiters: &[Waiter]) {
        if self.places.len() < waiters.len() {
            let all = waiters.iter().enumerate();
            let places = all.map(|(place, waiter)| (identity(&waiter.waker), place));
            self.places.extend(places);
        }
    }

    /// Counts one that begins to wait. True if it counts as new.
    fn is_new(&mut self, waker: Identity) -> bool {
        if self.checked.remove(&waker).is_some() {
            self.returned += 1;
        } else if self.expected > 0 {
            self.expected -= 1;
        } else {
            self.new += 1;
            return true;
        }
        false
    }

    fn has_many_new(&self) -> bool {
        self.new > UNCHECKED.max(2 * self.returned)
    }

    /// These are about to be woken.
    fn note_check(&mut self, waiters: &[Waker], turn: u32) {
        // How long a waiter may take to come back. Should it take longer, it counts as new: then
        // there are at most 16 spurious wakes per turn.
        let patience = ((self.checked.len() + waiters.len()) / 16).clamp(4, 4096) as u32;
        if turn.wrapping_sub(self.cleaned) > patience / 4 {
            let is_recent = |woken: u32| turn.wrapping_sub(woken) <= patience;
            self.checked.retain(|_, woken| is_recent(*woken));
            self.checked.shrink_to(2 * self.checked.len());
            self.cleaned = turn;
        }
        let woken = waiters.iter().map(|waker| (identity(waker), turn));
        self.checked.extend(woken);
        self.new = 0;
        self.returned = 0;
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
