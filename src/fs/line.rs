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
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::files::Files;
use super::operation::Handle;
use windlass_reactor::completion::Registration;
use windlass_reactor::fork::{self, Origin};
use windlass_reactor::wake::wake_all;

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

/// A line keeps memory for so many operations after a burst.
const KEPT: usize = 64;

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
    /// The slots of operations. Those that are over are reused.
    entries: Vec<Entry>,
    /// The first slot to reuse, or the number of slots. The rest of that list is in the entries.
    vacant: usize,
    /// How many operations have entered.
    entered: u64,
    /// How many are not over.
    live: usize,
    /// How many of these write.
    writers: usize,
    /// How many of these have not begun.
    waiting: usize,
    /// The slots and numbers of operations that have not begun, in the order of entering. Those
    /// that were dropped meanwhile are skipped.
    queue: VecDeque<(u32, u64)>,
    /// The error of a write in the background. The next operation that may fail returns it.
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
    /// In the order of entering. In a vacant slot: the next vacant slot.
    number: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Waits until the line is empty. The caller owns the handle and starts no operation meanwhile,
    /// so only writes in the background and operations whose futures were dropped are left.
    ///
    /// # Errors
    ///
    /// If nothing turns that could end them.
    #[inline]
    pub(crate) fn poll_empty(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.here();
        this.poll_until(cx, |state| match state.live {
            0 => Wait::Over(state.idle.take()),
            _ => Wait::For(&mut state.idle),
        })
    }

    /// Waits until `look` returns [`Wait::Over`]. Clones and drops wakers outside of the lock.
    fn poll_until(
        &self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut State) -> Wait<'_>,
    ) -> Poll<io::Result<()>> {
        let mut waker = None;
        loop {
            let mut state = self.lock();
            match look(&mut state) {
                Wait::Over(old) => {
                    drop(state);
                    drop((old, waker));
                    return Poll::Ready(Ok(()));
                }
                Wait::For(known) => {
                    if known.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
                        break;
                    }
                    if waker.is_some() {
                        mem::swap(known, &mut waker);
                        break;
                    }
                }
            }
            drop(state);
            waker = Some(cx.waker().clone());
        }
        drop(waker);
        pending()
    }

    /// Whether an operation that entered now would not have to wait.
    #[inline]
    pub(crate) fn is_free_for(self: &Arc<Self>, access: &Access) -> bool {
        let state = self.here().lock();
        !state.is_held_up(state.entered, access)
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

/// Whether a wait is over.
enum Wait<'a> {
    /// With the waker that was registered.
    Over(Option<Waker>),
    /// With the place of the waker.
    For(&'a mut Option<Waker>),
}

impl State {
    /// Whether the operation with this number must wait for an earlier one.
    #[inline]
    fn is_held_up(&self, number: u64, access: &Access) -> bool {
        let only_reads = self.writers == 0 && !access.writes();
        self.live > 0 && !only_reads && self.conflicts(number, access)
    }

    #[cold]
    fn conflicts(&self, number: u64, access: &Access) -> bool {
        let live = self.entries.iter().filter(|it| it.phase != Phase::Over);
        let mut earlier = live.filter(|it| it.number < number);
        earlier.any(|it| it.access.holds_up(access))
    }

    /// Returns the slot, and whether the operation must wait.
    #[inline]
    fn enter(&mut self, access: Access) -> (u32, bool) {
        let number = self.entered;
        let waits = self.is_held_up(number, &access);
        self.entered += 1;
        self.live += 1;
        self.writers += usize::from(access.writes());
        let entry = Entry {
            access,
            phase: if waits { Phase::Waits } else { Phase::Runs },
            number,
            waker: None,
        };
        let slot = self.vacant;
        match self.entries.get_mut(slot) {
            Some(vacant) => {
                self.vacant = vacant.number as usize;
                *vacant = entry;
            }
            None => self.push(entry),
        }
        if waits {
            self.waiting += 1;
            self.queue.push_back((slot as u32, number));
        }
        (slot as u32, waits)
    }

    #[cold]
    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.vacant = self.entries.len();
    }

    /// Collects the wakers of operations that may begin now. Returns the waker of an operation that
    /// was dropped while it waited.
    #[inline]
    fn leave(&mut self, slot: u32, wakers: &mut Vec<Waker>) -> Option<Waker> {
        let entry = &mut self.entries[slot as usize];
        let was_waiting = entry.phase == Phase::Waits;
        entry.phase = Phase::Over;
        entry.number = self.vacant as u64;
        let own = entry.waker.take();
        self.writers -= usize::from(entry.access.writes());
        self.waiting -= usize::from(was_waiting);
        self.vacant = slot as usize;
        self.live -= 1;
        if self.live == 0 {
            if self.idle.is_some() || self.entries.len() > KEPT || !self.queue.is_empty() {
                self.reset(wakers);
            }
        } else if self.waiting > 0 {
            self.begin(wakers);
        }
        own
    }

    /// The line is empty.
    #[cold]
    fn reset(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.idle.take());
        self.queue.clear();
        if self.entries.len() > KEPT {
            self.entries.clear();
            self.entries.shrink_to(KEPT);
            self.queue.shrink_to(KEPT);
            self.vacant = 0;
        }
    }

    #[cold]
    fn begin(&mut self, wakers: &mut Vec<Waker>) {
        let mut index = 0;
        while let Some(&(slot, number)) = self.queue.get(index) {
            let entry = &self.entries[slot as usize];
            if entry.phase != Phase::Waits || entry.number != number {
                self.queue.remove(index); // it was dropped
                continue;
            }
            let is_all = entry.access == Access::All;
            if self.is_held_up(number, &entry.access) {
                index += 1;
            } else {
                let entry = &mut self.entries[slot as usize];
                entry.phase = Phase::Runs;
                wakers.extend(entry.waker.take());
                self.queue.remove(index);
                self.waiting -= 1;
            }
            if is_all || self.waiting == 0 {
                return; // `All` holds up every later operation
            }
        }
    }
}

