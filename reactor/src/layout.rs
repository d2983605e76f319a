//! Where the state of a reactor is in memory, for readers outside of the process.
//!
//! A reader of another process, or of a core file, cannot call functions there. It has addresses
//! and offsets instead, which the crate `windlass` publishes. So the state needs no representation
//! of its own, and costs nothing while nothing reads it.

use std::mem::size_of;
use std::ptr;
use std::task::Waker;

use crate::entry::{ENTRIES_PER_CHUNK, SourceEntry};
use crate::park;
use crate::poller::Interest;
use crate::timers::Timers;
use crate::waiters::{Others, Waiter, Waiters};

/// Changes with each change of the other items.
pub const VERSION: usize = 2;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Layout {
    /// The constant `VERSION`.
    pub version: usize,
    /// The size of a source.
    pub source_size: usize,
    /// The number of sources in a chunk.
    pub sources_per_chunk: usize,
    /// In a source: the descriptor, 32 bits.
    pub source_fd: usize,
    /// In a source: the first waker, or `None`.
    pub source_first: usize,
    /// In a source: the interest of the first waker, a byte.
    pub source_interest: usize,
    /// In a source: how many futures wait with the first waker, 32 bits.
    pub source_holders: usize,
    /// In a source: the address of the other wakers, or null.
    pub source_others: usize,
    /// In the other wakers: the `Vec` of each interest, in the order of the interests.
    pub others_waiters: [usize; 4],
    /// The size of an entry of such a `Vec`.
    pub waiter_size: usize,
    /// In such an entry: the waker.
    pub waiter_waker: usize,
    /// The interests as numbers: readable, writable, priority, error.
    pub interests: [usize; 4],
    /// The size of a timer.
    pub timer_size: usize,
    /// In a timer: the waker, or `None`.
    pub timer_waker: usize,
    /// In a timer: the deadline in nanoseconds of the clock, 64 bits.
    pub timer_deadline: usize,
    /// The value of `park_state` while the loop sleeps.
    pub parked: usize,
}

/// The description for this build.
pub const LAYOUT: Layout = Layout {
    version: VERSION,
    source_size: size_of::<SourceEntry>(),
    sources_per_chunk: ENTRIES_PER_CHUNK,
    source_fd: SourceEntry::FD_OFFSET,
    source_first: SourceEntry::WAITERS_OFFSET + Waiters::FIRST_OFFSET,
    source_interest: SourceEntry::WAITERS_OFFSET + Waiters::INTEREST_OFFSET,
    source_holders: SourceEntry::WAITERS_OFFSET + Waiters::HOLDERS_OFFSET,
    source_others: SourceEntry::WAITERS_OFFSET + Waiters::OTHERS_OFFSET,
    others_waiters: Others::WAITERS_OFFSETS,
    waiter_size: size_of::<Waiter>(),
    waiter_waker: Waiter::WAKER_OFFSET,
    interests: [
        Interest::Read as usize,
        Interest::Write as usize,
        Interest::Priority as usize,
        Interest::Error as usize,
    ],
    timer_size: Timers::<Waker>::ENTRY_SIZE,
    timer_waker: Timers::<Waker>::PAYLOAD_OFFSET,
    timer_deadline: Timers::<Waker>::DEADLINE_OFFSET,
    parked: park::PARKED as usize,
};

/// The addresses of the state of a reactor, which are valid as long as it exists.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The `Vec` of reference-counted chunks of sources.
    pub chunks: usize,
    /// The `Vec` of timers.
    pub timers: usize,
    /// A word: how many timers are pending.
    pub timers_pending: usize,
    /// The `Vec` of wakers that the next turn calls.
    pub deferred: usize,
    /// A byte: whether the loop sleeps.
    pub park_state: usize,
    /// A byte: 1 while a loop is on the stack.
    pub is_entered: usize,
    /// 64 bits: how many turns were started before the last wait.
    pub turns: usize,
    /// 64 bits: how many timers were started.
    pub timers_set: usize,
    /// 64 bits: how many sources exist.
    pub sources: usize,
}

/// Returns the address of a value that another process may read.
pub(crate) fn address<T>(value: &T) -> usize {
    ptr::from_ref(value).expose_provenance()
}
