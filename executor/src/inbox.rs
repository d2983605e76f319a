//! Where wakes from other threads arrive: the only part of the executor that threads share.
//!
//! An inbox is found by its executor's id in a static table and is never freed, only emptied and
//! lent to the next executor. So a waker on any thread, at any time, finds an inbox; whether the
//! executor that it was made for is still behind it, the lock tells.

use std::task::Waker;

#[cfg(all(windlass_loom, test))]
use loom::sync::{Mutex, MutexGuard, atomic::AtomicBool};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(all(windlass_loom, test)))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};
use std::sync::{OnceLock, PoisonError, TryLockError};

use crate::key::{Key, MAX_EXECUTORS, MAX_GENERATION};

#[cfg(all(windlass_loom, test))]
#[path = "inbox_models.rs"]
mod models;

pub(crate) struct Inbox {
    /// There may be mail. Written under the lock, so that it can be read without.
    mail: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Generations below were handed out by earlier executors: while the inbox is closed, all.
    first_generation: u32,
    /// The slots to be woken, in the order of arrival, each once...
    order: Vec<u32>,
    /// ...and by slot the generation that was woken, or NONE. After two different ones ANY: one
    /// of them is stale, and whoever is there now is woken. So both lists are bounded by the number
    /// of slots, however often threads wake.
    marks: Vec<u32>,
    /// What wakes the loop; taken by the first wake after the loop has looked, which is the one
    /// that has to call it.
    outer: Option<Waker>,
}

const NONE: u32 = u32::MAX;
const ANY: u32 = u32::MAX - 1;

impl Inbox {
    fn new() -> Self {
        Inbox {
            mail: AtomicBool::new(false),
            state: Mutex::new(State {
                first_generation: 0,
                order: Vec::new(),
                marks: Vec::new(),
                outer: None,
            }),
        }
    }

    /// Opens it for a new executor: says which generation its slots start from. Should they run
    /// out, over the many executors that had this id, they begin anew. None if the lock is held. In
    /// a forked child it may be held for ever, by a thread of the parent.
    fn try_open(&self) -> Option<u32> {
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

    /// Closes it: all wakers that there are do nothing from here on. The next executor starts from
    /// `first_generation`, which none of them has. Hands back the waker that was there.
    fn close(&self, first_generation: u32) -> Option<Waker> {
        let mut state = self.lock();
        state.first_generation = first_generation;
        state.order = Vec::new();
        state.marks = Vec::new();
        self.mail.store(false, Relaxed);
        state.outer.take()
    }

    /// A wake from another thread.
    pub(crate) fn post(&self, key: Key) {
        let mut state = self.lock();
        if key.generation() < state.first_generation {
            return;
        }
        state.mark(key);
        self.mail.store(true, Release);
        let outer = state.outer.take();
        drop(state); // waking is user code
        if let Some(outer) = outer {
            outer.wake();
        }
    }

    /// True if [`collect`](Self::collect) would find something.
    ///
    /// A wake that comes right after this look is not lost: it finds `outer` and wakes the loop.
    /// Nor is one whose store this look misses: whoever stored it goes on to wake the loop too.
    pub(crate) fn has_mail(&self) -> bool {
        self.mail.load(Acquire)
    }

    /// Hands each woken slot with its generation to `wake`, which must not be user code, and
    /// leaves `outer` for the next wake to find. Hands back the waker that was there. Without a
    /// generation, whoever is in the slot is meant.
    pub(crate) fn collect(
        &self,
        outer: Waker,
        mut wake: impl FnMut(u32, Option<u32>),
    ) -> Option<Waker> {
        let mut state = self.lock();
        let State { order, marks, .. } = &mut *state;
        for index in order.drain(..) {
            let generation = std::mem::replace(&mut marks[index as usize], NONE);
            wake(index, (generation != ANY).then_some(generation));
        }
        self.mail.store(false, Relaxed);
        state.outer.replace(outer)
    }

    /// Gives memory back after the executor has given slots back. Without mail no mark is set.
    #[cold]
    pub(crate) fn give_back(&self, slots: usize) {
        let mut state = self.lock();
        if state.order.is_empty() {
            state.order = Vec::new();
            state.marks.truncate(slots);
            state.marks.shrink_to_fit();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, so a poisoned one holds no broken promise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark(&mut self, key: Key) {
        let index = key.index() as usize;
        if self.marks.len() <= index {
            self.marks.resize(index + 1, NONE);
        }
        let mark = &mut self.marks[index];
        if *mark == NONE {
            *mark = key.generation();
            self.order.push(key.index());
        } else if *mark != key.generation() {
            *mark = ANY;
        }
    }
}

const SHELF: usize = 64;

/// Inboxes by executor id, made a shelf at a time.
static SHELVES: [OnceLock<Box<[Inbox]>>; MAX_EXECUTORS / SHELF] =
    [const { OnceLock::new() }; MAX_EXECUTORS / SHELF];

/// A bit for each id that an executor has. A lock could be held by a thread that a forked child
/// doesn't have.
static TAKEN: [AtomicU64; MAX_EXECUTORS / 64] = [const { AtomicU64::new(0) }; MAX_EXECUTORS / 64];

/// The inbox of an id that some waker holds.
pub(crate) fn of(executor: u16) -> &'static Inbox {
    let shelf = &SHELVES[executor as usize / SHELF];
    let inboxes = shelf
        .get()
        .map_or_else(|| make(shelf), |inboxes| &**inboxes);
    &inboxes[executor as usize % SHELF]
}

#[cold]
fn make(shelf: &'static OnceLock<Box<[Inbox]>>) -> &'static [Inbox] {
    // Before the lock of the shelf is taken, so that hardly any fork finds that held.
    let inboxes = (0..SHELF).map(|_| Inbox::new()).collect();
    shelf.get_or_init(|| inboxes)
}

/// An id for a new executor, and the generation that its slots start from.
pub(crate) fn claim() -> (u16, u32) {
    let ids = TAKEN.iter().zip((0..).step_by(64));
    let mut claimed = ids.filter_map(|(taken, first)| claim_in(taken, first));
    let Some(claimed) = claimed.next() else {
        panic!("more than {MAX_EXECUTORS} executors at once");
    };
    claimed
}

/// The same among the 64 ids from `first` on.
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

/// Gives the id back. The next executor starts from `first_generation`.
pub(crate) fn release(executor: u16, first_generation: u32) {
    let outer = of(executor).close(first_generation);
    let bit = 1 << (executor % 64);
    TAKEN[executor as usize / 64].fetch_and(!bit, Release);
    drop(outer); // user code, which may make executors, and may panic
}

#[cfg(all(test, not(windlass_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_whose_generations_run_out_begins_anew() {
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
        // Of the last ids, which no other test takes.
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
