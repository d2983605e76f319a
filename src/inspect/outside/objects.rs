//! The waits for the objects of a thread, read from its list.

use std::collections::{HashMap, HashSet};
use std::mem::offset_of;

use super::memory::Block;
use super::program::Program;
use super::waits::{Event, Wait};
use crate::inspect::root::{Layout, Record};
use crate::sync::wait_queue::QueueOwner;
use crate::waits::{FileOperationKind, ObjectKind};

/// By number, the objects that a queue belongs to, and the operations that wait. The first two and
/// the queue of a channel have more to show.
const OWNERS: [&str; 8] = {
    let mut owners = [""; 8];
    owners[QueueOwner::Event as usize] = "the event";
    owners[QueueOwner::Watch as usize] = "a change of the watch channel";
    owners[QueueOwner::Stop as usize] = "the stop";
    owners[QueueOwner::Broadcast as usize] = "a value of the broadcast channel";
    owners[QueueOwner::ChannelEnd as usize] = "the end of the channel";
    owners
};
const MUTEX: u8 = QueueOwner::Mutex as u8;
const SEMAPHORE: u8 = QueueOwner::Semaphore as u8;
const CHANNEL: u8 = QueueOwner::Channel as u8;

/// The objects of a thread, as far as they concern waits.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) waits: Vec<Wait>,
    /// The waker of the task that polls the child of a scope, by the address in the child's waker.
    pub(super) scopes: HashMap<u64, [u64; 2]>,
    /// The purposes of descriptors.
    pub(super) sources: HashMap<i32, Source>,
    /// The keys of the tasks that receive jobs, with the numbers of `Remote`s.
    pub(super) job_receivers: Vec<(u64, u64)>,
}

/// The purpose of a descriptor.
pub(super) enum Source {
    /// The end of a child process.
    Child(u32),
    Signals(Vec<i32>),
}

/// Reads the objects. Returns also whether they are complete.
pub(super) fn read(program: &Program<'_>, record: &Block) -> (Objects, bool) {
    let mut objects = Objects::default();
    let is_complete = objects.add_all(program, record).is_some();
    (objects, is_complete)
}

/// The name of an operation on a file, by its number.
pub(super) fn operation_name(number: u8) -> &'static str {
    use FileOperationKind::{Close, Open, Other, Read, Sync, Write};
    let kinds = [Read, Write, Sync, Open, Close];
    let kind = kinds.into_iter().find(|&kind| kind as u8 == number);
    crate::inspect::tasks::operation_name(kind.unwrap_or(Other))
}

impl Objects {
    fn add_all(&mut self, program: &Program<'_>, record: &Block) -> Option<()> {
        /// More than a thread has.
        const MOST_OBJECTS: usize = 1 << 24;
        let [object, kind, next] = program.facade(offset_of!(Layout, waits.node))?;
        let mut pointer = record.word(offset_of!(Record, objects))?;
        for _ in 0..MOST_OBJECTS {
            let node = program.reader.word(pointer)?;
            if node == 0 {
                return Some(());
            }
            let at = |field: u64| node.checked_add(field);
            let distance = program.reader.half(at(object)?)? as i32;
            let object = node.wrapping_add_signed(distance.into());
            self.add(program, object, program.reader.byte(at(kind)?)?)?;
            pointer = at(next)?;
        }
        None
    }

    fn add(&mut self, program: &Program<'_>, object: u64, kind: u8) -> Option<()> {
        const QUEUE: u8 = ObjectKind::Queue as u8;
        const CHANNEL: u8 = ObjectKind::Channel as u8;
        const ONESHOT: u8 = ObjectKind::Oneshot as u8;
        const GROUP: u8 = ObjectKind::Group as u8;
        const SCOPE: u8 = ObjectKind::Scope as u8;
        const SOURCE: u8 = ObjectKind::Source as u8;
        const JOB_RECEIVER: u8 = ObjectKind::JobReceiver as u8;
        const RING: u8 = ObjectKind::Ring as u8;
        match kind {
            QUEUE => self.add_queue(program, object),
            CHANNEL => self.add_channel(program, object),
            ONESHOT => self.add_oneshot(program, object),
            GROUP => self.add_group(program, object),
            SCOPE => self.add_scope(program, object),
            SOURCE => self.add_source(program, object),
            JOB_RECEIVER => self.add_job_receiver(program, object),
            RING => self.add_ring(program, object),
            _ => Some(()),
        }
    }

