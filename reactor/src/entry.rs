//! The entry of a source: its state in one reactor, and the references to it.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

use rustix::fd::RawFd;

use crate::poller::{Event, Interest, Key};
use crate::readiness_cell::ReadinessCell;
use crate::remote::Remote;
use crate::waiters::{INTERESTS, Identity, Waiters, identity};

/// The descriptor of a source that was never registered.
const NO_FD: RawFd = !0;

pub(crate) const ENTRIES_PER_CHUNK: usize = 32;

/// Entries of one reactor. A chunk outlives the reactor if a source of another thread still refers
/// to it. No other reactor uses it again.
#[repr(C)] // readers outside of the process expect the entries first
pub(crate) struct Chunk {
    entries: [SourceEntry; ENTRIES_PER_CHUNK],
    first_slot: u32,
    remote: Arc<SourceRemote>,
}

// SAFETY: other threads read only `owner`, `index`, `first_slot` and `remote` of a chunk, which are
// atomic, or constant and `Sync`. A `LocalEntry` gives access to the cells, and exists only on the
// thread of the owner. The wakers that the last reference may drop are `Send`.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// The remote side of a reactor.
pub(crate) type SourceRemote = Remote<Message>;

/// A message to the thread of a reactor.
pub(crate) enum Message {
    /// A closure to run.
    Run(Box<dyn FnOnce() + Send>),
    /// Another reactor has removed the descriptor from the poller.
    Evicted(OwnedEntry),
    /// The source was dropped, and its descriptor removed from the poller.
    Released(OwnedEntry),
    /// A future that waited was dropped.
    WaitEnded(OwnedEntry, Interest, Registration),
}

/// The registration of a future among the waiters of an entry. Valid until the next event, which
/// takes all waiters of the interest.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) waker: Identity,
    generation: u32,
    tick: u32,
    disarms: u32,
}

/// A reference to an entry, on any thread. Valid as long as the source, which owns the entry.
#[derive(Clone, Copy)]
pub(crate) struct EntryRef<'a> {
    /// Derived from a pointer to the whole chunk.
    entry: NonNull<SourceEntry>,
    source: PhantomData<&'a Chunk>,
}

// SAFETY: it gives access to what `Chunk` shares between threads.
unsafe impl Send for EntryRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for EntryRef<'_> {}

/// A reference to an entry that keeps the chunk in memory. Each entry of a source has one at least.
pub(crate) struct OwnedEntry(EntryRef<'static>);

/// A reference to an entry on the thread of its reactor, which alone may access the state.
#[derive(Clone, Copy)]
pub(crate) struct LocalEntry<'a> {
    entry: EntryRef<'a>,
    is_not_send: PhantomData<*const ()>,
}

/// The state of a source in one reactor.
pub(crate) struct SourceEntry {
    /// The address of the reactor, or [`GONE`].
    owner: AtomicPtr<()>,
    /// Incremented when a source leaves the slot, so that late events of that source are ignored.
    generation: Cell<u32>,
    read: ReadinessCell,
    write: ReadinessCell,
    priority: ReadinessCell,
    error: ReadinessCell,
    /// The position in the chunk.
    index: u8,
    pub(crate) registered: Cell<Registered>,
    flags: Cell<u8>,
    /// How often this may still wait before it makes this reactor the home of the source.
    pub(crate) patience: Cell<u8>,
    /// Counts the events that took the waiters of all directions, see [`Event::disarmed`].
    disarms: Cell<u32>,
    /// The descriptor that was last registered with the poller.
    pub(crate) fd: Cell<RawFd>,
    pub(crate) waiters: Waiters,
}

/// The owner of the entries of a reactor that was dropped. Differs from null and from all reactors.
const GONE: *mut () = ptr::without_provenance_mut(1);

/// After another reactor has become the home of a source for which tasks wait here, so many waits
/// leave it the home. Two threads that wait for a source in turns would otherwise take it from each
/// other each time.
const PATIENCE: u8 = 64;

/// The interest that is registered with the poller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    Read,
    Both,
    Nothing,
    /// For one event at most, or removed by another thread. Each wait registers again.
    Once,
}

/// A short read does not prove that the socket is empty, see `Source::note_short_read`.
pub(crate) const SHORT_READS_UNRELIABLE: u8 = 1;
/// An always ready file was reported as readable before its first event.
pub(crate) const REPORTED: u8 = 1 << 1;

impl Chunk {
    /// Creates the entries of the reactor at the address `owner`.
    pub(crate) fn new(owner: *const (), first_slot: u32, remote: Arc<SourceRemote>) -> Chunk {
        Chunk {
            entries: array::from_fn(|index| SourceEntry::new(owner, index as u8)),
            first_slot,
            remote,
        }
    }

    /// The entries, on the thread of the reactor.
    #[inline]
    pub(crate) fn entries(&self) -> &[SourceEntry; ENTRIES_PER_CHUNK] {
        &self.entries
    }
}

