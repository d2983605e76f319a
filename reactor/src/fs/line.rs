//! The order of the operations of one handle, above the choice of ring or threads.
//!
//! Each operation enters the line when its future is first polled, and begins once no earlier
//! operation conflicts with it. It leaves when the system is done with it, whether or not its
//! future is polled again, and also when it is dropped. So a future that was dropped holds up
//! nothing, and reads and writes of different ranges run at the same time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::operation::Handle;
use crate::current::{made_hub, nobody_turns};
use crate::fork::Origin;
use crate::wake::wake_all;

/// What an operation touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads this range. Metadata is a read of everything.
    Read(Range<u64>),
    /// Writes this range.
    Write(Range<u64>),
    /// Covers the writes before it. Later reads and writes at an offset pass it.
    Sync,
    /// The position, the length, the permissions, or all bytes.
    All,
}

impl Access {
    pub(crate) const READ_ALL: Access = Access::Read(0..u64::MAX);

    /// Whether `later` must wait for this one.
    fn holds_up(&self, later: &Access) -> bool {
        use Access::{All, Read, Sync, Write};
        let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        match (self, later) {
            (All, _) | (_, All) | (Write(_), Sync) => true,
            (Sync, _) | (_, Sync) | (Read(_), Read(_)) => false,
            (Write(a), Read(b) | Write(b)) | (Read(a), Write(b)) => overlap(a, b),
        }
    }

    fn writes(&self) -> bool {
        matches!(self, Access::Write(_) | Access::All)
    }
}

/// The line of one handle.
#[derive(Debug)]
pub(crate) struct Line {
    origin: Origin,
    state: Mutex<State>,
    /// The line of a forked child. In the inherited one the parent's operations never end, and a
    /// thread of the parent may hold the lock.
    in_child: OnceLock<Arc<Line>>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of entering. Those that are over leave from the front.
    entries: VecDeque<Entry>,
    /// How many entries have left: one less than the number of the first.
    first: u64,
    /// How many entries are not over.
    live: usize,
    /// How many of these write.
    writers: usize,
    /// How many of these have not begun.
    waiting: usize,
    /// Of a write whose caller has gone on: the next operation that may fail returns it.
    error: Option<io::Error>,
    /// The buffer of the last such write, to be used again.
    spare: Vec<u8>,
    /// Waits until the line is empty.
    idle: Option<Waker>,
}

#[derive(Debug)]
struct Entry {
    access: Access,
    phase: Phase,
    waker: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Waits,
    Runs,
    Over,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            origin: Origin::here(),
            state: Mutex::default(),
            in_child: OnceLock::new(),
        }
    }
}

impl Line {
    /// This process's line of the same handle.
    #[inline]
    fn here(self: &Arc<Self>) -> &Arc<Line> {
        if self.is_inherited() {
            return self.in_child();
        }
        self
    }

    #[cold]
    fn in_child(&self) -> &Arc<Line> {
        self.in_child.get_or_init(Arc::default).here()
    }

    /// True in a forked child.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the line is empty. For the owner of the handle, who lets nothing else enter
    /// meanwhile: only operations whose futures were dropped, and writes in the background.
    ///
    /// # Errors
    ///
    /// If nothing turns that could end them.
    pub(crate) fn poll_empty(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (this, mut waker) = (self.here(), None);
        loop {
            let mut state = this.lock();
            if state.live == 0 {
                let old = state.idle.take();
                drop(state);
                drop((old, waker));
                return Poll::Ready(Ok(()));
            }
            if state
                .idle
                .as_ref()
                .is_some_and(|it| it.will_wake(cx.waker()))
            {
                break;
            }
            if let Some(waker) = waker.take() {
                let old = state.idle.replace(waker);
                drop(state);
                drop(old);
                break;
            }
            drop(state);
            waker = Some(cx.waker().clone());
        }
        pending()
    }

    /// The error of a write in the background, once.
    pub(crate) fn take_error(self: &Arc<Self>) -> io::Result<()> {
        self.here().lock().error.take().map_or(Ok(()), Err)
    }

    /// The memory of an earlier write.
    pub(crate) fn take_spare(self: &Arc<Self>) -> Vec<u8> {
        mem::take(&mut self.here().lock().spare)
    }
}