    fn push(&mut self, waker: [u64; 2], event: Event) {
        self.waits.push(Wait { waker, event });
    }

    fn add_queue(&mut self, program: &Program<'_>, queue: u64) -> Option<()> {
        let fields = program.facade(offset_of!(Layout, sync.queue))?;
        let [owner, created_at, supply, holder] = at(queue, fields)?;
        let reader = program.reader;
        let owner = reader.byte(owner)?;
        let created_at = reader.word(created_at)?;
        let (available, holder) = (reader.word(supply)?, reader.pair(holder)?);
        let Some(&operation) = OWNERS.get(usize::from(owner)).filter(|_| owner != CHANNEL) else {
            return Some(()); // the channel has its waiters
        };
        for_each_waiter(program, queue, |waiter| {
            let awaited_at = waiter.awaited_at;
            let event = match owner {
                MUTEX => Event::Lock {
                    created_at,
                    awaited_at,
                    holder,
                },
                SEMAPHORE => Event::Semaphore {
                    created_at,
                    awaited_at,
                    wanted: waiter.wants,
                    available,
                },
                _ => Event::Object(operation, created_at, awaited_at),
            };
            self.push(waiter.waker, event);
        })
    }

    fn add_channel(&mut self, program: &Program<'_>, channel: u64) -> Option<()> {
        let fields = program.facade(offset_of!(Layout, sync.channel))?;
        let [
            receiver,
            created_at,
            capacity,
            senders,
            awaited_at,
            last,
            queue,
        ] = at(channel, fields)?;
        let reader = program.reader;
        let waker = reader.pair(receiver)?;
        let [created_at, capacity, senders, awaited_at] =
            words(program, [created_at, capacity, senders, awaited_at])?;
        let (receiver, list) = (reader.pair(last)?, reader.word(queue)?);
        let mut sender = [0; 2];
        if list != 0 {
            let [inside] = program.facade(offset_of!(Layout, sync.queue_in_object))?;
            let queue = list.checked_add(inside)?;
            sender = holder_of(program, queue)?;
            for_each_waiter(program, queue, |waiter| {
                let event = Event::Send {
                    created_at,
                    awaited_at: waiter.awaited_at,
                    capacity,
                    receiver,
                };
                self.push(waiter.waker, event);
            })?;
        }
        let event = Event::Receive {
            created_at,
            awaited_at,
            senders,
            sender,
        };
        self.push(waker, event);
        Some(())
    }

    fn add_oneshot(&mut self, program: &Program<'_>, channel: u64) -> Option<()> {
        let fields = program.facade(offset_of!(Layout, sync.oneshot))?;
        let [sender, receiver, created_at, receiver_at] = at(channel, fields)?;
        let [created_at, receiver_at] = words(program, [created_at, receiver_at])?;
        let ends = [
            (sender, "the end of the oneshot channel", 0),
            (receiver, "the value of the oneshot channel", receiver_at),
        ];
        for (waker, operation, awaited_at) in ends {
            let waker = program.reader.pair(waker)?;
            self.push(waker, Event::Object(operation, created_at, awaited_at));
        }
        Some(())
    }

    fn add_group(&mut self, program: &Program<'_>, group: u64) -> Option<()> {
        let fields = program.facade(offset_of!(Layout, task.group))?;
        let [created_at, owner, running] = words(program, at(group, fields)?)?;
        let waker = program.reader.pair(owner)?;
        if waker.contains(&0) {
            return Some(()); // no task waits
        }
        let [size, present, key] = program.facade(offset_of!(Layout, task.child))?;
        let mut children = Vec::new();
        for child in program.vec(running, size as usize)? {
            let child = program.reader.block(child, size as usize)?;
            if child.byte(present as usize)? == 1 {
                children.push(child.word(key as usize)?);
            }
        }
        let event = Event::Group {
            created_at,
            children,
        };
        self.push(waker, event);
        Some(())
    }