impl<'a> EntryRef<'a> {
    /// # Safety
    ///
    /// The pointer is one of [`EntryRef::as_ptr`], and the source of the entry exists for `'a`.
    #[inline]
    pub(crate) unsafe fn from_ptr(entry: NonNull<SourceEntry>) -> EntryRef<'a> {
        let source = PhantomData;
        EntryRef { entry, source }
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> *mut SourceEntry {
        self.entry.as_ptr()
    }

    /// Returns access to the state if `reactor` is the owner, which is the reactor of this thread.
    #[inline]
    pub(crate) fn local(self, reactor: *const ()) -> Option<LocalEntry<'a>> {
        // SAFETY: the chunk is in memory, see `from_ptr` and `OwnedEntry`. No reference to the
        // state results, unless this is the thread of the owner.
        let owner = unsafe { &(*self.entry.as_ptr()).owner };
        // Only the thread that compares can have stored the address of its own reactor.
        ptr::eq(owner.load(Acquire), reactor).then_some(LocalEntry {
            entry: self,
            is_not_send: PhantomData,
        })
    }

    pub(crate) fn to_owned(self) -> OwnedEntry {
        let entry = EntryRef {
            entry: self.entry,
            source: PhantomData,
        };
        // SAFETY: the pointer is one to a chunk in an `Arc` that exists, see `chunk_ptr`.
        unsafe { Arc::increment_strong_count(self.chunk_ptr()) };
        OwnedEntry(entry)
    }

    /// The chunk as it is in its `Arc`.
    fn chunk_ptr(self) -> *const Chunk {
        // SAFETY: the index is constant, and the entry is that far inside of its chunk, of which it
        // is the first field. The pointer was derived from one to the chunk.
        unsafe {
            let index = (*self.entry.as_ptr()).index;
            self.entry.as_ptr().sub(index.into()).cast()
        }
    }

    fn chunk(self) -> &'a Chunk {
        // SAFETY: the source holds a reference to the chunk for `'a`.
        unsafe { &*self.chunk_ptr() }
    }

    /// The remote side of the reactor that owns the entry.
    pub(crate) fn remote(self) -> &'a Arc<SourceRemote> {
        &self.chunk().remote
    }
}

impl PartialEq for EntryRef<'_> {
    #[inline]
    fn eq(&self, other: &EntryRef<'_>) -> bool {
        self.entry == other.entry
    }
}

impl fmt::Debug for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl OwnedEntry {
    pub(crate) fn new(chunk: &Arc<Chunk>, index: usize) -> OwnedEntry {
        let chunk = Arc::into_raw(chunk.clone()).cast::<SourceEntry>();
        assert!(index < ENTRIES_PER_CHUNK);
        // SAFETY: the entries are the first field of the chunk, and `index` is below their number.
        let entry = unsafe { NonNull::new_unchecked(chunk.add(index).cast_mut()) };
        let source = PhantomData;
        OwnedEntry(EntryRef { entry, source })
    }

    /// # Safety
    ///
    /// The pointer is that of an entry that was forgotten, and is used once.
    pub(crate) unsafe fn from_ptr(entry: NonNull<SourceEntry>) -> OwnedEntry {
        // SAFETY: the reference that was forgotten keeps the entry.
        OwnedEntry(unsafe { EntryRef::from_ptr(entry) })
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> EntryRef<'_> {
        self.0
    }
}

impl Drop for OwnedEntry {
    fn drop(&mut self) {
        // SAFETY: this holds one reference, which `new` or `to_owned` has added.
        unsafe { Arc::decrement_strong_count(self.0.chunk_ptr()) };
    }
}

impl fmt::Debug for OwnedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> LocalEntry<'a> {
    #[inline]
    pub(crate) fn as_ref(self) -> EntryRef<'a> {
        self.entry
    }

    pub(crate) fn key(self) -> Key {
        Key {
            slot: self.entry.chunk().first_slot + u32::from(self.index),
            generation: self.generation.get(),
        }
    }
}

impl Deref for LocalEntry<'_> {
    type Target = SourceEntry;

    #[inline]
    fn deref(&self) -> &SourceEntry {
        // SAFETY: the chunk is in memory. This is the thread of the owner, and no other thread
        // accesses the cells, also after the owner was dropped.
        unsafe { self.entry.entry.as_ref() }
    }
}

impl SourceEntry {
    pub(crate) const FD_OFFSET: usize = offset_of!(SourceEntry, fd);
    pub(crate) const WAITERS_OFFSET: usize = offset_of!(SourceEntry, waiters);

