//! A vector that reuses its entries and returns memory after a burst.
//!
//! A released entry keeps its value for the next user. The slab needs no generations, because the
//! owner of an index releases it once. Users that may have a stale index go through
//! [`Slab::get_mut`].

use std::num::NonZeroU32;
use std::ops;

use super::shrink::shrink_vec;

/// This many entries are kept for good. They are reused before all others, so the rest runs empty.
const KEPT: u32 = 32;

pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    /// The first vacant entry below KEPT.
    near_vacant: Option<Index>,
    /// The first vacant entry from KEPT on.
    far_vacant: Option<Index>,
    /// Occupied entries from KEPT on.
    far: u32,
    /// How many of these were released since the last sweep.
    far_released: u32,
    /// A release that leaves fewer occupied entries from KEPT on than this starts a sweep.
    sweep_below: u32,
}

struct Entry<T> {
    value: T,
    is_vacant: bool,
    /// The next vacant entry, if this one is vacant.
    next_vacant: Option<Index>,
}

/// The position of an entry plus one, so that an `Option` of it takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index(NonZeroU32);

impl Index {
    #[inline]
    fn at(position: usize) -> Index {
        let number = u32::try_from(position + 1).ok().and_then(NonZeroU32::new);
        Index(number.expect("a slab holds fewer than 2^32 entries"))
    }

    #[inline]
    fn position(self) -> usize {
        (self.0.get() - 1) as usize
    }

    /// True if a release of the entry may remove entries.
    #[inline]
    pub(crate) fn is_far(self) -> bool {
        self.0.get() > KEPT
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Slab {
            entries: Vec::new(),
            near_vacant: None,
            far_vacant: None,
            far: 0,
            far_released: 0,
            sweep_below: 0,
        }
    }

    /// Occupies an entry. A vacant one has the value that its last user left, a new one has the
    /// value that `make` returns.
    #[inline]
    pub(crate) fn acquire(&mut self, make: impl FnOnce(Index) -> T) -> (Index, &mut T) {
        let Some(index) = self.near_vacant else {
            return self.acquire_far(make);
        };
        let entry = &mut self.entries[index.position()];
        entry.is_vacant = false;
        self.near_vacant = entry.next_vacant;
        (index, &mut entry.value)
    }

    #[cold]
    fn acquire_far(&mut self, make: impl FnOnce(Index) -> T) -> (Index, &mut T) {
        let index = match self.far_vacant {
            Some(index) => {
                let entry = &mut self.entries[index.position()];
                entry.is_vacant = false;
                self.far_vacant = entry.next_vacant;
                index
            }
            None => {
                let index = Index::at(self.entries.len());
                self.entries.push(Entry {
                    value: make(index),
                    is_vacant: false,
                    next_vacant: None,
                });
                index
            }
        };
        if index.is_far() {
            self.far += 1;
            self.sweep_below = self.sweep_below.max(self.far / 4).max(1);
        }
        (index, &mut self[index])
    }

    /// The number of entries, also of vacant ones.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry's value, if there is such an entry.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        self.entries
            .get_mut(index.position())
            .map(|entry| &mut entry.value)
    }

    /// The values of all entries, also of vacant ones.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.entries.into_iter().map(|entry| entry.value)
    }

    /// The values of occupied entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let occupied = self.entries.iter().filter(|entry| !entry.is_vacant);
        occupied.map(|entry| &entry.value)
    }

    /// Leaves the entry to its next user. A sweep drops the values of vacant entries, so the drop
    /// of a `T` must run no user code.
    #[inline]
    pub(crate) fn release(&mut self, index: Index) {
        if index.is_far() {
            return self.release_far(index);
        }
        let entry = &mut self.entries[index.position()];
        entry.is_vacant = true;
        entry.next_vacant = self.near_vacant.replace(index);
    }

    #[cold]
    fn release_far(&mut self, index: Index) {
        let entry = &mut self.entries[index.position()];
        entry.is_vacant = true;
        entry.next_vacant = self.far_vacant.replace(index);
        self.far -= 1;
        self.far_released += 1;
        let entries = self.entries.len() as u32;
        let is_due = self.far_released >= entries && self.far <= entries / 4;
        if self.far < self.sweep_below || is_due {
            self.sweep();
        }
    }

    /// Drops the vacant entries at the end, and links the others so that the lowest is reused
    /// first. A sweep runs once per halving of the occupied entries, and once per as many releases
    /// as there are entries. That is a constant cost per release.
    fn sweep(&mut self) {
        let kept = KEPT as usize;
        while self.entries.len() > kept && self.entries.last().is_some_and(|last| last.is_vacant) {
            self.entries.pop();
        }
        shrink_vec(&mut self.entries);
        self.far_vacant = None;
        for (position, entry) in self.entries.iter_mut().enumerate().skip(kept).rev() {
            if entry.is_vacant {
                entry.next_vacant = self.far_vacant.replace(Index::at(position));
            }
        }
        self.far_released = 0;
        self.sweep_below = (self.far / 2).max(1);
    }
}

impl<T> ops::Index<Index> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: Index) -> &T {
        &self.entries[index.position()].value
    }
}

impl<T> ops::IndexMut<Index> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: Index) -> &mut T {
        &mut self.entries[index.position()].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(slab: &mut Slab<usize>, count: usize) -> Vec<Index> {
        (0..count).map(|n| slab.acquire(|_| n).0).collect()
    }

    #[test]
    fn a_released_burst_leaves_the_kept_entries() {
        let mut slab = Slab::new();
        for index in fill(&mut slab, 10_000) {
            slab.release(index);
        }
        assert_eq!(slab.entries.len(), KEPT as usize);
        assert_eq!(slab.iter().count(), 0);
    }

    #[test]
    fn few_entries_stay_low_beside_one_that_outlives_a_burst() {
        let mut slab = Slab::new();
        let mut burst = fill(&mut slab, 10_000);
        let last = burst.swap_remove(9_000);
        burst.into_iter().for_each(|index| slab.release(index));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [&9_000]);

        let used = fill(&mut slab, KEPT as usize);
        assert!(used.iter().all(|index| !index.is_far()));
        slab.release(last);
        assert_eq!(slab.entries.len(), KEPT as usize);
    }

    #[test]
    fn a_sweep_puts_the_lowest_vacant_entry_first() {
        let mut slab = Slab::new();
        let mut burst = fill(&mut slab, 1_000);
        let last = burst.pop();
        burst
            .into_iter()
            .rev()
            .for_each(|index| slab.release(index));
        slab.sweep();
        fill(&mut slab, KEPT as usize);
        let far = fill(&mut slab, 3);
        let positions: Vec<_> = far.into_iter().map(Index::position).collect();
        assert_eq!(positions, [32, 33, 34]);
        assert_eq!(last.map(Index::position), Some(999));
    }

    #[test]
    fn a_stale_index_finds_no_entry_after_the_sweep() {
        let mut slab = Slab::new();
        let burst = fill(&mut slab, 100);
        burst.iter().for_each(|&index| slab.release(index));
        assert_eq!(slab.get_mut(burst[99]), None);
        assert_eq!(slab.get_mut(burst[0]), Some(&mut 0));
    }
}