    /// Adds a scope, and the wakers of its children.
    fn add_scope(&mut self, program: &Program<'_>, scope: u64) -> Option<()> {
        /// More than a scope has.
        const MOST_CHILDREN: usize = 1 << 20;
        let fields = program.facade(offset_of!(Layout, task.scope))?;
        let [ready, mut signal] = words(program, at(scope, fields)?)?;
        let ready = program.arc_value(ready);
        let parent = program
            .reader
            .pair(ready.checked_add(program.scope_parent)?)?;
        if parent.contains(&0) {
            return Some(()); // its task is not waiting
        }
        let [previous] = program.facade(offset_of!(Layout, task.signal_previous))?;
        let mut children = HashSet::new();
        // The first signal has a `Weak` without a value, which points nowhere.
        while children.len() < MOST_CHILDREN && program.strong_count(signal) > 0 {
            let child = program.arc_value(signal);
            if !children.insert(child) {
                return None; // a circle
            }
            signal = program.reader.word(child.checked_add(previous)?)?;
        }
        self.push(parent, Event::Scope(children.len()));
        self.scopes
            .extend(children.into_iter().map(|child| (child, parent)));
        Some(())
    }

    fn add_source(&mut self, program: &Program<'_>, source: u64) -> Option<()> {
        /// More than a system has.
        const MOST_SIGNALS: usize = 128;
        let fields = program.facade(offset_of!(Layout, waits.source))?;
        let [fd, pid, signals] = at(source, fields)?;
        let fd = program.reader.half(fd)? as i32;
        let source = match program.reader.half(pid)? {
            0 => {
                let each = program.vec(signals, 4)?.take(MOST_SIGNALS);
                let signals = each.map(|it| Some(program.reader.half(it)? as i32));
                Source::Signals(signals.collect::<Option<_>>()?)
            }
            pid => Source::Child(pid),
        };
        self.sources.insert(fd, source);
        Some(())
    }

    fn add_job_receiver(&mut self, program: &Program<'_>, receiver: u64) -> Option<()> {
        let fields = program.facade(offset_of!(Layout, waits.job_receiver))?;
        let [key, remotes, number] = fields;
        let [key, count] = words(program, at(receiver, [key, remotes])?)?;
        let remotes = program.arc_value(count).checked_add(number)?;
        self.job_receivers
            .push((key, program.reader.word(remotes)?));
        Some(())
    }

    fn add_ring(&mut self, program: &Program<'_>, ring: u64) -> Option<()> {
        let [size, waker, operation, fd, is_running] =
            program.facade(offset_of!(Layout, fs.ring))?;
        for wait in program.vec(ring, size as usize)? {
            let wait = program.reader.block(wait, size as usize)?;
            let event = Event::File {
                operation: operation_name(wait.byte(operation as usize)?),
                fd: wait.half(fd as usize)? as i32,
                is_running: wait.byte(is_running as usize)? == 1,
            };
            self.push(wait.pair(waker as usize)?, event);
        }
        Some(())
    }
}

/// The addresses of fields of an object.
fn at<const N: usize>(object: u64, fields: [u64; N]) -> Option<[u64; N]> {
    let mut addresses = [0; N];
    for (address, field) in addresses.iter_mut().zip(fields) {
        *address = object.checked_add(field)?;
    }
    Some(addresses)
}

/// Reads words.
fn words<const N: usize>(program: &Program<'_>, addresses: [u64; N]) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (word, address) in words.iter_mut().zip(addresses) {
        *word = program.reader.word(address)?;
    }
    Some(words)
}

/// The waker of the holder of a queue, or of the waiter that was served last.
fn holder_of(program: &Program<'_>, queue: u64) -> Option<[u64; 2]> {
    let fields = program.facade(offset_of!(Layout, sync.queue))?;
    let [_, _, _, holder] = at(queue, fields)?;
    program.reader.pair(holder)
}

/// A future that waits in a queue.
struct Waiter {
    waker: [u64; 2],
    wants: u64,
    awaited_at: u64,
}

/// Returns `None` if a part of the queue is not readable.
fn for_each_waiter(program: &Program<'_>, queue: u64, mut visit: impl FnMut(Waiter)) -> Option<()> {
    let [entries, size] = program.facade(offset_of!(Layout, sync.entries))?;
    let [waiting] = program.facade(offset_of!(Layout, sync.waiting))?;
    let [state, waker, wants, awaited_at] = program.facade(offset_of!(Layout, sync.entry))?;
    let entries = queue
        .checked_add(program.queue_waiters)?
        .checked_add(entries)?;
    for entry in program.vec(entries, size as usize)? {
        let entry = program.reader.block(entry, size as usize)?;
        if u64::from(entry.byte(state as usize)?) == waiting {
            visit(Waiter {
                waker: entry.pair(waker as usize)?,
                wants: entry.word(wants as usize)?,
                awaited_at: entry.word(awaited_at as usize)?,
            });
        }
    }
    Some(())
}
