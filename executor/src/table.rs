//! The table of tasks, a slab with generations, in which a key finds its task.
//!
//! Nothing here runs user code. Values are returned if their drop or wake is user code.

use std::collections::HashMap;
use std::task::Waker;

use crate::cell::{DONE, EMPTY, FOREIGN_JOINER, Ref};
use crate::key::{Key, MAX_GENERATION, MAX_TASKS};
use crate::queue::Queue;

pub(crate) struct Table {
    executor: u16,
    /// The tasks that have not finished, and the main future's cell.
    slots: Vec<Option<Ref>>,
    /// The free slots. The one freed last is used next, since its memory is warm.
    free: Vec<u32>,
    /// The generation of the next task, or of the first one of the next executor with this id. They
    /// repeat only after 67 million tasks, so a waker never finds a later task in its slot.
    pub(crate) generation: u32,
    /// Wakers left over from an earlier executor of the same id have lower generations.
    first_generation: u32,
    /// By slot, the joiners that are not tasks of this executor.
    foreign_joiners: HashMap<u32, Waker>,
    /// How many turns of the loop are left until `peak` decides whether the table shrinks.
    turns_left: u32,
    /// The most slots that were taken after a turn since the last decision.
    peak: usize,
}

/// How many turns of the loop a table must be nearly empty for before it shrinks.
const TURNS: u32 = 1024;

/// A table keeps at least this many slots: 12 KiB.
const KEPT: usize = 1024;

impl Table {
    pub(crate) fn new(executor: u16, first_generation: u32) -> Self {
        Table {
            executor,
            slots: Vec::new(),
            free: Vec::new(),
            generation: first_generation,
            first_generation,
            foreign_joiners: HashMap::new(),
            turns_left: TURNS,
            peak: 0,
        }
    }

