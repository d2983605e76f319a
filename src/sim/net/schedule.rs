//! What happens later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Items in the order of their times. Items of one time keep the order in which they were added.
pub(super) struct Schedule<T> {
    /// The time, the number of the addition and the slot of each item. An item is large, and the
    /// heap moves its entries.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    items: Vec<Option<T>>,
    free: Vec<u32>,
    added: u64,
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Schedule<T> {
        Schedule {
            heap: BinaryHeap::new(),
            items: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }

    pub(super) fn add(&mut self, at: u64, item: T) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.items[slot as usize] = Some(item);
                slot
            }
            None => {
                self.items.push(Some(item));
                (self.items.len() - 1) as u32
            }
        };
        self.heap.push(Reverse((at, self.added, slot)));
        self.added += 1;
    }

    /// Returns the first item with its time.
    pub(super) fn peek(&self) -> Option<(u64, &T)> {
        let Reverse((at, _, slot)) = self.heap.peek()?;
        Some((*at, self.items[*slot as usize].as_ref()?))
    }

    /// Takes the first item if its time has come.
    pub(super) fn take_due(&mut self, now: u64) -> Option<(u64, T)> {
        let Reverse((at, _, slot)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        self.free.push(slot);
        let item = self.items[slot as usize].take();
        Some((
            at,
            item.expect("a scheduled item is present until it is due"),
        ))
    }
}
