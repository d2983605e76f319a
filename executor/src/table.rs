//! The table of tasks, by which a number finds its task.
//!
//! Nothing here runs user code: what must be dropped or woken is handed back.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::task::Waker;

use crate::cell::{DONE, EMPTY, MAIN, NAMED, NOBODY, OTHER_JOINER, Ref, describe};
use crate::key::{Key, MAX_GENERATION, MAX_TASKS};
use crate::queue::Queue;

pub(crate) struct Table {
    executor: u16,
    /// The tasks that have not finished, and the main future's cell.
    slots: Vec<Option<Ref>>,
    /// Slots that are free, the latest last: it is used next, for its memory is warm.
    free: Vec<u32>,
    /// Of the next task. Each has another, so that wakers of tasks that are gone find nobody; they
    /// go round after 67 million tasks.
    generation: u32,
    /// The first generation. Wakers left over from an earlier executor of the same id have lower
    /// ones.
    first_generation: u32,
    went_round: bool,
    /// By slot, the joiners that are not tasks of this executor.
    others: HashMap<u32, Waker>,
    /// The names of those tasks that have one, also of finished ones, as long as there is a handle.
    names: HashMap<Key, Rc<str>>,
    /// How many turns of the loop are left until the use of the slots is judged.
    turns_left: u32,
    /// The most slots that were taken after a turn since then.
    peak: usize,
}

/// How many turns of the loop a table must be nearly empty for until its memory is given back.
const TURNS: u32 = 1024;

/// So many slots are not given back: 12 KiB.
const KEPT: usize = 1024;

impl Table {
    pub(crate) fn new(executor: u16, first_generation: u32) -> Self {
        Table {
            executor,
            slots: Vec::new(),
            free: Vec::new(),
            generation: first_generation,
            first_generation,
            went_round: false,
            others: HashMap::new(),
            names: HashMap::new(),
            turns_left: TURNS,
            peak: 0,
        }
    }

    /// The main future, and the tasks that have not finished in the order of their slots, in words.
    pub(crate) fn describe(&self) -> (Option<String>, Vec<String>) {
        let (main, tasks): (Vec<_>, Vec<_>) =
            self.slots.iter().flatten().partition(|cell| cell.has(MAIN));
        let main = main.first();
        let main = main.map(|cell| format!("the main future, run at {}", cell.place));
        let tasks = tasks.into_iter();
        (
            main,
            tasks.map(|cell| describe(cell, self.name(cell))).collect(),
        )
    }

    /// Slots that are taken: tasks that have not finished, and the main future.
    pub(crate) fn taken(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives the cell a slot and a key. False if there is no room.
    #[inline(always)]
    pub(crate) fn insert(&mut self, cell: Ref) -> bool {
        let Some(index) = self.free.pop().or_else(|| self.add_slot()) else {
            return false;
        };
        cell.key
            .set(Key::new(self.executor, self.generation, index));
        if self.generation == MAX_GENERATION {
            self.go_round();
        } else {
            self.generation += 1;
        }
        let empty = self.slots[index as usize].replace(cell);
        std::mem::forget(empty); // spares the look whether there is something to drop
        true
    }

    /// Takes the task out: its number finds nobody from here on. The caller wakes, or drops, the
    /// one of elsewhere who awaits it.
    #[inline(always)]
    pub(crate) fn remove(&mut self, key: Key) -> (Ref, Option<Waker>) {
        let cell = self.slots[key.index() as usize].take();
        let cell = cell.expect("a task that has not finished has its slot");
        debug_assert!(cell.key.get() == key);
        self.free.push(key.index());
        let other = if cell.has(OTHER_JOINER) {
            self.take_other(&cell)
        } else {
            None
        };
        (cell, other)
    }

    /// Takes out a task that has finished, and queues who awaits it. Who is not of this executor is
    /// handed back instead.
    #[inline]
    pub(crate) fn finish(&mut self, key: Key, queue: &Queue) -> (Ref, Option<Waker>) {
        let (cell, other) = self.remove(key);
        let joiner = cell.joiner.get();
        if joiner != NOBODY {
            self.wake_slot(joiner, queue);
        }
        (cell, other)
    }

    /// Queues the task, unless it is gone or queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&self, key: Key, queue: &Queue) -> bool {
        match self.slots.get(key.index() as usize) {
            Some(Some(cell)) if cell.key.get() == key => queue.wake(cell),
            _ => false,
        }
    }

