//! The waits that the tables of all threads of a process have.

use std::mem::offset_of;

use super::objects::operation_name;
use super::program::Program;
use super::waits::{Event, Wait};
use crate::inspect::root::Layout;
use crate::waits::SharedLists;

/// Reads the waits. Returns also whether they are complete.
pub(super) fn read(program: &Program<'_>) -> (Vec<Wait>, bool) {
    let mut waits = Vec::new();
    let parts = [
        add_remote(program, &mut waits),
        add_pools(program, &mut waits),
        add_file_queues(program, &mut waits),
    ];
    (waits, parts.iter().all(Option::is_some))
}

/// Adds the waits for tasks of other runtimes. Returns `None` if a part is not readable, as do the
/// others.
fn add_remote(program: &Program<'_>, waits: &mut Vec<Wait>) -> Option<()> {
    let Some(list) = program.shared(offset_of!(SharedLists, remote)) else {
        return Some(());
    };
    let [size, present, data, vtable, place] = program.facade(offset_of!(Layout, waits.remote))?;
    for wait in program.vec(list, size as usize)? {
        let wait = program.reader.block(wait, size as usize)?;
        if wait.byte(present as usize)? == 1 {
            let waker = [wait.word(data as usize)?, wait.word(vtable as usize)?];
            let event = Event::Remote(wait.word(place as usize)?);
            waits.push(Wait { waker, event });
        }
    }
    Some(())
}

fn add_pools(program: &Program<'_>, waits: &mut Vec<Wait>) -> Option<()> {
    let Some(list) = program.shared(offset_of!(SharedLists, pools)) else {
        return Some(());
    };
    let [size, name, name_len, waiting, running] =
        program.facade(offset_of!(Layout, blocking.pool))?;
    for pool in program.vec(list, size as usize)? {
        let pool = program.reader.block(pool, size as usize)?;
        let word = |field: u64| pool.word(field as usize);
        let name = [word(name)?, word(name_len)?];
        add_closures(program, name, word(waiting)?, false, waits)?;
        add_closures(program, name, word(running)?, true, waits)?;
    }
    Some(())
}

fn add_closures(
    program: &Program<'_>,
    pool: [u64; 2],
    list: u64,
    is_running: bool,
    waits: &mut Vec<Wait>,
) -> Option<()> {
    let layout = program.facade(offset_of!(Layout, blocking.closure))?;
    let [size, present, waker, started_at, operation, fd] = layout;
    for closure in program.vec(list, size as usize)? {
        let closure = program.reader.block(closure, size as usize)?;
        if closure.byte(present as usize)? != 1 {
            continue;
        }
        // The closure may end, and its memory may be freed, while this reads.
        let Some(waker) = program.reader.pair(closure.word(waker as usize)?) else {
            continue;
        };
        let event = match closure.word(started_at as usize)? {
            0 => Event::File {
                operation: operation_name(closure.byte(operation as usize)?),
                fd: closure.half(fd as usize)? as i32,
                is_running,
            },
            started_at => Event::Closure {
                pool,
                started_at,
                is_running,
            },
        };
        waits.push(Wait { waker, event });
    }
    Some(())
}

/// Adds the waits for earlier operations of file handles.
fn add_file_queues(program: &Program<'_>, waits: &mut Vec<Wait>) -> Option<()> {
    let Some(list) = program.shared(offset_of!(SharedLists, file_queues)) else {
        return Some(());
    };
    let [size, weak, state] = program.facade(offset_of!(Layout, fs.queue))?;
    for queue in program.vec(list, size as usize)? {
        let queue = program.reader.block(queue, size as usize)?;
        // The file may be closed.
        if program.strong_count(queue.word(weak as usize)?) > 0 {
            add_file_queue(program, queue.word(state as usize)?, waits)?;
        }
    }
    Some(())
}

fn add_file_queue(program: &Program<'_>, state: u64, waits: &mut Vec<Wait>) -> Option<()> {
    let [live, waiting, entries, idle] = program.facade(offset_of!(Layout, fs.queue_state))?;
    let [size, phase, waker, done] = program.facade(offset_of!(Layout, fs.queued))?;
    let live = program.reader.word(state.checked_add(live)?)?;
    let waiting = program.reader.word(state.checked_add(waiting)?)?;
    let event = Event::FileOrder(live.saturating_sub(waiting));
    let mut wakers = vec![program.reader.pair(state.checked_add(idle)?)?];
    for entry in program.vec(state.checked_add(entries)?, size as usize)? {
        let entry = program.reader.block(entry, size as usize)?;
        if u64::from(entry.byte(phase as usize)?) != done {
            wakers.push(entry.pair(waker as usize)?);
        }
    }
    let each = wakers.into_iter().map(|waker| Wait {
        waker,
        event: event.clone(),
    });
    waits.extend(each);
    Some(())
}
