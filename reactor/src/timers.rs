//! The timers of a reactor, as pure data. Deadlines are nanoseconds since an epoch that the caller
//! chooses, and the caller passes `now`. This file reads no clock and makes no system call.
//!
//! The shape is the hierarchical timing wheel of Varghese & Lauck ("Hashed and Hierarchical Timing
//! Wheels", SOSP 1987), without its periodic tick. The caller sleeps until
//! [`Timers::next_deadline`], and [`Timers::fire`] advances straight to that time. A deadline is a
//! number in base 64 above a tick of 65 µs:
//!
//! ```text
//!   bit  63   58   52   46   40   34   28   22   16               0
//!         | L7 | L6 | L5 | L4 | L3 | L2 | L1 | L0 |  within a tick |
//! ```
//!
//! A level is a ring of slots for two windows, the current one with `now` in it and the next one. A
//! timer waits on the lowest level with a window that contains its deadline. Each `fire` moves some
//! timers from the next slot of a higher level to the next window of the level below. This spreads
//! the cost when a hundred thousand distant timers come near, instead of moving all of them when
//! the first one is due. Once `now` reaches a slot above level 0, its remaining timers move down.
//! After a long pause without a `fire` these are all timers of the slot.
//!
//! Invariant: of two timers with equal deadlines, the one inserted first is on the lower level, or
//! ahead in the same slot. So they fire in the order of insertion. (A new timer stays behind a slot
//! that still has to be emptied.)

use std::mem::{self, offset_of};
use std::ptr;

/// A tick is 2^16 ns, 65.5 µs. A finer tick moves a timer through more levels. A coarser tick makes
/// the lists longer that `fire` searches for due timers.
const TICK_BITS: u32 = 16;

/// A window has 64 slots, so the occupancy of two windows fits the bits of a `u128`.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 2 << SLOT_BITS;

/// Eight levels of six bits above a tick of sixteen bits hold any `u64` without overflow.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(SLOT_BITS) as usize;

/// How many timers of a level a `fire` moves down in advance, and again for each timer that it
/// fires. So timers move down as fast as others fire, and a timer that fires alone waits for few
/// moves.
const AHEAD: usize = 8;

/// As a limit: the cached deadline is stale, so `find_next` must run.
const STALE: u64 = u64::MAX;

/// The end of a list of entries. With an `Option` of a niche type instead, a timeout would take 13
/// instructions more.
const LIST_END: u32 = u32::MAX;

/// Pending timers. Each has a payload, which is returned when the timer fires or is removed.
///
/// While the timers live, only the caller drops payloads, because a drop may be user code and must
/// run outside of any borrow. The memory stays at its peak, which is 40 bytes per timer that was
/// pending at once (with a payload of 16 bytes), plus 24 KiB of slots.
pub(crate) struct Timers<T> {
    /// How late (ns) a timer may be for the sake of sharing a wake-up with later ones.
    slack: u64,
    /// All timers due at or before this time (ns) have fired, unless `overdue`. Monotonic.
    now: u64,
    /// A timer may be due at `now` already, because it was inserted late or `fire` reached its
    /// limit. Stale after such a timer is removed, which costs one call of `fire` without a result.
    overdue: bool,
    /// The last result of `find_next`. Valid until `fire`, unless a timer that could share the call
    /// is inserted or removed.
    next: u64,
    limit: u64,
    /// One bit per occupied slot of each level, and one bit per occupied level.
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

/// Identifies one timer. All later timers have other keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// A list of timers in order of insertion.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    /// The earliest and the latest deadline in it (ns). A removal leaves them unchanged. This may
    /// cause one spurious wake-up, and no timer fires later than its slack allows.
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
    slot: u32,
}

impl<T> Timers<T> {
    pub(crate) const ENTRY_SIZE: usize = size_of::<Entry<T>>();
    pub(crate) const PAYLOAD_OFFSET: usize = offset_of!(Entry<T>, payload);
    pub(crate) const DEADLINE_OFFSET: usize = offset_of!(Entry<T>, deadline);

