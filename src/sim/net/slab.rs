//! Values in numbered slots.

use std::ops::{Index, IndexMut};

/// Values in slots that are used again. A [`Key`] names a value, a slot number its place.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The name of a value. It stays unique when the slot is used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key {
    pub(super) slot: u32,
    generation: u32,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize].value = Some(value);
            return number;
        }
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        (self.slots.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let slot = self.slots.get_mut(number as usize)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(number);
        Some(value)
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.value.as_mut()
    }

    /// Returns the key of the value in a slot that is in use.
    #[inline]
    pub(super) fn key(&self, number: u32) -> Key {
        Key {
            slot: number,
            generation: self.slots[number as usize].generation,
        }
    }

    /// Returns whether the value with this key is still there.
    #[inline]
    pub(super) fn contains(&self, key: Key) -> bool {
        let slot = self.slots.get(key.slot as usize);
        slot.is_some_and(|slot| slot.generation == key.generation && slot.value.is_some())
    }

    /// The numbers of the slots in use, in ascending order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let numbers = 0..self.slots.len() as u32;
        numbers
            .filter(|number| self.get(*number).is_some())
            .collect()
    }
}

/// The value of a slot that is in use.
impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).expect("the slot is in use")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("the slot is in use")
    }
}