/// The place of an operation in the line of its handle. It also keeps the handle open.
///
/// The operation is over when the ticket is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// None once the operation is over.
    handle: Option<Arc<Handle>>,
    /// The address of the line that was entered, which a forked child must not leave. 0 if the
    /// operation takes part in no order.
    line: usize,
    slot: u32,
    /// It had to wait when it entered.
    waits: bool,
}

impl Ticket {
    /// Enters the line.
    #[inline]
    pub(crate) fn new(handle: &Arc<Handle>, access: Access) -> Ticket {
        let line = handle.line.here();
        let (slot, waits) = line.lock().enter(access);
        Ticket {
            handle: Some(handle.clone()),
            line: address(line),
            slot,
            waits,
        }
    }

    /// For operations on pipes and devices, which have neither a position nor offsets. Their peers
    /// decide on the order.
    #[inline]
    pub(crate) fn without_order(handle: &Arc<Handle>) -> Ticket {
        Ticket {
            handle: Some(handle.clone()),
            line: 0,
            slot: 0,
            waits: false,
        }
    }

    /// Whether [`turn`](Ticket::turn) may have to wait.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits
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

    #[cold]
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.handle.as_ref().map(|it| it.line.here());
        let Some(line) = line.filter(|line| address(line) == self.line) else {
            return Poll::Ready(Err(fork::error("this operation on a file")));
        };
        line.poll_until(cx, |state| {
            let entry = &mut state.entries[self.slot as usize];
            match entry.phase {
                Phase::Waits => Wait::For(&mut entry.waker),
                _ => Wait::Over(entry.waker.take()),
            }
        })
    }

    /// Ends an operation of a ring, on the thread that owns the handle. The caller wakes the
    /// operations whose turn it is, after the handle was released.
    #[inline]
    pub(crate) fn finish_on_ring(&mut self, wakers: &mut Vec<Waker>) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let line = handle.line.here();
        if address(line) == self.line {
            let own = line.lock().leave(self.slot, wakers);
            drop(own);
        }
    }

    /// Ends the operation, on any thread. The caller calls the wakers.
    ///
    /// The handle is released before the operation leaves the line. Otherwise its owner, on another
    /// thread, could find an empty line and a handle that is still in use.
    pub(crate) fn finish(&mut self, wakers: &mut Vec<Waker>) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let line = handle.line.here().clone();
        drop(handle);
        if address(&line) == self.line {
            let own = line.lock().leave(self.slot, wakers);
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
        if let Some(handle) = &self.handle {
            let line = handle.line.here();
            if address(line) == self.line {
                buffer.clear();
                let mut state = line.lock();
                let old = mem::replace(&mut state.spare, buffer);
                if state.error.is_none() {
                    state.error = error;
                }
                drop(state);
                drop(old);
            }
        }
        self.finish(wakers);
    }
}

#[inline]
fn address(line: &Arc<Line>) -> usize {
    Arc::as_ptr(line).addr()
}

impl Deref for Ticket {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        self.handle.as_ref().expect("the operation is not over")
    }
}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.finish_and_wake();
        }
    }
}

impl Ticket {
    #[cold]
    fn finish_and_wake(&mut self) {
        let mut wakers = Vec::new();
        self.finish(&mut wakers);
        wake_all(wakers);
    }
}

/// Operations of a ring end only while something turns.
#[cold]
fn pending() -> Poll<io::Result<()>> {
    match Registration::<Files>::existing() {
        Some(files) if files.ring().is_some() => files.check_driven()?,
        _ => {}
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the operations may begin, in this order.
    fn running(state: &State) -> Vec<u64> {
        let running = state.entries.iter().filter(|it| it.phase == Phase::Runs);
        let mut numbers = running.map(|it| it.number).collect::<Vec<_>>();
        numbers.sort_unstable();
        numbers
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
        state.leave(1, &mut wakers);
        assert_eq!(running(&state), [0]);
        state.leave(0, &mut wakers);
        assert_eq!(running(&state), [2]);
        state.leave(3, &mut wakers); // its future was dropped
        state.leave(2, &mut wakers);
        assert_eq!(running(&state), [4]);
        state.leave(4, &mut wakers);
        assert_eq!(running(&state), [5]);
        state.leave(5, &mut wakers);
        assert_eq!((state.live, state.writers, state.waiting), (0, 0, 0));
        assert!(state.queue.is_empty());
    }
}
