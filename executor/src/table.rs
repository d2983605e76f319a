//! The table of tasks, with the run queue threaded through it.
//!
//! ```text
//!            ┌─────────────── queued ───────────────┐
//!  free ──► idle ──wake──► queued ──next──► running ─┴─► done ──► free
//!    ▲        ▲                               │  │
//!    │        └──────────── Pending ──────────┘  │
//!    └──── cancelled (once out of the queue) ◄───┘
//! ```
//!
//! A slot is in the queue at most once, and the links of the queue are in the slots themselves:
//! to wake a task never allocates. A slot that dies while it is queued is used again only when the
//! queue has passed it. Nothing here runs user code: what must be dropped or woken is handed back.

use std::task::Waker;

use crate::key::{Key, MAX_GENERATION, MAX_TASKS};
use crate::task::BoxedJob;
use crate::waker::{is_number, key_in};

/// The end of a list.
const NIL: u32 = u32::MAX;

pub(crate) struct Table {
    executor: u16,
    slots: Vec<Slot>,
    /// Released slots, the latest first: its memory is warm.
    free: u32,
    /// The run queue: first and last slot.
    head: u32,
    tail: u32,
    /// Tasks that have not finished. The main future does not count.
    live: usize,
    /// The generation of every slot's first use. Wakers left over from an earlier executor of the
    /// same id have lower ones.
    first_generation: u32,
}

struct Slot {
    /// None while the slot is free, dead, running, or the main future's.
    job: Option<BoxedJob>,
    /// Who awaits the task's handle.
    joiner: Option<Waker>,
    /// The generation, and the flags below.
    state: u32,
    /// The next slot in the run queue if QUEUED, in the free list otherwise.
    next: u32,
}

/// The slot is in the run queue.
const QUEUED: u32 = 1 << 26;
/// The job is being polled: it is on the stack of the executor's loop.
const RUNNING: u32 = 1 << 27;
/// The job holds its output.
const DONE: u32 = 1 << 28;
/// There is a `Task` that will want the output.
const JOINED: u32 = 1 << 29;
/// Cancelled while it was running.
const CANCELLED: u32 = 1 << 30;
/// The main future's: there is no job here.
const MAIN: u32 = 1 << 31;

const _: () = assert!(MAX_GENERATION < QUEUED, "generation and flags share a word");

/// What the queue holds next.
pub(crate) enum Next {
    Task(Key, BoxedJob),
    Main,
    Nothing,
}

/// How a task stands, seen from its handle.
pub(crate) enum Join {
    /// The waker given is the joiner.
    Pending,
    /// The waker given is another than the joiner, and to clone the one or to drop the other is
    /// user code.
    Unknown,
    Done(BoxedJob),
    /// Cancelled, or its executor was dropped.
    Gone,
}

/// What a cancellation met.
pub(crate) enum Cancelled {
    /// The task was waiting; the caller drops it.
    Waiting(BoxedJob),
    /// The task had finished; the caller has the output.
    Done(BoxedJob),
    /// The task cancels itself from within its own poll, and ends when that returns.
    Running,
    Gone,
}

