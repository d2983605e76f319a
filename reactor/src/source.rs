//! What is registered with the poller, and who waits for it.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::io;
#[cfg(windows)]
use std::os::windows::io::BorrowedHandle;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustix::fd::{AsFd, BorrowedFd};

use crate::reactor::{self, Hub};
use crate::wait::{self, Event, Key, MAX_SOURCES};
use crate::waiters::Waiters;

/// How many operations on one source may succeed in one turn of the reactor. A source that is
/// always ready would otherwise keep its task running for ever; this way it waits for the next
/// turn, and the turn costs little beside 32 operations.
const BUDGET: u8 = 32;

/// One descriptor's readiness, which whoever has the descriptor owns. What there is of it is a row
/// of the reactor's table, so it takes no allocation of its own.
///
/// The poller tells of edges only: each time something arrives, once. So a direction counts as
/// ready from an event on, and at first, until an operation comes back with `WouldBlock`.
pub(crate) struct Source {
    hub: Rc<Hub>,
    chunk: Rc<Chunk>,
    slot: u32,
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Source {
    pub(crate) fn new() -> io::Result<Source> {
        let hub = reactor::hub()?;
        let (chunk, slot) = hub.sources().borrow_mut().occupy()?;
        Ok(Source { hub, chunk, slot })
    }

    #[inline]
    fn row(&self) -> &Row {
        &self.chunk[self.slot as usize % ROWS]
    }

    fn key(&self) -> Key {
        Key {
            slot: self.slot,
            generation: self.row().generation.get(),
        }
    }

    #[inline]
    pub(crate) fn direction(&self, interest: Interest) -> &Direction {
        self.row().direction(interest)
    }

    /// ③ Tries `operation` first. `WouldBlock` leaves the task's waker here, for the next event
    /// to find.
    #[inline]
    pub(crate) fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let row = self.row();
        let direction = row.direction(interest);
        loop {
            while direction.may_be_ready() {
                ready!(self.poll_budget(row, cx));
                if let Some(result) = direction.attempt(&mut operation) {
                    row.succeeded.set(row.succeeded.get().saturating_add(1));
                    return Poll::Ready(result);
                }
            }
            self.wait(row, cx, fd.as_fd(), interest)?;
            // Cloning the waker is user code and may have turned the reactor: then an event may
            // have come that found no waiter.
            if !direction.may_be_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the task's waker with the direction, which is not ready.
    #[inline]
    fn wait(
        &self,
        row: &Row,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        self.hub.check_driven()?;
        row.waiters
            .add(interest, cx.waker(), self.hub.turn_number());
        self.arm_row(row, fd, interest)
    }

    /// Registers the descriptor, once. A source that never waits costs no system call.
    pub(crate) fn arm(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.arm_row(self.row(), fd, interest)
    }

    #[inline]
    fn arm_row(&self, row: &Row, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        match (row.told.get(), interest) {
            // Then it's armed as well, also if nobody waits yet.
            (Told::Nothing, _) => return self.register(fd, interest),
            (Told::Read, Interest::Write) => self.register(fd, interest)?,
            _ => {}
        }
        self.hub.poll().rearm(fd, || {
            let waits = |interest| !row.waiters.is_empty(interest);
            (self.key(), waits(Interest::Read), waits(Interest::Write))
        })
    }

    #[cold]
    fn register(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.hub.check_origin()?;
        let told = &self.row().told;
        let write = interest == Interest::Write;
        match told.get() {
            Told::Nothing if self.row().exclusive.get() => {
                self.hub.poll().add_exclusive(fd, self.key())?;
            }
            Told::Nothing => self.hub.poll().add(fd, self.key(), write)?,
            _ => self.hub.poll().add_write(fd, self.key())?,
        }
        told.set(if write { Told::Both } else { Told::Read });
        Ok(())
    }

    /// From now on events are shared with other pollers that watch the same socket. Only before
    /// something waits, and only for reading.
    pub(crate) fn set_exclusive(&self) {
        self.row().exclusive.set(true);
    }

    /// Goes to the end of the line of the pollers that share the events. What is ready by then is
    /// an event.
    pub(crate) fn line_up(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let row = self.row();
        if wait::HAS_EXCLUSIVE && row.exclusive.get() && row.told.get() != Told::Nothing {
            self.hub.check_origin()?;
            self.hub.poll().delete(fd)?;
            row.told.set(Told::Nothing); // if it fails, the next one that waits tries again
            self.register(fd, Interest::Read)?;
        }
        Ok(())
    }

    /// Takes the descriptor out of the poller, before it's closed, and gives the row up. To be
    /// called once.
    pub(crate) fn close(&self, fd: BorrowedFd<'_>) {
        self.vacate(|poll| poll.delete(fd));
    }

    fn vacate(&self, delete: impl FnOnce(&wait::Poll) -> io::Result<()>) {
        let row = self.row();
        // The poller of a forked child is the parent's, and knows the parent's descriptor.
        if row.told.get() != Told::Nothing && !self.hub.is_inherited() {
            // It fails only if the descriptor was closed behind our back; then it's out as well.
            let _ = delete(self.hub.poll());
        }
        let waiters = row.vacate();
        self.hub.sources().borrow_mut().free.push(self.slot);
        drop(waiters); // user code, under no borrow
    }

    /// Leaves the task's waker for the one event of a process, which is that it has ended.
    #[cfg(windows)]
    pub(crate) fn wait_for_process(
        &self,
        cx: &mut Context<'_>,
        process: BorrowedHandle<'_>,
    ) -> io::Result<()> {
        self.hub.check_driven()?;
        let row = self.row();
        row.waiters
            .add(Interest::Read, cx.waker(), self.hub.turn_number());
        if row.told.get() == Told::Nothing {
            self.hub.poll().add_process(process, self.key())?;
            row.told.set(Told::Both);
        }
        Ok(())
    }

    /// As `close`, of a process.
    #[cfg(windows)]
    pub(crate) fn close_process(&self, process: BorrowedHandle<'_>) {
        self.vacate(|poll| poll.delete_process(process));
    }

    /// As an event, for what the poller doesn't tell of.
    #[cfg(windows)]
    pub(crate) fn wake_readers(&self) {
        let mut woken = Vec::new();
        let row = self.row();
        row.read.set_ready();
        row.waiters.take(Interest::Read, &mut woken);
        reactor::wake_all(woken);
    }

    /// A read has filled less than its buffer. Then the next one would block: it need not be
    /// tried, since data that comes later brings an event of its own. Not so once the peer has
    /// hung up: that may have come in the same event as the data, and no other will follow.
    #[inline]
    pub(crate) fn read_short(&self) {
        let row = self.row();
        if row.told.get() != Told::Nothing && !row.hung_up.get() {
            row.read.set_blocked(row.read.events());
        }
    }

    /// The last operation was worth so many more.
    #[cfg(target_os = "linux")]
    pub(crate) fn spend(&self, operations: usize) {
        let succeeded = &self.row().succeeded;
        let operations = u8::try_from(operations).unwrap_or(BUDGET);
        succeeded.set(succeeded.get().saturating_add(operations));
    }

    #[inline]
    fn poll_budget(&self, row: &Row, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.hub.turn_number();
        if row.turn.replace(turn) != turn {
            row.succeeded.set(0);
        }
        if row.succeeded.get() < BUDGET {
            return Poll::Ready(());
        }
        self.poll_next_turn(cx)
    }

    /// The budget is used up.
    #[cold]
    fn poll_next_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.hub.is_driven() {
            return Poll::Ready(());
        }
        self.hub.defer(cx.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("may_read", &self.row().read.may_be_ready())
            .field("may_write", &self.row().write.may_be_ready())
            .finish_non_exhaustive()
    }
}

/// One direction of a source: how many events there have been, times two, plus one if it may be
/// ready.
///
/// The number is what a result is set against: an event that comes in the middle of an operation
/// (from a turn nested in it) is not wiped out by it.
pub(crate) struct Direction(Cell<u32>);

impl Direction {
    fn new() -> Self {
        Direction(Cell::new(1))
    }

    #[inline]
    pub(crate) fn may_be_ready(&self) -> bool {
        self.0.get() & 1 != 0
    }

    /// Grows with each event.
    #[inline]
    pub(crate) fn events(&self) -> u32 {
        self.0.get() >> 1
    }

    /// An operation found nothing, after event number `events`.
    #[inline]
    fn set_blocked(&self, events: u32) {
        if events == self.events() {
            self.0.set(events << 1);
        }
    }

    /// One try. None if it found nothing; then the direction counts as blocked, unless an event
    /// has come meanwhile.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        operation: &mut impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let events = self.events();
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_blocked(events);
                    return None;
                }
                result => return Some(result),
            }
        }
    }

    #[inline]
    fn set_ready(&self) {
        self.0.set((self.0.get() | 1).wrapping_add(2));
    }
}