    pub(crate) fn new(slack: u64, now: u64) -> Self {
        // Filled in place. An array would be copied from the stack, 24 KiB for each reactor.
        let slots: Box<[Slot]> = (0..LEVELS * SLOTS).map(|_| Slot::EMPTY).collect();
        Timers {
            slack,
            now,
            overdue: false,
            next: 0,
            limit: STALE,
            occupied: [0; LEVELS],
            levels: 0,
            slots: slots.try_into().ok().expect("each level has its slots"),
            entries: Vec::new(),
            vacant: LIST_END,
            len: 0,
        }
    }

    /// Where the list of timers and vacancies is, for readers outside of the process.
    pub(crate) fn entries_address(&self) -> usize {
        ptr::from_ref(&self.entries).expose_provenance()
    }

    /// Where the number of pending timers is, for readers that go through the kernel.
    pub(crate) fn len_address(&self) -> usize {
        ptr::from_ref(&self.len).expose_provenance()
    }

    /// The deadlines (ns) and payloads of the pending timers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let entries = self.entries.iter();
        entries.filter_map(|entry| Some((entry.deadline, entry.payload.as_ref()?)))
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
        self.limit = STALE;
    }

    /// Adds a timer that fires once `now` has reached `deadline` (ns). If the deadline has passed,
    /// the next `fire` takes the timer.
    #[inline]
    pub(crate) fn insert(&mut self, deadline: u64, payload: T) -> TimerKey {
        let index = self.allocate(deadline, payload);
        // The highest digit in which they differ. `| 1` maps equal ticks to level 0.
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

    /// Removes a pending timer. Returns `None` once it has fired or was removed.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        self.get_mut(key)?;
        self.forget_next(self.entries[key.index as usize].deadline);
        self.unlink(key.index);
        self.release(key.index)
    }

    /// The payload of a pending timer. `None` once it has fired or was removed.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        // A vacant entry has the generation of its next timer, and no payload.
        if entry.generation == key.generation {
            entry.payload.as_mut()
        } else {
            None
        }
    }

    /// When to call `fire` (ns). As many timers share the call as can, and each is late by at most
    /// the slack. A time in the past means at once. `None` if no timer is pending. The cost is
    /// independent of the number of timers.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        if self.overdue {
            return Some(self.now);
        }
        if self.limit == STALE {
            (self.next, self.limit) = self.find_next()?;
        }
        Some(self.next)
    }

    /// Moves the payloads of timers with a deadline at or before `now` (ns) to the end of `fired`,
    /// tick by tick. Stops after `limit` payloads. The other timers stay due.
    ///
    /// If `now` is earlier than in a previous call, the latest `now` counts.
    #[inline]
    pub(crate) fn fire(&mut self, now: u64, limit: usize, fired: &mut Vec<T>) {
        let now = now.max(self.now);
        let before = fired.len();
        let full = before.saturating_add(limit);
        self.limit = STALE;
        while let Some((level, unit)) = self.first() {
            let start = unit << shift(level);
            if start > now {
                break;
            }
            // The slot is the first occupied one, so its start skips no timer.
            self.now = self.now.max(start);
            if level > 0 {
                self.cascade(level, unit, usize::MAX);
                continue;
            }
            if !self.take_due(slot_of(level, unit), now, full, fired) {
                self.overdue = true;
                return;
            }
            if start >> TICK_BITS == now >> TICK_BITS {
                break; // the rest of the slot is due later in this tick
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
    /// The levels that have timers, lowest first.
    fn levels(&self) -> impl Iterator<Item = usize> + use<T> {
        let mut left = self.levels;
        std::iter::from_fn(move || {
            let level = (left != 0).then(|| left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            level
        })
    }

    /// The numbers of the occupied slots of a level, starting at the slot of `now`. The slots of a
    /// level are numbered from the epoch.
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
            .map(move |unit| &self.slots[slot_of(level, unit)])
    }

    /// When timers have to fire, and the latest deadline of a timer that could share that call.
    fn find_next(&self) -> Option<(u64, u64)> {
        // Slots of one level are disjoint. Slots of several levels may overlap.
        let firsts = self
            .levels()
            .filter_map(|level| self.slots_of(level).next());
        let earliest = firsts.map(|slot| slot.earliest).min()?;
        let limit = earliest.saturating_add(self.slack);
        let shared = self.levels().flat_map(|level| {
            // In a slot longer than the slack, the first timer may be alone, so it fires on time.
            // If others could have shared the call, this costs one more wake-up, which finds them
            // on a lower level.
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

    /// Invalidates `next` if the insertion or removal of this deadline can change it.
    fn forget_next(&mut self, deadline: u64) {
        if deadline <= self.limit {
            self.limit = STALE;
        }
    }

    /// The level and number of the slot that begins first. Among slots with equal starts the
    /// highest level wins, because its timers have to move down before others fire.
    fn first(&self) -> Option<(usize, u64)> {
        let firsts = self
            .levels()
            .filter_map(|level| Some((level, self.units(level).next()?)));
        firsts.min_by_key(|&(level, unit)| (unit << shift(level), LEVELS - level))
    }

    /// Moves at most `limit` timers of a slot to lower levels, in order.
    fn cascade(&mut self, level: usize, unit: u64, limit: usize) {
        for _ in 0..limit {
            let head = self.slots[slot_of(level, unit)].head;
            if head == LIST_END {
                break;
            }
            self.unlink(head);
            self.link(head, self.entries[head as usize].deadline, level - 1);
        }
    }

    /// Moves the due timers in a slot of level 0 to `fired`. Returns false if `fired` filled up
    /// first.
    fn take_due(&mut self, at: usize, now: u64, full: usize, fired: &mut Vec<T>) -> bool {
        let mut index = self.slots[at].head;
        let (mut earliest, mut latest) = (u64::MAX, 0);
        while index != LIST_END {
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
        (self.slots[at].earliest, self.slots[at].latest) = (earliest, latest);
        true
    }
}

// The lists. Each operation takes constant time.
impl<T> Timers<T> {
    /// Appends an entry to the slot of its deadline, on `level` or below.
    fn link(&mut self, index: u32, deadline: u64, mut level: usize) {
        // An overdue timer waits in the slot of `now`, which the next `fire` reaches.
        let time = deadline.max(self.now);
        while level > 0 {
            let unit = time >> shift(level);
            let is_far = unit > (self.now >> shift(level)) + 1;
            if is_far || self.slots[slot_of(level, unit)].head != LIST_END {
                break;
            }
            level -= 1;
        }
        let unit = time >> shift(level);
        let at = slot_of(level, unit);
        let slot = &mut self.slots[at];
        let tail = mem::replace(&mut slot.tail, index);
        if tail == LIST_END {
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
        entry.next = LIST_END;
        entry.slot = at as u32;
    }

    /// Takes an entry out of its slot.
    #[inline(always)] // a cold second caller would turn it into a call, 14 instructions more
    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (prev, next, at) = (entry.prev, entry.next, entry.slot);
        let slot = &mut self.slots[at as usize];
        match prev {
            LIST_END => slot.head = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            LIST_END => slot.tail = prev,
            next => self.entries[next as usize].prev = prev,
        }
        if slot.head == LIST_END {
            let level = at as usize / SLOTS;
            self.occupied[level] &= !bit(at.into());
            self.levels &= !(u8::from(self.occupied[level] == 0) << level);
        }
    }

    /// Returns an entry for a new timer. Prefers the one vacated last, which is likely in the
    /// cache.
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
            index < LIST_END as usize,
            "more than four billion timers at once"
        );
        let payload = Some(payload);
        self.entries.push(Entry {
            payload,
            deadline,
            prev: LIST_END,
            next: LIST_END,
            generation: 0,
            slot: 0,
        });
        index as u32
    }

    /// Ends an entry's timer and offers the entry to later ones.
    #[inline]
    fn release(&mut self, index: u32) -> Option<T> {
        self.len -= 1;
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        // After four billion timers the generations would repeat, and an old key would match a
        // later timer. The entry is retired instead, which loses 40 bytes, after some minutes at
        // the earliest.
        if entry.generation != 0 {
            entry.next = mem::replace(&mut self.vacant, index);
        }
        entry.payload.take()
    }
}

impl Slot {
    const EMPTY: Slot = Slot {
        head: LIST_END,
        tail: LIST_END,
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
fn slot_of(level: usize, unit: u64) -> usize {
    level * SLOTS + unit as usize % SLOTS
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
