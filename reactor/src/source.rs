//! What is registered with the poller, and who waits for it.

use std::cell::Cell;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, Waker};

use crate::reactor::{Hub, wake_all};
use crate::wait::{Event, Key, MAX_SOURCES};
use crate::waiters::Waiters;

/// How often a source may be tried in one turn of the reactor. A source that is always ready would
/// otherwise keep its task running for ever; this way it waits for the next turn, and the turn
/// costs little beside 32 operations.
const BUDGET: u8 = 32;

/// One descriptor's readiness: the number of a row in the reactor's table, owned by whoever has the
/// descriptor. It is only a number, and its hub is told with each call, so that it takes no more
/// room than that.
///
/// The poller tells of edges only: each time something arrives, once. So a direction counts as
/// ready from an event on, and at first, until an operation comes back with `WouldBlock`.
#[derive(Debug)]
pub(crate) struct Source(u32);

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Source {
    pub(crate) fn new(hub: &Hub) -> io::Result<Source> {
        hub.sources().borrow_mut().insert().map(Source)
    }

    /// ③ Tries `operation` first. `WouldBlock` leaves the task's waker here, for the next event
    /// to find.
    #[inline]
    pub(crate) fn poll_with<T>(
        &self,
        hub: &Hub,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match self.look(hub, |row| row.may_try(interest, hub)) {
                May::Try(events) => {
                    if let Some(result) = attempt(&mut operation) {
                        return Poll::Ready(result);
                    }
                    self.set_blocked(hub, interest, events);
                }
                May::Wait => {
                    self.wait(hub, cx, fd.as_fd(), interest)?;
                    // Cloning the waker is user code and may have turned the reactor: then an
                    // event may have come that found no waiter.
                    if !self.look(hub, |row| row.direction(interest).is_ready()) {
                        return Poll::Pending;
                    }
                }
                May::TryNextTurn => {
                    hub.defer(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    /// An operation that does not wait. None if it found nothing.
    #[inline]
    pub(crate) fn try_with<T>(
        &self,
        hub: &Hub,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let events = self.events(hub, interest);
        attempt(&mut operation).unwrap_or_else(|| {
            self.set_blocked(hub, interest, events);
            Err(io::ErrorKind::WouldBlock.into())
        })
    }

    /// Grows with each event.
    pub(crate) fn events(&self, hub: &Hub, interest: Interest) -> u32 {
        self.look(hub, |row| row.direction(interest).events())
    }

    /// An operation found nothing, after event number `events`.
    fn set_blocked(&self, hub: &Hub, interest: Interest, events: u32) {
        self.look(hub, |row| row.direction(interest).set_blocked(events));
    }

    /// Leaves the task's waker with the direction, which is not ready.
    fn wait(
        &self,
        hub: &Hub,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        hub.check_driven()?;
        if !self.look(hub, |row| row.waiters.has(interest, cx.waker())) {
            let waker = cx.waker().clone(); // user code: nothing is borrowed
            let turn = hub.turn_number();
            let surplus = self.look(hub, |row| row.waiters.add(interest, waker, turn));
            wake_all(surplus);
        }
        self.arm(hub, fd, interest)
    }

    /// Registers the descriptor, once. A source that never waits costs no system call.
    #[inline]
    pub(crate) fn arm(&self, hub: &Hub, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let (key, told) = self.look(hub, |row| (row.key(self.0), row.told.get()));
        match (told, interest) {
            (Told::Nothing, _) => return self.register(hub, fd, interest),
            (Told::Read, Interest::Write) => {
                hub.poll().add_write(fd, key)?;
                self.look(hub, |row| row.told.set(Told::Both));
            }
            _ => {}
        }
        hub.poll().rearm(fd, key, || {
            let waits = |interest| self.look(hub, |row| !row.waiters.is_empty(interest));
            (waits(Interest::Read), waits(Interest::Write))
        })
    }

    #[cold]
    fn register(&self, hub: &Hub, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let write = interest == Interest::Write;
        let key = self.look(hub, |row| row.key(self.0));
        hub.poll().add(fd, key, write)?;
        let told = if write { Told::Both } else { Told::Read };
        self.look(hub, |row| row.told.set(told));
        Ok(())
    }

    /// Takes the descriptor out of the poller, before it's closed, and gives the row up. To be
    /// called once.
    pub(crate) fn close(&self, hub: &Hub, fd: BorrowedFd<'_>) {
        let row = hub.sources().borrow_mut().remove(self.0);
        if row.told.get() != Told::Nothing {
            // It fails only if the descriptor was closed behind our back; then it's out as well.
            let _ = hub.poll().delete(fd);
        }
        drop(row); // with its wakers, under no borrow
    }

    /// A read has filled less than its buffer. Then the next one would block: it need not be
    /// tried, since data that comes later brings an event of its own. Not so once the peer has
    /// hung up: that may have come in the same event as the data, and no other will follow.
    #[inline]
    pub(crate) fn read_short(&self, hub: &Hub) {
        self.look(hub, |row| {
            if row.told.get() != Told::Nothing && !row.hung_up.get() {
                row.read.set_blocked(row.read.events());
            }
        });
    }

    /// Looks at the row. The look must not be user code, and mustn't make or close sources.
    #[inline]
    fn look<R>(&self, hub: &Hub, look: impl FnOnce(&Row) -> R) -> R {
        look(&hub.sources().borrow().rows[self.0 as usize])
    }
}

/// One try. None if it found nothing.
#[inline]
fn attempt<T>(operation: &mut impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            result => return Some(result),
        }
    }
}

/// All sources of a reactor: 56 bytes each, at their peak. (An allocation for each, and a table of
/// pointers to them, takes twice as much.)
pub(crate) struct Sources {
    rows: Vec<Row>,
    free: Vec<u32>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources {
            rows: Vec::new(),
            free: Vec::new(),
        }
    }

    /// An event: the directions are ready, and whoever waits for them is to be woken. Nobody is
    /// found if the source was closed while its event was on its way, even if its row or its
    /// descriptor is in use again.
    #[inline]
    pub(crate) fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        if let Some(row) = self.rows.get(event.key.slot as usize) {
            if event.key.names(event.key.slot, row.generation) {
                row.tell(event, woken);
            }
        }
    }

    fn insert(&mut self) -> io::Result<u32> {
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        let len = self.rows.len();
        if len == MAX_SOURCES {
            return Err(io::Error::other("too many sources on one reactor"));
        }
        if len == self.rows.capacity() {
            // A sixteenth at a time: doubling would leave half of a large table unused.
            self.rows.reserve_exact((len / 16).max(32));
        }
        self.rows.push(Row::new(0));
        Ok(len as u32)
    }

    /// The caller drops what comes back: under the borrow it must not be dropped.
    fn remove(&mut self, number: u32) -> Row {
        self.free.push(number);
        let row = &mut self.rows[number as usize];
        let next = Row::new(row.generation.wrapping_add(1));
        mem::replace(row, next)
    }
}