    /// Queues whichever task is there.
    #[inline]
    pub(crate) fn wake_slot(&self, index: u32, queue: &Queue) {
        if let Some(Some(cell)) = self.slots.get(index as usize) {
            queue.wake(cell);
        }
    }

    /// Leaves the waker of somebody of elsewhere who awaits the task. What comes back was there.
    pub(crate) fn set_other(&mut self, cell: &Ref, waker: Waker) -> Option<Waker> {
        if cell.has(DONE | EMPTY) {
            return Some(waker);
        }
        cell.joiner.set(NOBODY);
        cell.set(OTHER_JOINER);
        self.others.insert(cell.key.get().index(), waker)
    }

    pub(crate) fn other(&self, cell: &Ref) -> Option<&Waker> {
        self.others.get(&cell.key.get().index())
    }

    /// Nobody of elsewhere awaits the task any more.
    #[cold]
    pub(crate) fn take_other(&mut self, cell: &Ref) -> Option<Waker> {
        cell.clear(OTHER_JOINER);
        let waker = self.others.remove(&cell.key.get().index());
        shrink_map(&mut self.others);
        waker
    }

    pub(crate) fn set_name(&mut self, cell: &Ref, name: Rc<str>) {
        cell.set(NAMED);
        self.names.insert(cell.key.get(), name);
    }

    pub(crate) fn name(&self, cell: &Ref) -> Option<Rc<str>> {
        if !cell.has(NAMED) {
            return None;
        }
        self.names.get(&cell.key.get()).cloned()
    }

    /// Neither the handle nor the loop needs it any more.
    #[cold]
    pub(crate) fn take_name(&mut self, cell: &Ref) -> Option<Rc<str>> {
        cell.clear(NAMED);
        let name = self.names.remove(&cell.key.get());
        shrink_map(&mut self.names);
        name
    }

    /// Takes an unfinished task out, the lowest slot first, when the executor ends. `from` is
    /// where to go on searching.
    pub(crate) fn drain(
        &mut self,
        from: &mut usize,
        queue: &Queue,
    ) -> Option<(Ref, Option<Waker>)> {
        while let Some(slot) = self.slots.get(*from) {
            if let Some(key) = slot.as_ref().map(|cell| cell.key.get()) {
                return Some(self.finish(key, queue));
            }
            *from += 1;
        }
        None
    }

    /// Called after each turn of the loop. Gives memory back if at most a quarter of the slots was
    /// taken for many turns, so a load that comes in bursts doesn't reallocate. Returns how many
    /// slots are left, if there are fewer.
    #[inline]
    pub(crate) fn end_turn(&mut self) -> Option<usize> {
        if self.slots.len() <= KEPT {
            return None;
        }
        self.peak = self.peak.max(self.taken());
        self.turns_left -= 1;
        if self.turns_left > 0 {
            return None;
        }
        self.turns_left = TURNS;
        let peak = std::mem::take(&mut self.peak);
        (peak <= self.slots.len() / 4).then(|| self.give_back())?
    }

    /// Gives back the free slots at the end, if they are at least half of all. Tasks in the rest
    /// are left where they are; new ones take the lowest slots from now on, so that with time there
    /// is more to give back.
    #[cold]
    fn give_back(&mut self) -> Option<usize> {
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

    /// A generation that no waker of this table has, for the next executor of the same id.
    pub(crate) fn unused_generation(&self) -> u32 {
        if self.went_round {
            MAX_GENERATION + 1
        } else {
            self.generation
        }
    }

    #[cold]
    fn go_round(&mut self) {
        self.generation = self.first_generation;
        self.went_round = true;
    }

    #[cold]
    fn add_slot(&mut self) -> Option<u32> {
        let len = self.slots.len();
        if len == MAX_TASKS {
            return None;
        }
        if len == self.slots.capacity() {
            // A sixteenth at a time: doubling would leave half of a large table unused.
            self.slots.reserve_exact((len / 16).max(32));
        }
        self.slots.push(None);
        Some(len as u32)
    }
}

/// Shrinks a map once at most a quarter of its capacity is in use. It then keeps room for twice its
/// entries, and for at least 256.
fn shrink_map<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    const KEPT: usize = 256;
    if map.capacity() > KEPT && map.len() <= map.capacity() / 4 {
        map.shrink_to((2 * map.len()).max(KEPT));
    }
}
