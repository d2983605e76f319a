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

use crate::poller::{self, Event, Key, MAX_SOURCES};
use crate::reactor::{self, Hub};
use crate::ticket::Ticket;
use crate::waiters::Waiters;

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

/// What else a descriptor may have to report, and hardly any is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// `POLLPRI`.
    Priority,
    /// `POLLERR`.
    Error,
}

impl News {
    fn flag(self) -> u8 {
        match self {
            News::Priority => PRIORITY,
            News::Error => ERROR,
        }
    }
}

impl Source {
    pub(crate) fn new() -> io::Result<Source> {
        let hub = reactor::hub()?;
        let (chunk, slot) = hub.sources().borrow_mut().occupy()?;
        Ok(Source { hub, chunk, slot })
    }

    #[inline]
    pub(crate) fn row(&self) -> &Row {
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
        mut ticket: Option<&mut Ticket>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let row = self.row();
        let direction = row.direction(interest);
        loop {
            while direction.may_be_ready() {
                ready!(self.hub.poll_charge(cx));
                if let Some(result) = direction.attempt(&mut operation) {
                    return Poll::Ready(result);
                }
                self.hub.refund();
            }
            self.wait(row, cx, fd.as_fd(), interest, ticket.as_deref_mut())?;
            // Cloning the waker is user code and may have turned the reactor: then an event may
            // have come that found no waiter.
            if !direction.may_be_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the task's waker with the direction, which is not ready.
    #[inline(always)] // with and without a ticket: a call costs as much as all that it does
    fn wait(
        &self,
        row: &Row,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
        ticket: Option<&mut Ticket>,
    ) -> io::Result<()> {
        self.hub.check_driven()?;
        let turn = self.hub.turn_number();
        match ticket {
            None => row.waiters.add(interest, cx.waker(), turn),
            Some(ticket) => ticket.register(row, interest, cx.waker(), turn),
        }
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
            let reads = waits(Interest::Read) || row.waiters.has_news_waiters();
            (self.key(), reads, waits(Interest::Write))
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

    /// Whether events are shared with other pollers: each of them wakes one poller only.
    pub(crate) fn is_shared(&self) -> bool {
        poller::HAS_EXCLUSIVE && self.row().exclusive.get()
    }

    /// Deregisters a source whose events are shared, since nothing waits for it any more: from now
    /// on its events wake other pollers. The next wait tries first, and registers again.
    pub(crate) fn withdraw(&self, fd: BorrowedFd<'_>) {
        let row = self.row();
        // The poller of a forked child is the parent's, and knows the parent's descriptor.
        if self.is_shared() && row.told.get() != Told::Nothing && !self.hub.is_inherited() {
            row.told.set(Told::Nothing);
            // It fails only if the descriptor was closed behind our back; then it's out as well.
            let _ = self.hub.poll().delete(fd);
            row.read.set_unknown();
        }
    }

    /// Whether events may have been taken from the poller's descriptor, or woken this loop, and
    /// not been dispatched yet.
    pub(crate) fn may_have_missed_event(&self) -> bool {
        self.hub.poll().is_full()
    }

    /// Goes to the end of the line of the pollers that share the events. What is ready by then is
    /// an event.
    pub(crate) fn line_up(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let row = self.row();
        if self.is_shared() && row.told.get() != Told::Nothing {
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

    fn vacate(&self, delete: impl FnOnce(&poller::Poll) -> io::Result<()>) {
        let row = self.row();
        // The poller of a forked child is the parent's, and knows the parent's descriptor.
        if row.told.get() != Told::Nothing && !self.hub.is_inherited() {
            // It fails only if the descriptor was closed behind our back; then it's out as well.
            let _ = delete(self.hub.poll());
        }
        let waiters = row.vacate();
        self.hub.sources().borrow_mut().free.push(self.slot);
        waiters.discard(); // user code, under no borrow
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

    /// The waiters of both directions, to be woken by the caller.
    pub(crate) fn take_waiters(&self) -> Vec<Waker> {
        let mut waiters = Vec::new();
        for interest in [Interest::Read, Interest::Write] {
            self.row().waiters.take(interest, &mut waiters);
        }
        waiters
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
    /// tried, since data that comes later brings an event of its own.
    ///
    /// Not so once the peer has hung up, or has sent urgent data: that may have come in the same
    /// event as data that is still there, and no other event will follow. Nor if code outside of
    /// this crate may have had the descriptor: urgent data that it has taken by `MSG_OOB` leaves a
    /// mark at which reads stop, but no event shows it any more; and options that it has set may
    /// give the stream other boundaries.
    #[inline]
    pub(crate) fn read_short(&self) {
        let row = self.row();
        if row.told.get() != Told::Nothing && row.flags.get() & NO_SHORT_READS == 0 {
            row.read.set_blocked(row.read.events());
        }
    }

    /// Records that code outside of this crate may have the descriptor. A short read proves nothing
    /// then, see [`Source::read_short`], and a linger time may be set.
    #[inline]
    pub(crate) fn distrust(&self) {
        let flags = self.row().flags.get();
        self.row().flags.set(flags & !NO_LINGER | NO_SHORT_READS);
    }

    /// Records that no linger time is set. Holds until other code may have the descriptor.
    #[inline]
    pub(crate) fn set_no_linger(&self) {
        self.row().set_flags(NO_LINGER);
    }

    /// Records that a linger time may be set.
    pub(crate) fn clear_no_linger(&self) {
        self.row().flags.set(self.row().flags.get() & !NO_LINGER);
    }

    /// Whether the descriptor may be a socket that lingers.
    #[inline]
    pub(crate) fn may_linger(&self) -> bool {
        self.row().flags.get() & NO_LINGER == 0
    }
}

// Priority, errors, and files that are always ready.
#[cfg_attr(windows, allow(dead_code))] // there one can't wait for these
impl Source {
    /// Charges one operation to the budget of the task.
    pub(crate) fn poll_charge(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.poll_charge(cx)
    }

    /// Takes back the last charge, because the operation waits.
    pub(crate) fn refund(&self) {
        self.hub.refund();
    }

    /// Leaves the task's waker for `news`.
    pub(crate) fn wait_for_news(
        &self,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        news: News,
    ) -> io::Result<()> {
        self.hub.check_driven()?;
        let row = self.row();
        row.waiters
            .add_news(news, cx.waker(), self.hub.turn_number());
        self.arm_row(row, fd, Interest::Read)
    }

    /// How many events brought `news`, since something first waited for it.
    pub(crate) fn news_events(&self, news: News) -> u32 {
        self.row().waiters.news_events(news)
    }

    /// Whether `news` has come since this was last called.
    pub(crate) fn take_news(&self, news: News) -> bool {
        let flags = self.row().flags.get();
        self.row().flags.set(flags & !news.flag());
        flags & news.flag() != 0
    }

    pub(crate) fn has_news(&self, news: News) -> bool {
        self.row().flags.get() & news.flag() != 0
    }

    /// As an event, for news that a look at the descriptor has found. Some files report news to
    /// the first look only.
    #[cold]
    pub(crate) fn note_news(&self, priority: bool, error: bool) {
        let mut woken = Vec::new();
        self.row().note_news(priority, error, &mut woken);
        reactor::wake_all(woken);
    }

    /// Whether this is a file of the system (`/proc`, `/sys`), which is always ready to be read and
    /// has events only for news. Asks the system once; so only for what is ready at this moment.
    pub(crate) fn is_always_ready(&self, fd: BorrowedFd<'_>) -> bool {
        let row = self.row();
        if row.flags.get() & (ALWAYS_READY | NOT_ALWAYS_READY) == 0 {
            row.set_flags(match is_system_file(fd) {
                true => ALWAYS_READY,
                false => NOT_ALWAYS_READY,
            });
        }
        row.flags.get() & ALWAYS_READY != 0
    }

    /// That an always ready file can be read was reported, after event number `events`: the next
    /// report is for the next event.
    pub(crate) fn set_reported(&self, events: u32) {
        let row = self.row();
        row.read.set_blocked(events);
        if events == 0 {
            row.set_flags(REPORTED);
        }
    }

    /// The first event of an always ready file may come from its registration, and report what was
    /// reported before. True if that was so: it doesn't count then.
    pub(crate) fn skip_registration_event(&self) -> bool {
        let row = self.row();
        let skips = row.flags.get() & REPORTED != 0 && row.read.events() == 1;
        if skips {
            row.flags.set(row.flags.get() & !REPORTED);
            row.read.set_blocked(1);
        }
        skips
    }
}

/// What the poller can watch is no regular file, unless the file system makes its content when it's
/// read. Of these, what can't seek is a stream that may be empty, as `trace_pipe`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_system_file(fd: BorrowedFd<'_>) -> bool {
    use rustix::fs::{FileType, fstat, tell};
    let is_regular = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_file();
    fstat(fd).is_ok_and(is_regular) && tell(fd).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_system_file(_: BorrowedFd<'_>) -> bool {
    false
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

    /// Whether it's ready is to be tried.
    fn set_unknown(&self) {
        self.0.set(self.0.get() | 1);
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
pub(crate) struct Row {
    /// How many sources were here before: an event finds the source that it is about, or nobody.
    generation: Cell<u32>,
    read: Direction,
    write: Direction,
    told: Cell<Told>,
    flags: Cell<u8>,
    /// Other pollers watch the same socket, and each event is for one of them.
    exclusive: Cell<bool>,
    /// How many events took the waiters of both directions.
    pub(crate) disarms: Cell<u32>,
    pub(crate) waiters: Waiters,
}

/// A short read doesn't prove that nothing is left: see [`Source::read_short`].
const NO_SHORT_READS: u8 = 1;
/// This news has come, and no task has taken it.
const PRIORITY: u8 = 2;
const ERROR: u8 = 4;
/// The kind of file, once the system was asked: see [`Source::is_always_ready`].
const ALWAYS_READY: u8 = 8;
const NOT_ALWAYS_READY: u8 = 16;
/// An always ready file was reported before its first event.
const REPORTED: u8 = 32;
/// This crate has made the socket, and no other code can have set a linger time for it.
const NO_LINGER: u8 = 64;

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
            told: Cell::new(Told::Nothing),
            flags: Cell::new(0),
            exclusive: Cell::new(false),
            disarms: Cell::new(0),
            waiters: Waiters::new(),
        }
    }

    #[inline]
    pub(crate) fn direction(&self, interest: Interest) -> &Direction {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
        }
    }

    #[inline]
    fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.hung_up {
            self.set_flags(NO_SHORT_READS);
            if event.priority || event.error {
                self.note_news(event.priority, event.error, woken);
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

    fn set_flags(&self, flags: u8) {
        self.flags.set(self.flags.get() | flags);
    }

    #[cold]
    fn note_news(&self, priority: bool, error: bool, woken: &mut Vec<Waker>) {
        for (news, has_come) in [(News::Priority, priority), (News::Error, error)] {
            if has_come {
                self.set_flags(news.flag());
                self.flags.set(self.flags.get() & !REPORTED);
                self.waiters.take_news(news, woken);
            }
        }
    }

    /// Makes it a new one. The caller drops what comes back.
    fn vacate(&self) -> Waiters {
        self.generation.set(self.generation.get().wrapping_add(1));
        self.read.0.set(1);
        self.write.0.set(1);
        self.told.set(Told::Nothing);
        self.flags.set(0);
        self.exclusive.set(false);
        self.waiters.take_all()
    }
}
