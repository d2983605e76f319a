//! Wakes from other threads arrive here, in the only part of the executor that threads share.
//!
//! An inbox is found by its executor's id in a static table. It is never freed, only emptied and
//! given to the next executor of that id. So a waker on any thread finds an inbox at any time, and
//! under its lock learns whether the executor that the waker was made for still has it.

use std::task::Waker;

#[cfg(all(windlass_loom, test))]
use loom::sync::{Mutex, MutexGuard, atomic::AtomicBool};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(all(windlass_loom, test)))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};
use std::sync::{OnceLock, PoisonError, TryLockError};

use crate::key::{Key, MAX_EXECUTORS, MAX_GENERATION};
use crate::pulse::PulseSlot;

#[cfg(all(windlass_loom, test))]
#[path = "inbox_models.rs"]
mod models;

pub(crate) struct Inbox {
    /// Leads other threads to the values of the executor.
    pub(crate) pulse: PulseSlot,
    /// Written under the lock, and read without it.
    has_remote_wakes: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Earlier executors had the generations below. While the inbox is closed, all are below.
    first_generation: u32,
    /// The slots to be woken, in the order of arrival, each once.
    order: Vec<u32>,
    /// By slot, the generation to wake. So the number of slots bounds both lists, however often
    /// threads wake.
    marks: Vec<Mark>,
    /// Wakes the loop. Taken by the first wake after the loop has checked the inbox, which is the
    /// one that has to call it.
    driver_waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Nothing,
    Generation(u32),
    /// After wakes of two generations, of which one is stale. Wakes whichever task is there.
    Any,
}

impl Inbox {
    fn new() -> Self {
        Inbox {
            pulse: PulseSlot::default(),
            has_remote_wakes: AtomicBool::new(false),
            state: Mutex::new(State {
                first_generation: 0,
                order: Vec::new(),
                marks: Vec::new(),
                driver_waker: None,
            }),
        }
    }

    /// Opens the inbox for a new executor. Returns the generation that its slots start from. When
    /// the many executors that had this id have used half of the generations, they restart from
    /// zero. `None` if a lock is held. In a forked child, a thread of the parent may hold it
    /// forever.
    fn try_open(&self) -> Option<u32> {
        if self.pulse.is_locked() {
            return None;
        }
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if state.first_generation >= MAX_GENERATION / 2 {
            state.first_generation = 0;
        }
        Some(state.first_generation)
    }

