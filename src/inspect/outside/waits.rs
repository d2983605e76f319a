//! The waits of a reactor, read from its tables.

use std::mem::offset_of;

use windlass_reactor::layout::{Addresses, Layout};

use super::memory::Block;
use super::program::Program;

/// A reactor, and what is known of its types.
pub(super) struct Reactor<'a> {
    program: &'a Program<'a>,
    /// The record of its runtime.
    record: &'a Block,
    /// Where its addresses are in the record.
    at: usize,
}

/// A waker, and the event that calls it.
#[derive(Clone)]
pub(super) struct Wait {
    pub(super) waker: [u64; 2],
    pub(super) event: Event,
}

/// An event. Places are the addresses of `Location`s, or null.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// The number of the interest, in the order of `Layout::interests`, and the descriptor.
    Fd(usize, i32),
    /// A deadline (ns).
    Timer(u64),
    NextTurn,
    /// An operation on an object, where that was created, and where the task waits.
    Object(&'static str, u64, u64),
    Lock {
        created_at: u64,
        awaited_at: u64,
        holder: [u64; 2],
    },
    Semaphore {
        created_at: u64,
        awaited_at: u64,
        wanted: u64,
        available: u64,
    },
    Send {
        created_at: u64,
        awaited_at: u64,
        capacity: u64,
        receiver: [u64; 2],
    },
    Receive {
        created_at: u64,
        awaited_at: u64,
        senders: u64,
        sender: [u64; 2],
    },
    /// The keys of the children.
    Group {
        created_at: u64,
        children: Vec<u64>,
    },
    /// The number of children.
    Scope(usize),
    /// A closure of a pool, by the address and the length of its name.
    Closure {
        pool: [u64; 2],
        started_at: u64,
        is_running: bool,
    },
    File {
        operation: &'static str,
        fd: i32,
        is_running: bool,
    },
    /// The number of earlier operations.
    FileOrder(u64),
    Remote(u64),
    /// The number of `Remote`s.
    Jobs(u64),
    /// A child of a scope waits for an event that no table names.
    Unknown,
}

impl<'a> Reactor<'a> {
    pub(super) fn new(program: &'a Program<'a>, record: &'a Block, at: usize) -> Reactor<'a> {
        Reactor {
            program,
            record,
            at,
        }
    }

    /// Returns an address, by its field in `Addresses`.
    fn address(&self, field: usize) -> Option<u64> {
        self.record.word(self.at + field)
    }

    pub(super) fn word(&self, field: usize) -> Option<u64> {
        self.program.reader.word(self.address(field)?)
    }

    pub(super) fn byte(&self, field: usize) -> Option<u8> {
        self.program.reader.byte(self.address(field)?)
    }

    /// Whether the loop sleeps, by the value of `Addresses::park_state`.
    pub(super) fn is_parked(&self) -> Option<bool> {
        let parked = self.program.reactor(offset_of!(Layout, parked))?;
        Some(usize::from(self.byte(offset_of!(Addresses, park_state))?) == parked)
    }

    /// Returns all waits, and whether they are complete.
    pub(super) fn waits(&self) -> (Vec<Wait>, bool) {
        let mut waits = Vec::new();
        let parts = [
            self.add_sources(&mut waits),
            self.add_timers(&mut waits),
            self.add_deferred(&mut waits),
        ];
        (waits, parts.iter().all(Option::is_some))
    }

    /// Adds the waits for descriptors. Returns `None` if a part is not readable.
    fn add_sources(&self, waits: &mut Vec<Wait>) -> Option<()> {
        let field = |field| self.program.reactor(field);
        let size = field(offset_of!(Layout, source_size)).filter(|&size| size < 4096)?;
        let per_chunk = field(offset_of!(Layout, sources_per_chunk)).filter(|&n| n < 4096)?;
        for chunk in self
            .program
            .vec(self.address(offset_of!(Addresses, chunks))?, 8)?
        {
            let chunk = self.program.rc_value(self.program.reader.word(chunk)?);
            for source in (0..per_chunk as u64).map(|index| index * size as u64) {
                let source = self
                    .program
                    .reader
                    .block(chunk.checked_add(source)?, size)?;
                self.add_source(&source, waits)?;
            }
        }
        Some(())
    }

    fn add_source(&self, source: &Block, waits: &mut Vec<Wait>) -> Option<()> {
        let field = |field| self.program.reactor(field);
        let fd = source.half(field(offset_of!(Layout, source_fd))?)? as i32;
        let interests = offset_of!(Layout, interests);
        if source.half(field(offset_of!(Layout, source_holders))?)? != 0 {
            let interest = source.byte(field(offset_of!(Layout, source_interest))?)?;
            let mut interests = (0..4).map(|index| field(interests + 8 * index));
            let interest = interests.position(|it| it == Some(interest.into()));
            let waker = source.pair(field(offset_of!(Layout, source_first))?)?;
            let event = interest.map(|interest| Event::Fd(interest, fd));
            waits.extend(event.map(|event| Wait { waker, event }));
        }
        let others = source.word(field(offset_of!(Layout, source_others))?)?;
        if others == 0 {
            return Some(());
        }
        let size = field(offset_of!(Layout, waiter_size))?;
        let waker = field(offset_of!(Layout, waiter_waker))?;
        for interest in 0..4 {
            let number = field(interests + 8 * interest).filter(|&number| number < 4)?;
            let list = field(offset_of!(Layout, others_waiters) + 8 * number)?;
            for waiter in self.program.vec(others.checked_add(list as u64)?, size)? {
                let waker = self.program.reader.block(waiter, size)?.pair(waker)?;
                let event = Event::Fd(interest, fd);
                waits.push(Wait { waker, event });
            }
        }
        Some(())
    }

    /// Adds the timers. Returns `None` if a part is not readable.
    fn add_timers(&self, waits: &mut Vec<Wait>) -> Option<()> {
        let field = |field| self.program.reactor(field);
        let size = field(offset_of!(Layout, timer_size))?;
        let waker = field(offset_of!(Layout, timer_waker))?;
        let deadline = field(offset_of!(Layout, timer_deadline))?;
        for timer in self
            .program
            .vec(self.address(offset_of!(Addresses, timers))?, size)?
        {
            let timer = self.program.reader.block(timer, size)?;
            let event = Event::Timer(timer.word(deadline)?);
            let waker = timer.pair(waker)?;
            waits.push(Wait { waker, event });
        }
        Some(())
    }

    /// Adds the wakers that the next turn calls. Returns `None` if a part is not readable.
    fn add_deferred(&self, waits: &mut Vec<Wait>) -> Option<()> {
        for waker in self
            .program
            .vec(self.address(offset_of!(Addresses, deferred))?, 16)?
        {
            let waker = self.program.reader.block(waker, 16)?.pair(0)?;
            let event = Event::NextTurn;
            waits.push(Wait { waker, event });
        }
        Some(())
    }
}