impl Table {
    pub(crate) fn new(executor: u16, first_generation: u32) -> Self {
        Table {
            executor,
            slots: Vec::new(),
            free: NIL,
            head: NIL,
            tail: NIL,
            live: 0,
            first_generation,
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.head != NIL
    }

    /// Gives a task a slot and queues it. The slot is to be [filled](Self::fill) at once.
    #[inline]
    pub(crate) fn insert(&mut self) -> Key {
        let index = self.take_slot(JOINED);
        self.live += 1;
        self.push(index);
        self.key(index)
    }

    #[inline]
    pub(crate) fn fill(&mut self, key: Key, job: BoxedJob) {
        self.slots[key.index() as usize].put(job);
    }

    /// A slot for the main future, queued: it waits its turn as any task does.
    pub(crate) fn insert_main(&mut self) -> Key {
        let index = self.take_slot(MAIN);
        self.push(index);
        self.key(index)
    }

    pub(crate) fn remove_main(&mut self, key: Key) {
        self.retire(key.index());
    }

    /// Queues the task unless it is gone, done, or queued already. True if it was queued.
    #[inline]
    pub(crate) fn wake(&mut self, key: Key) -> bool {
        match self.slots.get(key.index() as usize) {
            Some(slot)
                if slot.generation() == key.generation() && slot.state & (QUEUED | DONE) == 0 =>
            {
                self.push(key.index());
                true
            }
            _ => false,
        }
    }

    /// Takes the first of the queue. A job must come back by [`pending`](Self::pending) or
    /// [`finished`](Self::finished).
    #[inline]
    pub(crate) fn next(&mut self) -> Next {
        while self.head != NIL {
            let index = self.head;
            let slot = &mut self.slots[index as usize];
            self.head = slot.next;
            slot.state &= !QUEUED;
            if slot.state & (DONE | RUNNING | MAIN) == 0 {
                if let Some(job) = slot.job.take() {
                    slot.state |= RUNNING;
                    let key = Key::new(self.executor, slot.generation(), index);
                    return Next::Task(key, job);
                }
                self.release(index); // it died in the queue
            } else if slot.state & MAIN != 0 {
                return Next::Main;
            }
        }
        Next::Nothing
    }

    /// Puts back a task that waits. If it was cancelled meanwhile, it goes back to the caller
    /// instead, to be dropped and then [`finished`](Self::finished).
    #[inline]
    pub(crate) fn pending(&mut self, key: Key, job: BoxedJob) -> Option<BoxedJob> {
        let slot = &mut self.slots[key.index() as usize];
        if slot.state & CANCELLED != 0 {
            return Some(job);
        }
        slot.state &= !RUNNING;
        slot.put(job);
        None
    }

    /// Ends a task that ran: keeps the job with its output for the handle, if there is one that
    /// still wants it. Hands back the job otherwise. A joiner of this executor is woken; another
    /// is handed back, to be woken.
    #[inline]
    pub(crate) fn finished(
        &mut self,
        key: Key,
        job: Option<BoxedJob>,
    ) -> (Option<BoxedJob>, Option<Waker>) {
        self.live -= 1;
        let slot = &mut self.slots[key.index() as usize];
        let mut joiner = slot.joiner.take();
        slot.state &= !(RUNNING | CANCELLED);
        let unwanted = if slot.state & JOINED != 0 && job.is_some() {
            slot.state |= DONE;
            job.into_iter().for_each(|job| slot.put(job));
            None
        } else {
            self.retire(key.index());
            job
        };
        if let Some(waker) = &joiner {
            if let Some(joined_in) = key_in(self.executor, waker) {
                self.wake(joined_in);
                std::mem::forget(joiner.take()); // a number
            }
        }
        (unwanted, joiner)
    }

    /// How the task stands for its handle; `waker` is that of who awaits it.
    #[inline]
    pub(crate) fn join(&mut self, key: Key, waker: &Waker) -> Join {
        let Some(slot) = self.slot(key) else {
            return Join::Gone;
        };
        if slot.state & DONE != 0 {
            let job = slot.job.take().expect("a done slot holds its job");
            self.retire(key.index());
            return Join::Done(job);
        }
        match &slot.joiner {
            Some(joiner) if joiner.will_wake(waker) => Join::Pending,
            None if is_number(waker) => {
                slot.joiner = Some(waker.clone());
                Join::Pending
            }
            _ => Join::Unknown,
        }
    }

    /// Changes who is woken when the task ends. The caller drops what comes back.
    pub(crate) fn set_joiner(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        match self.slot(key) {
            Some(slot) if slot.state & DONE == 0 => slot.joiner.replace(waker),
            _ => Some(waker),
        }
    }

    pub(crate) fn is_finished(&mut self, key: Key) -> bool {
        self.slot(key).is_none_or(|slot| slot.state & DONE != 0)
    }

    /// Nobody wants the output any more. If it is there already, the caller drops it.
    pub(crate) fn detach(&mut self, key: Key) -> (Option<BoxedJob>, Option<Waker>) {
        let Some(slot) = self.slot(key) else {
            return (None, None);
        };
        slot.state &= !JOINED;
        let joiner = slot.joiner.take();
        if slot.state & DONE == 0 {
            return (None, joiner);
        }
        let job = slot.job.take();
        self.retire(key.index());
        (job, joiner)
    }

    pub(crate) fn cancel(&mut self, key: Key) -> (Cancelled, Option<Waker>) {
        let Some(slot) = self.slot(key) else {
            return (Cancelled::Gone, None);
        };
        if slot.state & RUNNING != 0 {
            slot.state |= CANCELLED;
            return (Cancelled::Running, None);
        }
        let done = slot.state & DONE != 0;
        let joiner = slot.joiner.take();
        let job = slot
            .job
            .take()
            .expect("a slot that is not running holds its job");
        self.retire(key.index());
        if done {
            return (Cancelled::Done(job), joiner);
        }
        self.live -= 1;
        (Cancelled::Waiting(job), joiner)
    }

    /// Takes an unfinished task out, the lowest slot first, when the executor ends. `from` is
    /// where to go on searching.
    pub(crate) fn drain(&mut self, from: &mut u32) -> Option<(BoxedJob, Option<Waker>)> {
        while let Some(slot) = self.slots.get_mut(*from as usize) {
            if slot.state & DONE == 0 {
                if let Some(job) = slot.job.take() {
                    let joiner = slot.joiner.take();
                    self.live -= 1;
                    self.retire(*from);
                    return Some((job, joiner));
                }
            }
            *from += 1;
        }
        None
    }

    /// A generation that no waker of this table has, for the next executor of the same id.
    pub(crate) fn unused_generation(&self) -> u32 {
        let highest = self.slots.iter().map(Slot::generation).max();
        highest.unwrap_or(self.first_generation) + 1
    }

    fn key(&self, index: u32) -> Key {
        Key::new(
            self.executor,
            self.slots[index as usize].generation(),
            index,
        )
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        (slot.generation() == key.generation()).then_some(slot)
    }

    #[inline]
    fn push(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state |= QUEUED;
        slot.next = NIL;
        if self.head == NIL {
            self.head = index;
        } else {
            self.slots[self.tail as usize].next = index;
        }
        self.tail = index;
    }

    fn take_slot(&mut self, flags: u32) -> u32 {
        let index = self.free;
        if index == NIL {
            return self.add_slot(flags);
        }
        let slot = &mut self.slots[index as usize];
        self.free = slot.next;
        slot.state |= flags;
        index
    }

    #[cold]
    fn add_slot(&mut self, flags: u32) -> u32 {
        let len = self.slots.len();
        assert!(
            len < MAX_TASKS,
            "more than {MAX_TASKS} tasks at once on one executor"
        );
        if len == self.slots.capacity() {
            // A sixteenth at a time: doubling would leave half of a large table unused.
            self.slots.reserve_exact((len / 16).max(32));
        }
        self.slots.push(Slot {
            job: None,
            joiner: None,
            state: self.first_generation | flags,
            next: NIL,
        });
        len as u32
    }

    /// The task is gone: wakers and handles of its generation find nothing from here on.
    fn retire(&mut self, index: u32) {
        let first = self.first_generation;
        let slot = &mut self.slots[index as usize];
        let queued = slot.state & QUEUED;
        let generation = slot.generation();
        slot.state = queued
            | if generation == MAX_GENERATION {
                first
            } else {
                generation + 1
            };
        if queued == 0 {
            self.release(index);
        }
    }

    fn release(&mut self, index: u32) {
        self.slots[index as usize].next = self.free;
        self.free = index;
    }
}

impl Slot {
    #[inline]
    fn generation(&self) -> u32 {
        self.state & MAX_GENERATION
    }

    /// Fills the empty place of the job.
    #[inline]
    fn put(&mut self, job: BoxedJob) {
        let empty = self.job.replace(job);
        debug_assert!(empty.is_none());
        std::mem::forget(empty); // spares the look whether there is something to drop
    }
}