    const fn new(owner: *const (), index: u8) -> SourceEntry {
        SourceEntry {
            owner: AtomicPtr::new(owner.cast_mut()),
            generation: Cell::new(0),
            read: ReadinessCell::new(true),
            write: ReadinessCell::new(true),
            priority: ReadinessCell::new(false),
            error: ReadinessCell::new(false),
            index,
            registered: Cell::new(Registered::Nothing),
            flags: Cell::new(0),
            patience: Cell::new(0),
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

    /// Whether the poller may have the descriptor.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.get() != Registered::Nothing
    }

    /// Whether tasks wait to read, or for a condition, and to write.
    pub(crate) fn waits(&self) -> (bool, bool) {
        let waits = |interest| !self.waiters.is_empty(interest);
        let reads = [Interest::Read, Interest::Priority, Interest::Error];
        (reads.into_iter().any(waits), waits(Interest::Write))
    }

    /// Whether events report all changes of this interest, so that a wait needs no registration.
    #[inline]
    pub(crate) fn reports(&self, interest: Interest) -> bool {
        let registered = self.registered.get();
        registered == Registered::Both
            || registered == Registered::Read && interest != Interest::Write
    }

    /// Registers a future that waits with this waker.
    #[inline(always)] // a call costs as much as the body
    pub(crate) fn start_wait(&self, interest: Interest, waker: &Waker, turn: u32) -> Registration {
        self.waiters.add_holder(interest, waker, turn);
        Registration {
            waker: identity(waker),
            generation: self.generation.get(),
            tick: self.readiness(interest).tick(),
            disarms: self.disarms.get(),
        }
    }

    /// Whether no event has ended the registration, and the source of it has the slot.
    #[inline]
    pub(crate) fn holds(&self, interest: Interest, registration: &Registration) -> bool {
        registration.tick == self.readiness(interest).tick()
            && registration.disarms == self.disarms.get()
            && registration.generation == self.generation.get()
    }

    /// Ends a registration, unless an event has done so. Drops a waker, which is user code.
    #[inline]
    pub(crate) fn end_wait(&self, interest: Interest, registration: &Registration) {
        if self.holds(interest, registration) {
            self.waiters.remove_holder(interest, registration.waker);
        }
    }

    /// Handles [`Message::Evicted`]. The tasks that wait are woken, try again, and register again.
    pub(crate) fn evict(&self, woken: &mut Vec<Waker>) {
        self.registered.set(Registered::Once);
        self.read.assume_ready();
        self.write.assume_ready();
        self.disarms.set(self.disarms.get().wrapping_add(1));
        let waiters = self.waiters.take_all();
        let has_waiters = waiters.append_to(woken);
        self.patience.set(if has_waiters { PATIENCE } else { 0 });
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

    /// Delivers an event, unless it is for another generation than the one in `slot`.
    #[inline]
    pub(crate) fn dispatch_to(&self, slot: u32, event: Event, woken: &mut Vec<Waker>) {
        if event.key.matches(slot, self.generation.get()) {
            self.dispatch(event, woken);
        } else if event.key.once().matches(slot, self.generation.get()) {
            let disarmed = true;
            self.dispatch(Event { disarmed, ..event }, woken);
        }
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
            // A second `take` would forget how many waiters the event has woken.
            return self.disarm(woken);
        }
        if event.readable {
            self.waiters.take(Interest::Read, woken);
        }
        if event.writable {
            self.waiters.take(Interest::Write, woken);
        }
    }

    /// Takes the waiters of all interests, which have to arm the source again.
    #[cold]
    fn disarm(&self, woken: &mut Vec<Waker>) {
        self.disarms.set(self.disarms.get().wrapping_add(1));
        for interest in INTERESTS {
            self.waiters.take(interest, woken);
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

    /// Called when the reactor is dropped. From here on, no thread accesses the state. Returns the
    /// waiters.
    pub(crate) fn retire(&self) -> Waiters {
        self.owner.store(GONE, Release);
        self.waiters.take_all()
    }

    /// Resets the entry to the state of a new one with the next generation. Returns the waiters.
    pub(crate) fn reset(&self) -> Waiters {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.read.reset(true);
        self.write.reset(true);
        self.priority.reset(false);
        self.error.reset(false);
        self.registered.set(Registered::Nothing);
        self.flags.set(0);
        self.patience.set(0);
        self.waiters.take_all()
    }
}

thread_local! {
    /// Stands for the entry of a source that has none here. It has no destructor.
    static SUBSTITUTE: ManuallyDrop<SourceEntry> =
        const { ManuallyDrop::new(SourceEntry::new(ptr::null(), 0)) };
}

/// Returns a substitute for the entry of a source that has none in this thread's reactor. It is
/// ready, and is never registered.
#[cold]
pub(crate) fn substitute_entry<'a>() -> LocalEntry<'a> {
    SUBSTITUTE.with(|entry| {
        entry.read.assume_ready();
        entry.write.assume_ready();
        let entry = NonNull::from(&**entry);
        LocalEntry {
            // Valid as long as the thread, which a `LocalEntry` does not leave.
            entry: EntryRef {
                entry,
                source: PhantomData,
            },
            is_not_send: PhantomData,
        }
    })
}
