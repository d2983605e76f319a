//! The timers of a reactor: pure data. Deadlines are nanoseconds since an epoch that the caller
//! chooses, and `now` is handed in; nothing here reads a clock or knows of an operating system.
//!
//! The shape is the hierarchical timing wheel of Varghese & Lauck ("Hashed and Hierarchical Timing
//! Wheels", SOSP 1987), without its ticking hand: a caller sleeps until [`Timers::next_deadline`]
//! and [`Timers::fire`] jumps there. A deadline is a row of digits in base 64 over a tick of 65 µs:
//!
//! ```text
//!   bit  63   58   52   46   40   34   28   22   16               0
//!         | L7 | L6 | L5 | L4 | L3 | L2 | L1 | L0 |  within a tick |
//! ```
//!
//! A level is a ring of slots for two windows: the one that `now` is in, and the next one. A timer
//! waits on the lowest level whose windows reach it. The slot of a higher level that comes next is
//! emptied in advance, some timers at each `fire`, into the next window of the level below; so a
//! hundred thousand timers that were far don't have to move down in one go, at the moment when the
//! first of them is due. Once `now` reaches a slot above level 0, what is left there moves down: if
//! nothing has fired for a while before, all that was there.
//!
//! Invariant: of equal deadlines the one inserted first is on the lower level, or ahead in the same
//! slot. So they fire in the order in which they were inserted. (A new timer doesn't go past a slot
//! that is still to be emptied.)

use std::mem;

/// A tick is 2^16 ns, 65.5 µs. A finer one takes a timer through more levels, a coarser one makes
/// lists longer that are searched for what is due.
const TICK_BITS: u32 = 16;

/// A window has 64 slots. Two are as many as a `u128` has bits to tell which are occupied.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 2 << SLOT_BITS;

/// Eight levels of six bits over a tick of sixteen: any `u64` fits, and nothing overflows.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(SLOT_BITS) as usize;

/// How many timers of a level a `fire` moves down in advance, and as many again for each that it
/// fires: so they come down as fast as others go, and one that fires alone doesn't wait for many.
const AHEAD: usize = 8;

/// As a limit: `find_next` is to be asked.
const UNKNOWN: u64 = u64::MAX;

/// The end of a list of entries.
const NONE: u32 = u32::MAX;

/// Pending timers with a payload each, to be handed back when the timer fires or is removed.
///
/// A payload is never dropped here while the timers live, since its drop may be user code, and that
/// runs when nothing is borrowed. The memory stays at its peak: 40 bytes for each timer that was
/// pending at once (with a payload of 16 bytes), plus 24 KiB of slots.
pub(crate) struct Timers<T> {
    /// How late (ns) a timer may be for the sake of sharing a wake-up with later ones.
    slack: u64,
    /// Everything due until this moment (ns) has fired, unless `overdue`. Never goes back.
    now: u64,
    /// Some timer may be due at `now` already: it was inserted late, or `fire` met its limit.
    /// Stale after such a timer is removed, which costs one call of `fire` that finds nothing.
    overdue: bool,
    /// What `find_next` said last. It holds until `fire`, unless a timer comes or goes that could
    /// share the call.
    next: u64,
    limit: u64,
    /// For each level a bit for each slot that has entries, and a bit for each level that has any.
    occupied: [u128; LEVELS],
    levels: u8,
    /// All levels in one row, level 0 first.
    slots: Box<[Slot; LEVELS * SLOTS]>,
    /// Timers and vacancies. Only grows.
    entries: Vec<Entry<T>>,
    /// The list of vacancies, linked through `next`.
    vacant: u32,
    len: usize,
}

/// Names one timer for good: no later timer has an equal key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// A list of timers in order of insertion.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    /// The earliest and the latest deadline in it (ns). A removal leaves them as they are: then one
    /// wake-up may find nothing, but no timer is later than its slack.
    earliest: u64,
    latest: u64,
}

struct Entry<T> {
    /// None while the entry is vacant.
    payload: Option<T>,
    deadline: u64,
    prev: u32,
    next: u32,
    /// How often the entry was vacated.
    generation: u32,
    /// Where in `slots` the timer waits.
    place: u32,
}

impl<T> Timers<T> {
    pub(crate) fn new(slack: u64, now: u64) -> Self {
        Timers {
            slack,
            now,
            overdue: false,
            next: 0,
            limit: UNKNOWN,
            occupied: [0; LEVELS],
            levels: 0,
            slots: Box::new([Slot::EMPTY; LEVELS * SLOTS]),
            entries: Vec::new(),
            vacant: NONE,
            len: 0,
        }
    }

