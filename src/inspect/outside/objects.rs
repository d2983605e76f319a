//! The waits for locks and channels, read from the list of a thread's objects.

use std::mem::offset_of;

use super::memory::Block;
use super::program::Program;
use super::waits::{Event, Wait};
use crate::inspect::root::Record;
use crate::sync::layout::Layout;

/// By number, the objects that a queue belongs to.
const OWNERS: [&str; 6] = [
    "lock of the mutex",
    "permits of the semaphore",
    "the event",
    "room in the channel",
    "a change of the watch channel",
    "the stop of the token",
];

/// Adds the waits. Returns `None` if a part is not readable.
pub(super) fn add(program: &Program<'_>, record: &Block, waits: &mut Vec<Wait>) -> Option<()> {
    /// More than a thread has.
    const MOST_OBJECTS: usize = 1 << 24;
    let node = offset_of!(Layout, node);
    let [object, kind, next] = fields(program, node)?;
    let mut pointer = record.word(offset_of!(Record, objects))?;
    for _ in 0..MOST_OBJECTS {
        let node = program.reader.word(pointer)?;
        if node == 0 {
            return Some(());
        }
        let at = |field: u64| node.checked_add(field);
        let object = program.reader.word(at(object)?)?;
        match program.reader.byte(at(kind)?)? {
            1 => add_queue(program, object, waits)?,
            2 => add_channel(program, object, waits)?,
            3 => add_oneshot(program, object, waits)?,
            _ => {}
        }
        pointer = at(next)?;
    }
    None
}

/// Returns an array of offsets, by its offset in the layout.
fn fields<const N: usize>(program: &Program<'_>, at: usize) -> Option<[u64; N]> {
    let mut fields = [0; N];
    for (index, field) in fields.iter_mut().enumerate() {
        *field = program.sync(at + 8 * index)? as u64;
    }
    Some(fields)
}

fn add_queue(program: &Program<'_>, queue: u64, waits: &mut Vec<Wait>) -> Option<()> {
    let [owner, created_at] = fields(program, offset_of!(Layout, queue))?;
    let owner = program.reader.byte(queue.checked_add(owner)?)?;
    let place = program.reader.word(queue.checked_add(created_at)?)?;
    let Some(&operation) = OWNERS.get(usize::from(owner)) else {
        return Some(());
    };
    let [state, waker] = fields(program, offset_of!(Layout, entry))?;
    let waiting = program.sync(offset_of!(Layout, waiting))?;
    let size = program.sync(offset_of!(Layout, entry_size))?;
    let entries = program.sync(offset_of!(Layout, entries))? as u64;
    let entries = queue
        .checked_add(program.queue_waiters)?
        .checked_add(entries)?;
    for entry in program.vec(entries, size)? {
        let entry = program.reader.block(entry, size)?;
        if usize::from(entry.byte(state as usize)?) == waiting {
            let waker = entry.pair(waker as usize)?;
            let event = Event::Object(operation, place);
            waits.push(Wait { waker, event });
        }
    }
    Some(())
}

fn add_channel(program: &Program<'_>, channel: u64, waits: &mut Vec<Wait>) -> Option<()> {
    let [receiver, created_at] = fields(program, offset_of!(Layout, channel))?;
    let place = program.reader.word(channel.checked_add(created_at)?)?;
    let event = Event::Object("a value of the channel", place);
    let waker = program.reader.block(channel.checked_add(receiver)?, 16)?;
    let waker = waker.pair(0)?;
    waits.push(Wait { waker, event });
    Some(())
}

fn add_oneshot(program: &Program<'_>, channel: u64, waits: &mut Vec<Wait>) -> Option<()> {
    let [sender, receiver, created_at] = fields(program, offset_of!(Layout, oneshot))?;
    let place = program.reader.word(channel.checked_add(created_at)?)?;
    let ends = [
        (sender, "the end of the oneshot channel"),
        (receiver, "the value of the oneshot channel"),
    ];
    for (waker, operation) in ends {
        let waker = program.reader.block(channel.checked_add(waker)?, 16)?;
        let waker = waker.pair(0)?;
        let event = Event::Object(operation, place);
        waits.push(Wait { waker, event });
    }
    Some(())
}