/// What there is of a source.
struct Row {
    /// How many sources had the row before.
    generation: u32,
    read: Direction,
    write: Direction,
    /// How often it was tried in turn number `turn`.
    turn: Cell<u32>,
    tried: Cell<u8>,
    told: Cell<Told>,
    hung_up: Cell<bool>,
    waiters: Waiters,
}

/// What the poller tells of: nothing until something has to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Read,
    Both,
}

/// What an operation may do now.
enum May {
    /// With the number of the last event.
    Try(u32),
    Wait,
    /// The budget is used up.
    TryNextTurn,
}

impl Row {
    fn new(generation: u32) -> Row {
        Row {
            generation,
            read: Direction::new(),
            write: Direction::new(),
            turn: Cell::new(0),
            tried: Cell::new(0),
            told: Cell::new(Told::Nothing),
            hung_up: Cell::new(false),
            waiters: Waiters::new(),
        }
    }

    fn key(&self, number: u32) -> Key {
        Key {
            slot: number,
            generation: self.generation,
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
    fn may_try(&self, interest: Interest, hub: &Hub) -> May {
        let direction = self.direction(interest);
        if !direction.is_ready() {
            return May::Wait;
        }
        let turn = hub.turn_number();
        if self.turn.replace(turn) != turn {
            self.tried.set(0);
        }
        if self.tried.get() >= BUDGET && hub.is_driven() {
            return May::TryNextTurn;
        }
        self.tried.set(self.tried.get().saturating_add(1));
        May::Try(direction.events())
    }

    #[inline]
    fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.hung_up {
            self.hung_up.set(true);
        }
        for (happened, interest) in [
            (event.readable, Interest::Read),
            (event.writable, Interest::Write),
        ] {
            if happened {
                self.direction(interest).set_ready();
            }
            if happened || event.disarmed {
                self.waiters.take(interest, woken);
            }
        }
    }
}

/// One direction of a source: how many events there have been, times two, plus one if it's ready.
///
/// The number is what a result is set against: an event that comes in the middle of an operation
/// (from a turn nested in it) must not be wiped out by it.
struct Direction(Cell<u32>);

impl Direction {
    fn new() -> Self {
        Direction(Cell::new(1))
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.0.get() & 1 != 0
    }

    #[inline]
    fn events(&self) -> u32 {
        self.0.get() >> 1
    }

    #[inline]
    fn set_ready(&self) {
        self.0.set((self.0.get() | 1).wrapping_add(2));
    }

    /// An operation found nothing, after event number `events`.
    #[inline]
    fn set_blocked(&self, events: u32) {
        if events == self.events() {
            self.0.set(events << 1);
        }
    }
}
