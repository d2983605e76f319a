//! Values by increasing numbers, in memory that readers outside of the process understand.

use std::mem::offset_of;

/// So many entries of removed values stay.
const KEPT: usize = 32;

/// Values by numbers that grow from one insertion to the next. Each operation takes amortized
/// constant time, apart from a binary search.
///
/// `F` is what readers outside of the process need of a value.
#[derive(Debug)]
pub(crate) struct Numbered<F, V> {
    /// In the order of the numbers, with entries whose values were removed.
    entries: Vec<Entry<F, V>>,
    /// The entries before this one have no value.
    start: usize,
    /// The number of values.
    len: usize,
}

#[derive(Debug)]
struct Entry<F, V> {
    number: u64,
    facts: F,
    /// `value` is `Some`, for readers outside of the process.
    is_present: bool,
    value: Option<V>,
}

impl<F, V> Default for Numbered<F, V> {
    fn default() -> Self {
        Numbered::new()
    }
}

impl<F, V> Numbered<F, V> {
    pub(crate) const ENTRY_SIZE: usize = size_of::<Entry<F, V>>();
    pub(crate) const FACTS_OFFSET: usize = offset_of!(Entry<F, V>, facts);
    pub(crate) const PRESENT_OFFSET: usize = offset_of!(Entry<F, V>, is_present);

    pub(crate) const fn new() -> Self {
        Numbered {
            entries: Vec::new(),
            start: 0,
            len: 0,
        }
    }

    /// The address of the `Vec` of entries, for readers outside of the process.
    pub(crate) fn entries_address(&self) -> usize {
        std::ptr::from_ref(&self.entries).expose_provenance()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value. Its number exceeds all earlier ones.
    pub(crate) fn push(&mut self, number: u64, facts: F, value: V) {
        debug_assert!(self.entries.last().is_none_or(|last| last.number < number));
        self.entries.push(Entry {
            number,
            facts,
            is_present: true,
            value: Some(value),
        });
        self.len += 1;
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.position(number).is_some()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<(&mut F, &mut V)> {
        let position = self.position(number)?;
        let entry = &mut self.entries[position];
        Some((&mut entry.facts, entry.value.as_mut()?))
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let position = self.position(number)?;
        self.take(position)
    }

    /// Removes the value with the lowest number.
    pub(crate) fn pop_first(&mut self) -> Option<(u64, F, V)>
    where
        F: Copy,
    {
        let position = self.first_position()?;
        let Entry { number, facts, .. } = self.entries[position];
        self.take(position).map(|value| (number, facts, value))
    }

    /// The values in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &F, &V)> {
        let present = self.entries.iter();
        present.filter_map(|entry| Some((entry.number, &entry.facts, entry.value.as_ref()?)))
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        self.entries.into_iter().filter_map(|entry| entry.value)
    }

    fn first_position(&mut self) -> Option<usize> {
        let left = self.entries.get(self.start..)?;
        self.start += left.iter().position(|entry| entry.is_present)?;
        Some(self.start)
    }

    fn position(&self, number: u64) -> Option<usize> {
        let found = self.entries.binary_search_by_key(&number, |it| it.number);
        found
            .ok()
            .filter(|&position| self.entries[position].is_present)
    }

    fn take(&mut self, position: usize) -> Option<V> {
        let entry = &mut self.entries[position];
        entry.is_present = false;
        let value = entry.value.take();
        self.len -= 1;
        // The removals since the last call pay for it.
        if self.entries.len() > 2 * self.len + KEPT {
            self.compact();
        }
        value
    }

    #[cold]
    fn compact(&mut self) {
        self.entries.retain(|entry| entry.is_present);
        self.start = 0;
        if self.entries.capacity() > 4 * (self.len + KEPT) {
            self.entries.shrink_to(2 * (self.len + KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_behaves_as_a_map_with_ordered_keys() {
        let (mut numbered, mut map) = (Numbered::new(), BTreeMap::new());
        let (mut random, mut number) = (7_u32, 0);
        for round in 0..100_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Waves, so that it grows and shrinks.
            let most = 300 * (1 + round / 10_000 % 3);
            if random >> 30 != 0 && map.len() < most as usize {
                number += 1 + u64::from(random >> 20 & 1);
                numbered.push(number, (), random);
                map.insert(number, random);
            } else if random & 1 << 10 == 0 {
                let first = numbered.pop_first();
                assert_eq!(
                    first.map(|(number, (), value)| (number, value)),
                    map.pop_first()
                );
            } else {
                let removed = number - u64::from(random >> 11) % (number + 1);
                assert_eq!(numbered.contains(removed), map.contains_key(&removed));
                assert_eq!(numbered.remove(removed), map.remove(&removed));
            }
            assert_eq!(numbered.len(), map.len());
        }
        let values = numbered.iter().map(|(number, (), value)| (number, *value));
        assert!(values.eq(map.iter().map(|(number, value)| (*number, *value))));
        assert!(numbered.into_values().eq(map.into_values()));
    }

    #[test]
    fn the_memory_of_a_burst_is_released() {
        let mut numbered = Numbered::new();
        numbered.push(0, (), 0);
        (1..100_000).for_each(|number| numbered.push(number, (), 0));
        (1..100_000).for_each(|number| _ = numbered.remove(number));
        assert!(numbered.entries.capacity() <= 4 * (1 + KEPT));
        assert_eq!(numbered.pop_first(), Some((0, (), 0)));
        assert!(numbered.is_empty());
    }
}
