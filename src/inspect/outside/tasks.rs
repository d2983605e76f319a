//! The tasks of an executor, read from its table.

use std::collections::HashMap;
use std::mem::offset_of;

use windlass_executor::layout::{Addresses, Layout};

use super::memory::Block;
use super::program::Program;
use super::view::{StateView, TaskNumber, TaskView, WaitView};

/// An executor, and what is known of its types.
pub(super) struct Executor<'a> {
    program: &'a Program<'a>,
    /// The record of its runtime.
    record: &'a Block,
    /// Where its addresses are in the record.
    at: usize,
    pub(super) id: u16,
    slot_bits: u32,
    generation_bits: u32,
}

/// Tasks by slot.
pub(super) struct Tasks {
    pub(super) tasks: Vec<TaskView>,
    positions: HashMap<u64, usize>,
    /// Slots, and the slots of their joiners.
    joiners: Vec<(u64, u64)>,
    pub(super) is_incomplete: bool,
}

/// A task's cell.
struct Cell {
    key: u64,
    flags: usize,
    joiner: Option<u64>,
    spawned_at: u64,
}

impl<'a> Executor<'a> {
    pub(super) fn new(program: &'a Program<'a>, record: &'a Block, at: usize) -> Option<Self> {
        let bits = |field| u32::try_from(program.executor(field)?).ok();
        let slot_bits = bits(offset_of!(Layout, slot_bits))?;
        let generation_bits = bits(offset_of!(Layout, generation_bits))?;
        let is_sane = slot_bits <= 32 && generation_bits <= 32;
        is_sane.then_some(Executor {
            program,
            id: record
                .word(at + offset_of!(Addresses, id))?
                .try_into()
                .ok()?,
            record,
            at,
            slot_bits,
            generation_bits,
        })
    }

    /// Returns an address, by its field in `Addresses`.
    pub(super) fn address(&self, field: usize) -> Option<u64> {
        self.record.word(self.at + field)
    }

    pub(super) fn word(&self, field: usize) -> Option<u64> {
        self.program.reader.word(self.address(field)?)
    }

    /// Returns the task with the key in a word.
    pub(super) fn task(&self, field: usize) -> Option<TaskNumber> {
        self.number(self.word(field)?)
    }

    pub(super) fn is_set(&self, field: usize) -> bool {
        let byte = self.address(field).map(|it| self.program.reader.byte(it));
        byte.flatten() == Some(1)
    }

    /// Splits a key into the executor, the generation and the slot.
    fn split(&self, key: u64) -> (u64, u32, u64) {
        let generation = (key >> self.slot_bits) & ((1 << self.generation_bits) - 1);
        let slot = key & ((1 << self.slot_bits) - 1);
        (
            key >> (self.slot_bits + self.generation_bits),
            generation as u32,
            slot,
        )
    }

    /// Returns the number of the task of a key. The highest generation names no task.
    pub(super) fn number(&self, key: u64) -> Option<TaskNumber> {
        let (executor, number, _) = self.split(key);
        let executor = u16::try_from(executor).ok()?;
        let names_task = u64::from(number) < (1 << self.generation_bits) - 1;
        names_task.then_some(TaskNumber { executor, number })
    }

    pub(super) fn tasks(&self) -> Tasks {
        let mut tasks = Tasks {
            tasks: Vec::new(),
            positions: HashMap::new(),
            joiners: Vec::new(),
            is_incomplete: false,
        };
        let cells = self.cells().unwrap_or_else(|| {
            tasks.is_incomplete = true;
            Vec::new()
        });
        let current = self
            .word(offset_of!(Addresses, current_task))
            .unwrap_or(u64::MAX);
        let names = self.names().unwrap_or_default();
        let mut places = HashMap::new();
        for (slot, cell) in cells {
            let view = cell.and_then(|cell| {
                let view = self.view(slot, &cell, current, &names, &mut places)?;
                Some((cell.joiner, view))
            });
            match view {
                Some((joiner, view)) => tasks.push(slot, view, joiner),
                None => tasks.is_incomplete = true,
            }
        }
        tasks.add_joins();
        tasks.mark_main(self.is_set(offset_of!(Addresses, is_running)));
        tasks
    }

    /// Reads the cells by slot. `None` is a cell that is not readable.
    fn cells(&self) -> Option<Vec<(u64, Option<Cell>)>> {
        let slots = self
            .program
            .vec(self.address(offset_of!(Addresses, slots))?, 8)?;
        let mut cells = Vec::new();
        for (slot, address) in (0..).zip(slots) {
            match self.program.reader.word(address)? {
                0 => {}
                cell => cells.push((slot, self.cell(cell))),
            }
        }
        Some(cells)
    }

