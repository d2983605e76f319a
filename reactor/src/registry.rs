//! The registry: one entry per source, found by its key when an event arrives.

use std::array;
use std::cell::Cell;
use std::io;
use std::mem::offset_of;
use std::ops::Deref;
use std::rc::Rc;
use std::task::Waker;

use rustix::fd::RawFd;

use crate::poller::{Event, Interest, Key, MAX_SOURCES};
use crate::waiters::Waiters;

/// All sources of a reactor. An entry takes 64 bytes. Entries never move, because handles share
/// their chunk.
pub(crate) struct Registry {
    chunks: Vec<Rc<Chunk>>,
    /// Free slots, of which the last is used next.
    free: Vec<u32>,
}

/// The descriptor of a source that was never registered.
const NO_FD: RawFd = !0;

pub(crate) const ENTRIES_PER_CHUNK: usize = 32;
pub(crate) type Chunk = [SourceEntry; ENTRIES_PER_CHUNK];

/// A handle to an entry, with constant-time access.
pub(crate) struct EntryRef {
    chunk: Rc<Chunk>,
    slot: u32,
}

/// The state of a source.
pub(crate) struct SourceEntry {
    /// Incremented when a source leaves the slot, so that late events of that source are ignored.
    generation: Cell<u32>,
    read: ReadinessCell,
    write: ReadinessCell,
    priority: ReadinessCell,
    error: ReadinessCell,
    pub(crate) registered: Cell<Registered>,
    flags: Cell<u8>,
    /// Counts the events that took the waiters of all directions, see [`Event::disarmed`].
    disarms: Cell<u32>,
    /// The descriptor that was last registered with the poller.
    pub(crate) fd: Cell<RawFd>,
    pub(crate) waiters: Waiters,
}

/// The interest that is registered with the poller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    Nothing,
    Read,
    Both,
}

/// A short read does not prove that the socket is empty, see `Source::note_short_read`.
pub(crate) const SHORT_READS_UNRELIABLE: u8 = 1;
/// This crate has created the socket, and no other code can have set a linger time.
pub(crate) const NO_LINGER: u8 = 1 << 1;
/// Other pollers watch the same socket, and each event wakes one of them.
pub(crate) const EXCLUSIVE: u8 = 1 << 2;
/// The kind of file, once `Source::is_always_ready` has determined it.
pub(crate) const ALWAYS_READY: u8 = 1 << 3;
pub(crate) const NOT_ALWAYS_READY: u8 = 1 << 4;
/// An always ready file was reported as readable before its first event.
pub(crate) const REPORTED: u8 = 1 << 5;

impl Registry {
    pub(crate) fn new() -> Self {
        Registry {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Creates an entry.
    ///
    /// # Errors
    ///
    /// If the reactor has too many sources for the keys of the poller.
    pub(crate) fn insert(&mut self) -> io::Result<EntryRef> {
        if self.free.is_empty() {
            let slots = self.chunks.len() * ENTRIES_PER_CHUNK;
            let slots = slots..slots + ENTRIES_PER_CHUNK;
            if slots.end > MAX_SOURCES {
                return Err(io::Error::other("too many sources on one reactor"));
            }
            let chunk = array::from_fn(|_| SourceEntry::new());
            self.chunks.push(Rc::new(chunk));
            self.free.extend(slots.rev().map(|slot| slot as u32));
        }
        let slot = self.free.pop().expect("a new chunk has free slots");
        let chunk = self.chunks[slot as usize / ENTRIES_PER_CHUNK].clone();
        Ok(EntryRef { chunk, slot })
    }

    /// Frees the slot of an entry, and returns its waiters. Must be called once per entry. The
    /// caller discards the waiters after the borrow, because that is user code.
    pub(crate) fn release(&mut self, entry: &EntryRef) -> Waiters {
        self.free.push(entry.slot);
        entry.reset()
    }

    /// How many sources exist.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len() * ENTRIES_PER_CHUNK - self.free.len()
    }

    /// The list of chunks, for readers outside of the process.
    pub(crate) fn chunks(&self) -> &Vec<Rc<Chunk>> {
        &self.chunks
    }

    /// Passes each waker with its descriptor to `visit`, which must not run user code.
    pub(crate) fn for_each_waiter(&self, mut visit: impl FnMut(RawFd, Interest, &Waker)) {
        for entry in self.chunks.iter().flat_map(|chunk| chunk.iter()) {
            let fd = entry.fd.get();
            entry
                .waiters
                .for_each(|interest, waker| visit(fd, interest, waker));
        }
    }

    /// Delivers an event to its source, and moves the wakers of the tasks that wait for it to
    /// `woken`. The event is ignored if its source was closed in the meantime, even if the slot or
    /// the descriptor is in use again.
    #[inline]
    pub(crate) fn dispatch(&self, event: Event, woken: &mut Vec<Waker>) {
        let slot = event.key.slot;
        if let Some(chunk) = self.chunks.get(slot as usize / ENTRIES_PER_CHUNK) {
            let entry = &chunk[slot as usize % ENTRIES_PER_CHUNK];
            if event.key.matches(slot, entry.generation.get()) {
                entry.dispatch(event, woken);
            }
        }
    }
}

impl EntryRef {
    pub(crate) fn key(&self) -> Key {
        Key {
            slot: self.slot,
            generation: self.generation.get(),
        }
    }
}

impl Deref for EntryRef {
    type Target = SourceEntry;