    /// Returns whether another thread holds a lock. In a forked child, it holds it forever.
    pub(crate) fn is_locked(&self) -> bool {
        self.pulse.is_locked() || matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Closes the inbox, so that all existing wakers do nothing. The next executor starts from
    /// `first_generation`, which none of them has. Returns the driver's waker.
    pub(crate) fn close(&self, first_generation: u32) -> Option<Waker> {
        let mut state = self.lock();
        state.first_generation = first_generation;
        state.order = Vec::new();
        state.marks = Vec::new();
        self.has_remote_wakes.store(false, Relaxed);
        state.driver_waker.take()
    }

    /// Posts a wake from another thread.
    pub(crate) fn post(&self, key: Key) {
        let mut state = self.lock();
        if key.generation() < state.first_generation {
            return;
        }
        state.mark(key);
        self.has_remote_wakes.store(true, Release);
        let driver_waker = state.driver_waker.take();
        drop(state); // waking is user code
        if let Some(driver_waker) = driver_waker {
            driver_waker.wake();
        }
    }

    /// True if [`drain`](Self::drain) would find a wake.
    ///
    /// A wake right after this check finds `driver_waker` and wakes the loop. If this load misses
    /// the store of a wake, that wake also wakes the loop. So no wake is lost.
    pub(crate) fn has_remote_wakes(&self) -> bool {
        self.has_remote_wakes.load(Acquire)
    }

    /// Passes each woken slot with its generation to `wake`, which must not be user code. Without a
    /// generation, whichever task is in the slot is woken. Leaves `driver_waker` for the next wake,
    /// and returns the one that was there.
    pub(crate) fn drain(
        &self,
        driver_waker: Waker,
        mut wake: impl FnMut(u32, Option<u32>),
    ) -> Option<Waker> {
        let mut state = self.lock();
        let State { order, marks, .. } = &mut *state;
        for index in order.drain(..) {
            match std::mem::replace(&mut marks[index as usize], Mark::Nothing) {
                Mark::Nothing => {}
                Mark::Generation(generation) => wake(index, Some(generation)),
                Mark::Any => wake(index, None),
            }
        }
        self.has_remote_wakes.store(false, Relaxed);
        state.driver_waker.replace(driver_waker)
    }

    /// Shrinks the lists after the table has shrunk to so many slots.
    #[cold]
    pub(crate) fn shrink(&self, slots: usize) {
        let mut state = self.lock();
        if state.order.is_empty() {
            state.order = Vec::new();
            state.marks.truncate(slots);
            state.marks.shrink_to_fit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, so the state is consistent even if it is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark(&mut self, key: Key) {
        let index = key.index() as usize;
        if self.marks.len() <= index {
            self.marks.resize(index + 1, Mark::Nothing);
        }
        let mark = &mut self.marks[index];
        if *mark == Mark::Nothing {
            *mark = Mark::Generation(key.generation());
            self.order.push(key.index());
        } else if *mark != Mark::Generation(key.generation()) {
            *mark = Mark::Any;
        }
    }
}

const INBOXES_PER_CHUNK: usize = 64;

/// The inboxes by executor id, allocated chunk by chunk.
static CHUNKS: [OnceLock<Box<[Inbox]>>; MAX_EXECUTORS / INBOXES_PER_CHUNK] =
    [const { OnceLock::new() }; MAX_EXECUTORS / INBOXES_PER_CHUNK];

/// A bit for each id that an executor has. Atomic, since in a forked child a thread of the parent
/// could hold a lock.
static TAKEN: [AtomicU64; MAX_EXECUTORS / 64] = [const { AtomicU64::new(0) }; MAX_EXECUTORS / 64];

/// The inbox of an executor or of a waker.
pub(crate) fn of(executor: u16) -> &'static Inbox {
    let chunk = &CHUNKS[executor as usize / INBOXES_PER_CHUNK];
    let inboxes = chunk
        .get()
        .map_or_else(|| allocate(chunk), |inboxes| &**inboxes);
    &inboxes[executor as usize % INBOXES_PER_CHUNK]
}

#[cold]
fn allocate(chunk: &'static OnceLock<Box<[Inbox]>>) -> &'static [Inbox] {
    // Before the chunk's lock is taken, so that a fork hardly ever finds that lock held.
    let inboxes = (0..INBOXES_PER_CHUNK).map(|_| Inbox::new()).collect();
    chunk.get_or_init(|| inboxes)
}

/// Takes an id for a new executor. Returns it with the generation that its slots start from.
pub(crate) fn claim() -> (u16, u32) {
    let mut ids = TAKEN.iter().zip((0..).step_by(64));
    let claimed = ids.find_map(|(taken, first)| claim_in(taken, first));
    claimed.unwrap_or_else(|| panic!("more than {MAX_EXECUTORS} executors at once"))
}

/// Takes one of the 64 ids from `first` on.
fn claim_in(taken: &AtomicU64, first: u16) -> Option<(u16, u32)> {
    let mut passed_over = 0;
    loop {
        let number = (taken.load(Relaxed) | passed_over).trailing_ones();
        let bit = 1_u64.checked_shl(number)?;
        if taken.fetch_or(bit, AcqRel) & bit != 0 {
            continue; // another thread was faster
        }
        let id = first + number as u16;
        match of(id).try_open() {
            Some(generation) => return Some((id, generation)),
            None => drop(taken.fetch_and(!bit, Release)),
        }
        passed_over |= bit;
    }
}

/// Frees the id of an executor. Its inbox has been closed.
pub(crate) fn release(executor: u16) {
    let bit = 1 << (executor % 64);
    TAKEN[executor as usize / 64].fetch_and(!bit, Release);
}

#[cfg(all(test, not(windlass_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_restarts_its_generations_when_half_are_used() {
        let inbox = Inbox::new();
        for (unused, next) in [
            (1, 1),
            (MAX_GENERATION / 2, 0),
            (7, 7),
            (MAX_GENERATION + 1, 0),
        ] {
            assert!(inbox.close(unused).is_none());
            assert_eq!(inbox.try_open(), Some(next));
        }
    }

    #[test]
    fn an_id_whose_inbox_is_locked_is_passed_over() {
        let taken = AtomicU64::new(0);
        // The last ids, which no other test takes.
        let first = (MAX_EXECUTORS - 64) as u16;
        let lock = of(first + 1).lock();
        let (one, _) = claim_in(&taken, first).unwrap();
        let (other, _) = claim_in(&taken, first).unwrap();
        assert_eq!((one, other), (first, first + 2));
        drop(lock);
        assert_eq!(claim_in(&taken, first).unwrap().0, first + 1);
        assert!((3..64).all(|_| claim_in(&taken, first).is_some()));
        assert_eq!(claim_in(&taken, first), None);
    }
}