    /// How many timers are pending.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn set_slack(&mut self, slack: u64) {
        self.slack = slack;
        self.limit = UNKNOWN;
    }

    /// Adds a timer that fires once `now` is at `deadline` (ns) or past it. A deadline in the past
    /// is fine: the next `fire` takes it.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, payload: T) -> TimerKey {
        let index = self.allocate(deadline, payload);
        // The highest digit in which they differ; `| 1`: no difference is level 0 too.
        let differ = ((deadline.max(self.now) ^ self.now) >> TICK_BITS) | 1;
        self.link(index, deadline, (differ.ilog2() / SLOT_BITS) as usize);
        self.overdue |= deadline <= self.now;
        if self.len == 1 {
            (self.next, self.limit) = (deadline, deadline.saturating_add(self.slack));
        } else {
            self.forget_next(deadline);
        }
        TimerKey {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Takes a timer out before it fires; `None` once it has fired or was removed.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.get_mut(key)?;
        self.forget_next(self.entries[key.index as usize].deadline);
        self.unlink(key.index);
        self.release(key.index)
    }

    /// The payload of a pending timer; `None` once it has fired or was removed.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        // A vacant entry may have the generation too: that of the timer to come.
        if entry.generation == key.generation {
            entry.payload.as_mut()
        } else {
            None
        }
    }

    /// When to call `fire` (ns): then no timer is late by more than the slack, and as many as can
    /// share the call do. A moment in the past means at once. `None` if no timer is pending. The
    /// cost doesn't depend on their number.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        if self.overdue {
            return Some(self.now);
        }
        if self.limit == UNKNOWN {
            (self.next, self.limit) = self.find_next()?;
        }
        Some(self.next)
    }

    /// Moves the payloads of timers whose deadline is at or before `now` (ns) to the end of
    /// `fired`, tick by tick: all of them, or `limit` of them, and the others stay due.
    ///
    /// `now` comes from a clock that doesn't go back; if it does, the latest `now` holds.
    #[inline]
    pub(crate) fn fire(&mut self, now: u64, limit: usize, fired: &mut Vec<T>) {
        let now = now.max(self.now);
        let before = fired.len();
        let full = before.saturating_add(limit);
        self.limit = UNKNOWN;
        while let Some((level, unit)) = self.first() {
            let start = unit << shift(level);
            if start > now {
                break;
            }
            // The slot is the first, so nothing is skipped by going to its start.
            self.now = self.now.max(start);
            if level > 0 {
                self.cascade(level, unit, usize::MAX);
                continue;
            }
            if !self.take_due(place(level, unit), now, full, fired) {
                self.overdue = true;
                return;
            }
            if start >> TICK_BITS == now >> TICK_BITS {
                break; // what is left in the slot is due later in this tick
            }
        }
        self.now = now;
        self.overdue = false;
        let ahead = AHEAD * (1 + fired.len() - before);
        for level in 1..LEVELS {
            self.cascade(level, (now >> shift(level)) + 1, ahead);
        }
    }
}