/// All sources of a reactor, 56 bytes each, in chunks, since a source keeps its place.
pub(crate) struct Sources {
    chunks: Vec<Rc<Chunk>>,
    /// Slots that are free, the latest last.
    free: Vec<u32>,
}

/// How many rows a chunk has.
const ROWS: usize = 32;
type Chunk = [Row; ROWS];

/// What there is of a source.
struct Row {
    /// How many sources were here before: an event finds the source that it is about, or nobody.
    generation: Cell<u32>,
    read: Direction,
    write: Direction,
    /// Operations that succeeded in turn number `turn`.
    turn: Cell<u32>,
    succeeded: Cell<u8>,
    told: Cell<Told>,
    hung_up: Cell<bool>,
    /// Other pollers watch the same socket, and each event is for one of them.
    exclusive: Cell<bool>,
    waiters: Waiters,
}

/// What the poller tells of: nothing until something has to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Read,
    Both,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// An event: the directions are ready, and whoever waits for them is to be woken. It finds
    /// nobody if the source was closed while it was on its way, even if its row or its descriptor
    /// is in use again.
    #[inline]
    pub(crate) fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        let slot = event.key.slot;
        if let Some(chunk) = self.chunks.get(slot as usize / ROWS) {
            let row = &chunk[slot as usize % ROWS];
            if event.key.names(slot, row.generation.get()) {
                row.tell(event, woken);
            }
        }
    }

    fn occupy(&mut self) -> io::Result<(Rc<Chunk>, u32)> {
        if self.free.is_empty() {
            let slots = self.chunks.len() * ROWS..(self.chunks.len() + 1) * ROWS;
            if slots.end > MAX_SOURCES {
                return Err(io::Error::other("too many sources on one reactor"));
            }
            self.chunks.push(Rc::new(array::from_fn(|_| Row::new())));
            self.free.extend(slots.rev().map(|slot| slot as u32));
        }
        let slot = self.free.pop().expect("there is a free one now");
        Ok((self.chunks[slot as usize / ROWS].clone(), slot))
    }
}

impl Row {
    fn new() -> Row {
        Row {
            generation: Cell::new(0),
            read: Direction::new(),
            write: Direction::new(),
            turn: Cell::new(0),
            succeeded: Cell::new(0),
            told: Cell::new(Told::Nothing),
            hung_up: Cell::new(false),
            exclusive: Cell::new(false),
            waiters: Waiters::new(),
        }
    }

    #[inline]
    fn direction(&self, interest: Interest) -> &Direction {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
        }
    }

    #[inline]
    fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.hung_up {
            self.hung_up.set(true);
        }
        if event.readable {
            self.read.set_ready();
        }
        if event.writable {
            self.write.set_ready();
        }
        if event.readable || event.disarmed {
            self.waiters.take(Interest::Read, woken);
        }
        if event.writable || event.disarmed {
            self.waiters.take(Interest::Write, woken);
        }
    }

    /// Makes it a new one. The caller drops what comes back.
    fn vacate(&self) -> Waiters {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.read.0.set(1);
        self.write.0.set(1);
        self.succeeded.set(0);
        self.told.set(Told::Nothing);
        self.hung_up.set(false);
        self.exclusive.set(false);
        self.waiters.take_all()
    }
}