impl State {
    fn entry(&mut self, number: NonZeroU64) -> &mut Entry {
        &mut self.entries[(number.get() - 1 - self.first) as usize]
    }

    #[inline]
    fn is_held_up(&self, index: usize, access: &Access) -> bool {
        let only_reads = self.writers == 0 && !access.writes();
        self.live > 0 && !only_reads && self.conflicts(index, access)
    }

    #[cold]
    fn conflicts(&self, index: usize, access: &Access) -> bool {
        let before = self.entries.range(..index);
        let mut before = before.filter(|it| it.phase != Phase::Over);
        before.any(|it| it.access.holds_up(access))
    }

    #[inline]
    fn enter(&mut self, access: Access) -> (NonZeroU64, bool) {
        let index = self.entries.len();
        let waits = self.is_held_up(index, &access);
        self.live += 1;
        self.waiting += usize::from(waits);
        self.writers += usize::from(access.writes());
        self.entries.push_back(Entry {
            access,
            phase: if waits { Phase::Waits } else { Phase::Runs },
            waker: None,
        });
        let number = NonZeroU64::MIN.saturating_add(self.first + index as u64);
        (number, waits)
    }

    /// The wakers of operations that may begin now, and the one of an entry that was dropped.
    fn leave(&mut self, number: NonZeroU64, wakers: &mut Vec<Waker>) -> Option<Waker> {
        let index = (number.get() - 1 - self.first) as usize;
        let entry = &mut self.entries[index];
        let was_waiting = entry.phase == Phase::Waits;
        entry.phase = Phase::Over;
        let own = entry.waker.take();
        self.writers -= usize::from(entry.access.writes());
        self.waiting -= usize::from(was_waiting);
        self.live -= 1;
        if index == 0 {
            self.remove_over();
        }
        if self.live == 0 {
            wakers.extend(self.idle.take());
        }
        if self.waiting > 0 {
            self.begin(wakers);
        }
        own
    }

    /// Removes the operations at the front that are over.
    fn remove_over(&mut self) {
        if self.live == 0 {
            self.first += self.entries.len() as u64;
            self.entries.clear();
            return;
        }
        while self
            .entries
            .front()
            .is_some_and(|it| it.phase == Phase::Over)
        {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    #[cold]
    fn begin(&mut self, wakers: &mut Vec<Waker>) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.phase != Phase::Waits {
                continue;
            }
            if !self.is_held_up(index, &entry.access) {
                let entry = &mut self.entries[index];
                entry.phase = Phase::Runs;
                wakers.extend(entry.waker.take());
                self.waiting -= 1;
            }
            if self.waiting == 0 || self.entries[index].access == Access::All {
                return; // it holds up all that come after it
            }
        }
    }
}

/// The place of an operation in the line of its handle, and the handle, which can't be closed
/// before.
///
/// When it is dropped, the operation is over.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// None once it is over.
    handle: Option<Arc<Handle>>,
    line: Arc<Line>,
    /// None for what takes part in no order.
    number: Option<NonZeroU64>,
    /// It had to wait when it entered.
    waits: bool,
}

impl Ticket {
    /// Enters the line.
    pub(crate) fn new(handle: &Arc<Handle>, line: &Arc<Line>, access: Access) -> Ticket {
        let mut ticket = Ticket::without_order(handle, line);
        let (number, waits) = ticket.line.lock().enter(access);
        (ticket.number, ticket.waits) = (Some(number), waits);
        ticket
    }

    /// For operations on what has neither position nor offsets, whose peers decide on the order.
    pub(crate) fn without_order(handle: &Arc<Handle>, line: &Arc<Line>) -> Ticket {
        Ticket {
            handle: Some(handle.clone()),
            line: line.here().clone(),
            number: None,
            waits: false,
        }
    }

    /// Waits for its turn.
    ///
    /// # Errors
    ///
    /// If nothing turns that could end the operations before it.
    pub(crate) async fn turn(&self) -> io::Result<()> {
        match self.waits {
            true => poll_fn(|cx| self.poll_turn(cx)).await,
            false => Ok(()),
        }
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(number) = self.number else {
            return Poll::Ready(Ok(()));
        };
        self.line.origin.check("this operation on a file")?;
        let mut waker = None;
        loop {
            let mut state = self.line.lock();
            let entry = state.entry(number);
            if entry.phase != Phase::Waits {
                let old = entry.waker.take();
                drop(state);
                drop((old, waker));
                return Poll::Ready(Ok(()));
            }
            let known = entry.waker.as_ref();
            if known.is_some_and(|known| known.will_wake(cx.waker())) {
                break;
            }
            if let Some(waker) = waker.take() {
                let old = entry.waker.replace(waker);
                drop(state);
                drop(old);
                break;
            }
            drop(state);
            waker = Some(cx.waker().clone());
        }
        pending()
    }