    fn cell(&self, address: u64) -> Option<Cell> {
        let field = |field| self.program.executor(field);
        let at = [
            field(offset_of!(Layout, cell_key))?,
            field(offset_of!(Layout, cell_state))?,
            field(offset_of!(Layout, cell_joiner))?,
            field(offset_of!(Layout, cell_spawned_at))?,
        ];
        let [key, state, joiner, spawned_at] = at;
        let end = at.into_iter().max().filter(|&end| end < 4096)?;
        let cell = self.program.reader.block(address, end + 8)?;
        Some(Cell {
            key: cell.word(key)?,
            flags: cell.half(state)? as usize,
            joiner: u64::from(cell.half(joiner)?).checked_sub(1),
            spawned_at: cell.word(spawned_at)?,
        })
    }

    /// Returns `None` if the cell is not that of a task in this slot, because it was freed.
    fn view(
        &self,
        slot: u64,
        cell: &Cell,
        current: u64,
        names: &HashMap<u64, String>,
        places: &mut HashMap<u64, String>,
    ) -> Option<TaskView> {
        let (executor, _, slot_of_key) = self.split(cell.key);
        if (executor, slot_of_key) != (self.id.into(), slot) {
            return None;
        }
        let has = |flag| Some(cell.flags & self.program.executor(flag)? != 0);
        let state = if has(offset_of!(Layout, running))? || cell.key == current {
            StateView::Running
        } else if has(offset_of!(Layout, queued))? {
            StateView::Ready
        } else {
            StateView::Waiting
        };
        let read_place = || self.program.location(cell.spawned_at).unwrap_or_default();
        Some(TaskView {
            id: self.number(cell.key)?,
            name: names.get(&cell.key).cloned(),
            spawned_at: places
                .entry(cell.spawned_at)
                .or_insert_with(read_place)
                .clone(),
            is_main: has(offset_of!(Layout, main))?,
            state,
            waits: Vec::new(),
            joiner: None,
            has_foreign_joiner: has(offset_of!(Layout, foreign_joiner))?,
        })
    }

    /// Reads the names by key.
    fn names(&self) -> Option<HashMap<u64, String>> {
        let field = |field| self.program.executor(field);
        let (key, text, len) = (
            field(offset_of!(Layout, name_key))?,
            field(offset_of!(Layout, name_text))?,
            field(offset_of!(Layout, name_len))?,
        );
        let size = field(offset_of!(Layout, name_size))?;
        let entries = self
            .program
            .vec(self.address(offset_of!(Addresses, names))?, size)?;
        let names = entries.map_while(|entry| {
            let entry = self.program.reader.block(entry, size)?;
            let text = self
                .program
                .reader
                .text(entry.word(text)?, entry.word(len)?);
            Some((entry.word(key)?, text.unwrap_or_default()))
        });
        Some(names.collect())
    }

    /// Returns the key in a waker of a task. Of its two words, the other one is the same in all.
    pub(super) fn key_in(&self, waker: [u64; 2]) -> Option<u64> {
        let vtable = self.program.executor(offset_of!(Layout, waker_vtable))? as u64;
        match waker {
            [key, other] | [other, key] if other == vtable => Some(key),
            _ => None,
        }
    }

    /// Returns the slot of a key of this executor.
    pub(super) fn slot(&self, key: u64) -> Option<u64> {
        let (executor, _, slot) = self.split(key);
        (executor == self.id.into()).then_some(slot)
    }
}

impl Tasks {
    fn push(&mut self, slot: u64, task: TaskView, joiner: Option<u64>) {
        self.positions.insert(slot, self.tasks.len());
        self.joiners.extend(joiner.map(|joiner| (slot, joiner)));
        self.tasks.push(task);
    }

    /// The task in a slot.
    pub(super) fn get(&self, slot: u64) -> Option<&TaskView> {
        self.tasks.get(*self.positions.get(&slot)?)
    }

    /// As [`get`](Tasks::get), to be changed.
    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut TaskView> {
        self.tasks.get_mut(*self.positions.get(&slot)?)
    }

    /// Adds the joins to the tasks that wait for them.
    fn add_joins(&mut self) {
        for (slot, joiner) in std::mem::take(&mut self.joiners) {
            let Some(id) = self.get_mut(slot).map(|task| task.id) else {
                continue;
            };
            let joiner = self.get_mut(joiner).map(|joiner| {
                joiner.waits.push(WaitView::Join(id));
                joiner.id
            });
            self.tasks[self.positions[&slot]].joiner = joiner;
        }
    }

    /// The cell of a main future has no flag for its poll. The loop is on the stack only while it
    /// polls, so if no task is being polled, the main future is.
    fn mark_main(&mut self, is_running: bool) {
        let is_polled = |task: &TaskView| task.state == StateView::Running;
        if is_running && !self.tasks.iter().any(is_polled) {
            let mut tasks = self.tasks.iter_mut();
            let main = tasks.find(|task| task.is_main && task.state == StateView::Waiting);
            main.into_iter()
                .for_each(|main| main.state = StateView::Running);
        }
    }
}