    #[inline]
    fn deref(&self) -> &SourceEntry {
        &self.chunk[self.slot as usize % ENTRIES_PER_CHUNK]
    }
}

impl SourceEntry {
    pub(crate) const FD_OFFSET: usize = offset_of!(SourceEntry, fd);
    pub(crate) const WAITERS_OFFSET: usize = offset_of!(SourceEntry, waiters);

    fn new() -> SourceEntry {
        SourceEntry {
            generation: Cell::new(0),
            read: ReadinessCell::new(true),
            write: ReadinessCell::new(true),
            priority: ReadinessCell::new(false),
            error: ReadinessCell::new(false),
            registered: Cell::new(Registered::Nothing),
            flags: Cell::new(0),
            disarms: Cell::new(0),
            fd: Cell::new(NO_FD),
            waiters: Waiters::new(),
        }
    }

    #[inline]
    pub(crate) fn readiness(&self, interest: Interest) -> &ReadinessCell {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
            Interest::Priority => &self.priority,
            Interest::Error => &self.error,
        }
    }

    #[inline]
    pub(crate) fn disarms(&self) -> u32 {
        self.disarms.get()
    }

    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.get() != Registered::Nothing
    }

    /// Whether any of these flags is set.
    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags.get() & flags != 0
    }

    #[inline]
    pub(crate) fn set(&self, flags: u8) {
        self.flags.set(self.flags.get() | flags);
    }

    #[inline]
    pub(crate) fn clear(&self, flags: u8) {
        self.flags.set(self.flags.get() & !flags);
    }

    #[inline]
    fn dispatch(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.hung_up {
            self.set(SHORT_READS_UNRELIABLE);
            if event.priority || event.error {
                self.set_conditions(event.priority, event.error, woken);
            }
        }
        if event.readable {
            self.read.set_ready();
        }
        if event.writable {
            self.write.set_ready();
        }
        if event.disarmed {
            self.disarms.set(self.disarms.get().wrapping_add(1));
        }
        if event.readable || event.disarmed {
            self.waiters.take(Interest::Read, woken);
        }
        if event.writable || event.disarmed {
            self.waiters.take(Interest::Write, woken);
        }
    }

    /// Records priority and error conditions, and takes the wakers of the tasks that wait for them.
    #[cold]
    pub(crate) fn set_conditions(&self, priority: bool, error: bool, woken: &mut Vec<Waker>) {
        self.clear(REPORTED);
        for (interest, is_set) in [(Interest::Priority, priority), (Interest::Error, error)] {
            if is_set {
                self.readiness(interest).set_ready();
                self.waiters.take(interest, woken);
            }
        }
    }

    /// Resets the entry to the state of a new one with the next generation. Returns the waiters.
    fn reset(&self) -> Waiters {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.read.reset(true);
        self.write.reset(true);
        self.priority.reset(false);
        self.error.reset(false);
        self.registered.set(Registered::Nothing);
        self.flags.set(0);
        self.waiters.take_all()
    }
}

/// The readiness of one direction: whether it may be ready, and a tick that each event increments.
///
/// The poller reports edges. A direction counts as ready at first, and from an event on until an
/// operation returns `WouldBlock`. The operation remembers the tick at its start, so that it does
/// not clear the readiness of an event that came in the middle of it, from a nested turn.
///
/// Bit 0 is the readiness, the others are the tick.
pub(crate) struct ReadinessCell(Cell<u32>);

impl ReadinessCell {
    fn new(is_ready: bool) -> Self {
        ReadinessCell(Cell::new(is_ready.into()))
    }

    fn reset(&self, is_ready: bool) {
        self.0.set(is_ready.into());
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.0.get() & 1 != 0
    }

    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.0.get() >> 1
    }

    /// An event has come.
    #[inline]
    pub(crate) fn set_ready(&self) {
        self.0.set((self.0.get() | 1).wrapping_add(2));
    }

    /// Makes the next operation try without an event.
    pub(crate) fn assume_ready(&self) {
        self.0.set(self.0.get() | 1);
    }

    /// Clears the readiness, unless an event has come since `tick`.
    #[inline]
    pub(crate) fn clear_ready(&self, tick: u32) {
        if tick == self.tick() {
            self.0.set(tick << 1);
        }
    }

    /// Clears the readiness and returns what it was.
    #[cfg(unix)]
    pub(crate) fn take_ready(&self) -> bool {
        let was_ready = self.is_ready();
        self.clear_ready(self.tick());
        was_ready
    }

    /// Tries an operation once. Returns `None` after `WouldBlock`, which clears the readiness.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        operation: &mut impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let tick = self.tick();
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.clear_ready(tick);
                    return None;
                }
                result => return Some(result),
            }
        }
    }
}