    /// The system is done with the operation. The caller calls the wakers.
    ///
    /// The descriptor is released first, because the tasks that wake may rely on it.
    #[inline]
    pub(crate) fn finish(&mut self, wakers: &mut Vec<Waker>) {
        if self.handle.take().is_some() && !self.line.is_inherited() {
            let mut state = self.line.lock();
            let own = self.number.and_then(|number| state.leave(number, wakers));
            drop(state);
            drop(own);
        }
    }

    /// As [`finish`](Ticket::finish), for a write in the background. It leaves its error and its
    /// buffer for later operations.
    #[cold]
    pub(crate) fn finish_in_background(
        &mut self,
        error: Option<io::Error>,
        mut buffer: Vec<u8>,
        wakers: &mut Vec<Waker>,
    ) {
        if self.handle.is_none() || self.line.is_inherited() {
            return self.finish(wakers);
        }
        buffer.clear();
        let mut state = self.line.lock();
        let old = mem::replace(&mut state.spare, buffer);
        if state.error.is_none() {
            state.error = error;
        }
        drop(state);
        drop(old);
        self.finish(wakers);
    }
}

impl Deref for Ticket {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        self.handle.as_ref().expect("the operation is not over")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.handle.is_some() {
            let mut wakers = Vec::new();
            self.finish(&mut wakers);
            wake_all(wakers);
        }
    }
}

/// Operations of a ring end only while something turns.
#[cold]
fn pending() -> Poll<io::Result<()>> {
    match made_hub() {
        Some(hub) if hub.made_ring().is_some() && !hub.is_driven() => {
            Poll::Ready(Err(nobody_turns()))
        }
        _ => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the operations may begin, in this order.
    fn running(state: &State) -> Vec<u64> {
        let numbers = (state.first..).zip(&state.entries);
        let running = numbers.filter(|(_, it)| it.phase == Phase::Runs);
        running.map(|(number, _)| number).collect()
    }

    fn number(index: u64) -> NonZeroU64 {
        NonZeroU64::new(index + 1).unwrap()
    }

    fn line(accesses: &[Access]) -> State {
        let mut state = State::default();
        for access in accesses {
            state.enter(access.clone());
        }
        state
    }

    #[test]
    fn ranges_that_do_not_overlap_run_at_the_same_time() {
        use Access::{All, Read, Sync, Write};
        let state = line(&[
            Read(0..9),
            Read(5..9),
            Write(9..12),
            Write(8..9),
            Read(11..20),
        ]);
        assert_eq!(running(&state), [0, 1, 2]);
        let state = line(&[
            Write(0..9),
            Write(9..10),
            Sync,
            Read(9..10),
            Read(10..11),
            Sync,
        ]);
        assert_eq!(running(&state), [0, 1, 4]);
        let state = line(&[
            Read(0..9),
            Sync,
            Read(0..9),
            Write(9..10),
            All,
            Read(50..60),
        ]);
        assert_eq!(running(&state), [0, 1, 2, 3]);
    }

    #[test]
    fn an_operation_begins_when_the_last_that_holds_it_up_is_over() {
        use Access::{All, Read, Write};
        let mut state = line(&[Read(0..9), Write(20..30), All, Write(0..5), Read(4..6), All]);
        let mut wakers = Vec::new();
        state.leave(number(1), &mut wakers);
        assert_eq!(running(&state), [0]);
        state.leave(number(0), &mut wakers);
        assert_eq!(running(&state), [2]);
        state.leave(number(3), &mut wakers); // its future was dropped
        state.leave(number(2), &mut wakers);
        assert_eq!(running(&state), [4]);
        state.leave(number(4), &mut wakers);
        assert_eq!(running(&state), [5]);
        state.leave(number(5), &mut wakers);
        assert_eq!((state.live, state.writers, state.waiting), (0, 0, 0));
        assert!(state.entries.is_empty());
    }
}