// The wheel.
impl<T> Timers<T> {
    /// The levels that have timers, the lowest first.
    fn levels(&self) -> impl Iterator<Item = usize> + use<T> {
        let mut left = self.levels;
        std::iter::from_fn(move || {
            let level = (left != 0).then(|| left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            level
        })
    }

    /// The numbers of the occupied slots of a level, from the one of `now` on: how many slots of
    /// this level there are since the epoch.
    fn units(&self, level: usize) -> impl Iterator<Item = u64> + use<T> {
        let now = self.now >> shift(level);
        let mut left = self.occupied[level].rotate_right((now % SLOTS as u64) as u32);
        std::iter::from_fn(move || {
            let unit = (left != 0).then(|| now + u64::from(left.trailing_zeros()));
            left &= left.wrapping_sub(1);
            unit
        })
    }

    fn slots_of(&self, level: usize) -> impl Iterator<Item = &Slot> {
        self.units(level)
            .map(move |unit| &self.slots[place(level, unit)])
    }

    /// When timers have to fire, and up to when others could share that call.
    fn find_next(&self) -> Option<(u64, u64)> {
        // Slots of one level come one after the other, those of several levels may overlap.
        let firsts = self
            .levels()
            .filter_map(|level| self.slots_of(level).next());
        let earliest = firsts.map(|slot| slot.earliest).min()?;
        let limit = earliest.saturating_add(self.slack);
        let shared = self.levels().flat_map(|level| {
            // In a slot that is longer than the slack the first may be alone, and isn't made late.
            // If it has company, that costs one wake-up more: then they are on a lower level.
            let is_long = 1 << shift(level) > self.slack;
            let slots = self.slots_of(level);
            let near = slots.take_while(move |slot| slot.earliest <= limit);
            near.map(move |slot| match is_long && slot.latest > limit {
                true => slot.earliest,
                false => slot.latest.min(limit),
            })
        });
        Some((shared.max()?, limit))
    }

    /// A timer comes or goes.
    fn forget_next(&mut self, deadline: u64) {
        if deadline <= self.limit {
            self.limit = UNKNOWN;
        }
    }

    /// The level and number of the slot that begins first. Of several, the one on the highest
    /// level: its timers have to move down before others fire.
    fn first(&self) -> Option<(usize, u64)> {
        let firsts = self
            .levels()
            .filter_map(|level| Some((level, self.units(level).next()?)));
        firsts.min_by_key(|&(level, unit)| (unit << shift(level), LEVELS - level))
    }

    /// Moves timers of a slot to lower levels, in order; `limit` of them at most.
    fn cascade(&mut self, level: usize, unit: u64, limit: usize) {
        for _ in 0..limit {
            let head = self.slots[place(level, unit)].head;
            if head == NONE {
                break;
            }
            self.unlink(head);
            self.link(head, self.entries[head as usize].deadline, level - 1);
        }
    }

    /// Moves what is due in a slot of level 0 to `fired`. False if that got full before the end.
    fn take_due(&mut self, place: usize, now: u64, full: usize, fired: &mut Vec<T>) -> bool {
        let mut index = self.slots[place].head;
        let (mut earliest, mut latest) = (u64::MAX, 0);
        while index != NONE {
            let Entry { deadline, next, .. } = self.entries[index as usize];
            if deadline > now {
                earliest = earliest.min(deadline);
                latest = latest.max(deadline);
            } else if fired.len() < full {
                self.unlink(index);
                fired.extend(self.release(index));
            } else {
                return false;
            }
            index = next;
        }
        (self.slots[place].earliest, self.slots[place].latest) = (earliest, latest);
        true
    }
}

// The lists: O(1) each.
impl<T> Timers<T> {
    /// Appends an entry to the slot of its deadline, on `level` or below.
    fn link(&mut self, index: u32, deadline: u64, mut level: usize) {
        // The past waits in the slot of `now`, which is never behind the next `fire`.
        let time = deadline.max(self.now);
        while level > 0 {
            let unit = time >> shift(level);
            let is_far = unit > (self.now >> shift(level)) + 1;
            if is_far || self.slots[place(level, unit)].head != NONE {
                break;
            }
            level -= 1;
        }
        let unit = time >> shift(level);
        let place = place(level, unit);
        let slot = &mut self.slots[place];
        let tail = mem::replace(&mut slot.tail, index);
        if tail == NONE {
            slot.head = index;
            (slot.earliest, slot.latest) = (deadline, deadline);
            self.occupied[level] |= bit(unit);
            self.levels |= 1 << level;
        } else {
            slot.earliest = slot.earliest.min(deadline);
            slot.latest = slot.latest.max(deadline);
            self.entries[tail as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = tail;
        entry.next = NONE;
        entry.place = place as u32;
    }

    /// Takes an entry out of its slot.
    #[inline(always)] // a cold second caller would turn it into a call, 14 instructions more
    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, place, ..
        } = self.entries[index as usize];
        let slot = &mut self.slots[place as usize];
        match prev {
            NONE => slot.head = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            NONE => slot.tail = prev,
            next => self.entries[next as usize].prev = prev,
        }
        if slot.head == NONE {
            let level = place as usize / SLOTS;
            self.occupied[level] &= !bit(place.into());
            self.levels &= !(u8::from(self.occupied[level] == 0) << level);
        }
    }

    /// An entry for a new timer, the one vacated last if there is any: it is likely in the cache.
    #[inline]
    fn allocate(&mut self, deadline: u64, payload: T) -> u32 {
        self.len += 1;
        let index = self.vacant;
        if let Some(entry) = self.entries.get_mut(index as usize) {
            self.vacant = entry.next;
            entry.payload = Some(payload);
            entry.deadline = deadline;
            return index;
        }
        let index = self.entries.len();
        assert!(
            index < NONE as usize,
            "more than four billion timers at once"
        );
        let payload = Some(payload);
        self.entries.push(Entry {
            payload,
            deadline,
            prev: NONE,
            next: NONE,
            generation: 0,
            place: 0,
        });
        index as u32
    }

    /// Ends an entry's timer and offers the entry to later ones.
    #[inline]
    fn release(&mut self, index: u32) -> Option<T> {
        self.len -= 1;
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        // After four billion timers the generations begin again, and an old key would name a
        // stranger. The entry is left unused instead: 40 bytes lost, in minutes at the fastest.
        if entry.generation != 0 {
            entry.next = mem::replace(&mut self.vacant, index);
        }
        entry.payload.take()
    }
}

impl Slot {
    const EMPTY: Slot = Slot {
        head: NONE,
        tail: NONE,
        earliest: 0,
        latest: 0,
    };
}

/// The slots of a level are 2^shift ns long.
fn shift(level: usize) -> u32 {
    TICK_BITS + SLOT_BITS * level as u32
}

/// The bit in `occupied` of a slot.
fn bit(unit: u64) -> u128 {
    1 << (unit % SLOTS as u64)
}

/// Where in `slots` a slot is.
fn place(level: usize, unit: u64) -> usize {
    level * SLOTS + unit as usize % SLOTS
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
