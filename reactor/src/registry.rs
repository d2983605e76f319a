//! The registry: one entry per source, found by its key when an event arrives.

use std::io;
use std::sync::Arc;
use std::task::Waker;

use rustix::fd::RawFd;

use crate::entry::{Chunk, ENTRIES_PER_CHUNK, LocalEntry, OwnedEntry, SourceEntry, SourceRemote};
use crate::poller::{Event, Interest, MAX_SOURCES};
use crate::waiters::Waiters;

/// All sources of a reactor. An entry takes 72 bytes. Entries never move, because handles share
/// their chunk.
pub(crate) struct Registry {
    chunks: Vec<Arc<Chunk>>,
    /// Free slots, of which the last is used next.
    free: Vec<u32>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Registry {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Creates an entry of the reactor at the address `owner`.
    ///
    /// # Errors
    ///
    /// If the reactor has too many sources for the keys of the poller.
    pub(crate) fn insert(
        &mut self,
        owner: *const (),
        remote: &Arc<SourceRemote>,
    ) -> io::Result<OwnedEntry> {
        if self.free.is_empty() {
            let slots = self.chunks.len() * ENTRIES_PER_CHUNK;
            let slots = slots..slots + ENTRIES_PER_CHUNK;
            if slots.end > MAX_SOURCES {
                return Err(io::Error::other("too many sources on one reactor"));
            }
            let chunk = Chunk::new(owner, slots.start as u32, remote.clone());
            self.chunks.push(Arc::new(chunk));
            self.free.extend(slots.rev().map(|slot| slot as u32));
        }
        let slot = self.free.pop().expect("a new chunk has free slots") as usize;
        let chunk = &self.chunks[slot / ENTRIES_PER_CHUNK];
        Ok(OwnedEntry::new(chunk, slot % ENTRIES_PER_CHUNK))
    }

    /// Frees the slot of an entry, and returns its waiters. Must be called once per entry. The
    /// caller discards the waiters after the borrow, because that is user code.
    pub(crate) fn release(&mut self, entry: LocalEntry<'_>) -> Waiters {
        self.free.push(entry.key().slot);
        entry.reset()
    }

    /// Returns all waiters. Called when the reactor is dropped, after which no thread accesses the
    /// state of an entry.
    pub(crate) fn retire(&mut self) -> Vec<Waiters> {
        let entries = self.chunks.iter().flat_map(|chunk| chunk.entries());
        entries.map(SourceEntry::retire).collect()
    }

    /// How many sources exist.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len() * ENTRIES_PER_CHUNK - self.free.len()
    }

    /// The list of chunks, for readers outside of the process.
    pub(crate) fn chunks(&self) -> &Vec<Arc<Chunk>> {
        &self.chunks
    }

    /// Passes each waker with its descriptor to `visit`, which must not run user code.
    pub(crate) fn for_each_waiter(&self, mut visit: impl FnMut(RawFd, Interest, &Waker)) {
        for entry in self.chunks.iter().flat_map(|chunk| chunk.entries()) {
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
            let entry = &chunk.entries()[slot as usize % ENTRIES_PER_CHUNK];
            entry.dispatch_to(slot, event, woken);
        }
    }
}