    /// The unfinished tasks and the main future's cell, in the order of their slots.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Ref> {
        self.slots.iter().flatten()
    }

    /// The list of slots, for readers outside of the process.
    pub(crate) fn slots(&self) -> &Vec<Option<Ref>> {
        &self.slots
    }

    /// The key of the task in the slot.
    pub(crate) fn key_in(&self, slot: u32) -> Option<Key> {
        let cell = self.slots.get(slot as usize)?.as_ref()?;
        Some(cell.key.get())
    }

    /// How many slots are taken, by unfinished tasks and the main future.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives the cell a slot and a key. False if the table is full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, cell: Ref) -> bool {
        let Some(index) = self.free.pop().or_else(|| self.add_slot()) else {
            return false;
        };
        cell.key
            .set(Key::new(self.executor, self.generation, index));
        if self.generation == MAX_GENERATION {
            self.generation = self.first_generation;
        } else {
            self.generation += 1;
        }
        let empty = self.slots[index as usize].replace(cell);
        std::mem::forget(empty); // spares the check whether to drop it
        true
    }

    /// Takes the task out, so that its key finds nothing. Returns the foreign joiner with it, which
    /// the caller wakes or drops.
    #[inline(always)]
    pub(crate) fn remove(&mut self, key: Key) -> (Ref, Option<Waker>) {
        let cell = self.slots[key.index() as usize].take();
        let cell = cell.expect("an unfinished task is in its slot");
        debug_assert!(cell.key.get() == key);
        if self.free.len() == self.free.capacity() {
            self.grow_free();
        }
        self.free.push(key.index());
        let has_foreign_joiner = cell.has(FOREIGN_JOINER);
        let joiner = has_foreign_joiner.then(|| self.take_foreign_joiner(&cell));
        (cell, joiner.flatten())
    }

    /// Takes a finished task out and queues its joiner. A foreign joiner is returned instead.
    #[inline]
    pub(crate) fn finish(&mut self, key: Key, queue: &Queue) -> (Ref, Option<Waker>) {
        let (cell, foreign_joiner) = self.remove(key);
        if let Some(joiner) = cell.joiner() {
            self.wake_slot(joiner, queue);
        }
        (cell, foreign_joiner)
    }

    /// Queues the task, unless it is gone or queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&self, key: Key, queue: &Queue) -> bool {
        match self.slots.get(key.index() as usize) {
            Some(Some(cell)) if cell.key.get() == key => queue.wake(cell),
            _ => false,
        }
    }

    /// Queues the task in the slot, whichever it is.
    #[inline]
    pub(crate) fn wake_slot(&self, index: u32, queue: &Queue) {
        if let Some(Some(cell)) = self.slots.get(index as usize) {
            queue.wake(cell);
        }
    }

    /// Registers a waker that is not of a task of this executor. Returns the one it replaces, or
    /// the same one if the task has ended.
    pub(crate) fn set_foreign_joiner(&mut self, cell: &Ref, waker: Waker) -> Option<Waker> {
        if cell.has(DONE | EMPTY) {
            return Some(waker);
        }
        cell.set_joiner(None);
        cell.set(FOREIGN_JOINER);
        self.foreign_joiners.insert(cell.key.get().index(), waker)
    }

    pub(crate) fn foreign_joiner(&self, cell: &Ref) -> Option<&Waker> {
        self.foreign_joiners.get(&cell.key.get().index())
    }

    #[cold]
    pub(crate) fn take_foreign_joiner(&mut self, cell: &Ref) -> Option<Waker> {
        cell.clear(FOREIGN_JOINER);
        let joiners = &mut self.foreign_joiners;
        let waker = joiners.remove(&cell.key.get().index());
        // Frees most of the memory if at most a quarter of it is in use.
        if joiners.capacity() > 256 && joiners.len() <= joiners.capacity() / 4 {
            joiners.shrink_to((2 * joiners.len()).max(256));
        }
        waker
    }

    /// Takes an unfinished task out, the lowest slot first. `from` is where the search continues.
    pub(crate) fn drain(
        &mut self,
        from: &mut usize,
        queue: &Queue,
    ) -> Option<(Ref, Option<Waker>)> {
        let cell = self.slots.get(*from..)?.iter().flatten().next()?;
        let key = cell.key.get();
        *from = key.index() as usize;
        Some(self.finish(key, queue))
    }

    /// Called after each turn of the loop. Shrinks the table if at most a quarter of the slots was
    /// taken for many turns, so that a bursty load avoids reallocations. Returns how many slots are
    /// left if there are fewer.
    #[inline]
    pub(crate) fn end_turn(&mut self) -> Option<usize> {
        if self.slots.len() <= KEPT {
            return None;
        }
        self.peak = self.peak.max(self.len());
        self.turns_left -= 1;
        if self.turns_left > 0 {
            return None;
        }
        self.turns_left = TURNS;
        let peak = std::mem::take(&mut self.peak);
        (peak <= self.slots.len() / 4).then(|| self.shrink())?
    }

    /// Frees the free slots at the end if they are at least half of all. Tasks stay in their slots.
    /// New ones take the lowest slots from now on, so that a later attempt can free more.
    #[cold]
    fn shrink(&mut self) -> Option<usize> {
        let end = self.slots.iter().rposition(Option::is_some);
        let end = end.map_or(0, |last| last + 1).max(KEPT);
        let shrinks = end <= self.slots.len() / 2;
        if shrinks {
            self.slots.truncate(end);
            self.slots.shrink_to_fit();
        }
        self.free.clear();
        let slots = self.slots.iter().enumerate().rev();
        let free = slots.filter(|(_, slot)| slot.is_none());
        self.free.extend(free.map(|(index, _)| index as u32));
        self.free.shrink_to(2 * self.free.len());
        shrinks.then_some(self.slots.len())
    }

    /// Makes room for all slots at once. If the list doubled while many tasks end, glibc's malloc
    /// would merge the blocks of all of them at each step, which takes 5 ms after 16,384 tasks.
    #[cold]
    fn grow_free(&mut self) {
        self.free
            .reserve_exact(self.slots.capacity() - self.free.len());
    }

    #[cold]
    fn add_slot(&mut self) -> Option<u32> {
        let len = self.slots.len();
        if len == MAX_TASKS {
            return None;
        }
        if len == self.slots.capacity() {
            // By a sixteenth, since doubling would leave half of a large table unused.
            self.slots.reserve_exact((len / 16).max(32));
        }
        self.slots.push(None);
        Some(len as u32)
    }
}
