//! What is registered with the poller, and who waits for it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::reactor::{self, Hub};
use crate::wait::{Event, Key, MAX_SOURCES};
use crate::waiters::Waiters;

/// How many operations on one source may succeed in one turn of the reactor. A source that is
/// always ready would otherwise keep its task running for ever; this way it waits for the next
/// turn, and the turn costs little beside 32 operations.
const BUDGET: u32 = 32;

/// One descriptor's readiness.
///
/// The poller tells of edges only: each time something arrives, once. So a direction counts as
/// ready from an event on, and at first, until an operation comes back with `WouldBlock`.
pub(crate) struct Source {
    hub: Rc<Hub>,
    /// Its name in the poller; None until something has to wait for it.
    key: Cell<Option<Key>>,
    read: Direction,
    write: Direction,
    hung_up: Cell<bool>,
    /// The poller tells of room to write as well.
    tells_room: Cell<bool>,
    /// Other pollers watch the same socket, and each event is for one of them.
    exclusive: Cell<bool>,
    /// Operations that succeeded in turn number `turn`.
    succeeded: Cell<u32>,
    turn: Cell<u32>,
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Source {
    pub(crate) fn new() -> io::Result<Rc<Source>> {
        Ok(Rc::new(Source {
            hub: reactor::hub()?,
            key: Cell::new(None),
            read: Direction::new(),
            write: Direction::new(),
            hung_up: Cell::new(false),
            tells_room: Cell::new(false),
            exclusive: Cell::new(false),
            succeeded: Cell::new(0),
            turn: Cell::new(0),
        }))
    }

    #[inline]
    pub(crate) fn direction(&self, interest: Interest) -> &Direction {
        match interest {
            Interest::Read => &self.read,
            Interest::Write => &self.write,
        }
    }

    /// ③ Tries `operation` first. `WouldBlock` leaves the task's waker here, for the next event
    /// to find.
    #[inline]
    pub(crate) fn poll_with<T>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let direction = self.direction(interest);
        loop {
            while direction.may_be_ready() {
                ready!(self.poll_budget(cx));
                if let Some(result) = direction.attempt(&mut operation) {
                    self.succeeded.set(self.succeeded.get() + 1);
                    return Poll::Ready(result);
                }
            }
            self.wait(cx, fd.as_fd(), interest)?;
            // Cloning the waker is user code and may have turned the reactor: then an event may
            // have come that found no waiter.
            if !direction.may_be_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the task's waker with the direction, which is not ready.
    fn wait(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        self.hub.check_driven()?;
        let waiters = &self.direction(interest).waiters;
        waiters.add(cx.waker(), self.hub.turn_number());
        self.arm(fd, interest)
    }

    /// Registers the descriptor, once. A source that never waits costs no system call.
    #[inline]
    pub(crate) fn arm(self: &Rc<Self>, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let Some(key) = self.key.get() else {
            return self.register(fd, interest);
        };
        if interest == Interest::Write && !self.tells_room.get() {
            self.hub.poll().add_write(fd, key)?;
            self.tells_room.set(true);
        }
        self.hub.poll().rearm(fd, key, || {
            (
                !self.read.waiters.is_empty(),
                !self.write.waiters.is_empty(),
            )
        })
    }

    #[cold]
    fn register(self: &Rc<Self>, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let key = self.hub.sources().borrow_mut().insert(self.clone())?;
        let write = interest == Interest::Write;
        let added = if self.exclusive.get() {
            self.hub.poll().add_exclusive(fd, key)
        } else {
            self.hub.poll().add(fd, key, write)
        };
        if let Err(error) = added {
            let this = self.hub.sources().borrow_mut().remove(key);
            drop(this);
            return Err(error);
        }
        self.key.set(Some(key));
        self.tells_room.set(write);
        Ok(())
    }

    /// From now on events are shared with other pollers that watch the same socket. Only before
    /// something waits, and only for reading.
    pub(crate) fn set_exclusive(&self) {
        self.exclusive.set(true);
    }

    /// Goes to the end of the line of the pollers that share the events. What is ready by then is
    /// an event.
    pub(crate) fn line_up(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if let (true, Some(key)) = (self.exclusive.get(), self.key.get()) {
            self.hub.poll().delete(fd)?;
            self.hub.poll().add_exclusive(fd, key)?;
        }
        Ok(())
    }

    /// Takes the descriptor out of the poller; before it's closed.
    pub(crate) fn disarm(&self, fd: BorrowedFd<'_>) {
        if let Some(key) = self.key.take() {
            let this = self.hub.sources().borrow_mut().remove(key);
            // It fails only if the descriptor was closed behind our back; then it's out as well.
            let _ = self.hub.poll().delete(fd);
            drop(this);
        }
    }

    /// An event: the directions are ready, and whoever waits for them is to be woken.
    #[inline]
    pub(crate) fn tell(&self, event: Event, woken: &mut Vec<Waker>) {
        if event.hung_up {
            self.hung_up.set(true);
        }
        if event.readable {
            self.read.set_ready(woken);
        }
        if event.writable {
            self.write.set_ready(woken);
        }
        if event.disarmed {
            self.read.waiters.take(woken);
            self.write.waiters.take(woken);
        }
    }

    /// A read has filled less than its buffer. Then the next one would block: it need not be
    /// tried, since data that comes later brings an event of its own. Not so once the peer has
    /// hung up: that may have come in the same event as the data, and no other will follow.
    #[inline]
    pub(crate) fn read_short(&self) {
        if self.key.get().is_some() && !self.hung_up.get() {
            self.read.set_blocked(self.read.events.get());
        }
    }

    #[inline]
    fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.hub.turn_number();
        if self.turn.replace(turn) != turn {
            self.succeeded.set(0);
        }
        if self.succeeded.get() < BUDGET {
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
            .field("may_read", &self.read.may_be_ready())
            .field("may_write", &self.write.may_be_ready())
            .finish_non_exhaustive()
    }
}

/// One direction of a source.
pub(crate) struct Direction {
    /// How many events there have been, and at which of them an operation last found nothing.
    /// They differ: it may be ready. They are two numbers, not a flag, so that an event that comes
    /// in the middle of an operation (from a turn nested in it) is not wiped out by its result.
    events: Cell<u32>,
    blocked: Cell<u32>,
    waiters: Waiters,
}

impl Direction {
    fn new() -> Self {
        Direction {
            events: Cell::new(1),
            blocked: Cell::new(0),
            waiters: Waiters::new(),
        }
    }

    #[inline]
    pub(crate) fn may_be_ready(&self) -> bool {
        self.events.get() != self.blocked.get()
    }

    /// Grows with each event.
    pub(crate) fn events(&self) -> u32 {
        self.events.get()
    }

    /// An operation found nothing, after event number `events`.
    pub(crate) fn set_blocked(&self, events: u32) {
        self.blocked.set(events);
    }

    /// One try. None if it found nothing; then the direction counts as blocked, unless an event
    /// has come meanwhile.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        operation: &mut impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let events = self.events.get();
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

    fn set_ready(&self, woken: &mut Vec<Waker>) {
        self.events.set(self.events.get().wrapping_add(1));
        self.waiters.take(woken);
    }
}

/// All registered sources of a reactor, by key.
pub(crate) struct Sources {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    source: Option<Rc<Source>>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Rc<Source>> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.source
            .as_ref()
            .filter(|_| key.names(key.slot, slot.generation))
    }

    fn insert(&mut self, source: Rc<Source>) -> io::Result<Key> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < MAX_SOURCES => {
                self.slots.push(Slot {
                    generation: 0,
                    source: None,
                });
                (self.slots.len() - 1) as u32
            }
            None => return Err(io::Error::other("too many sources on one reactor")),
        };
        let Slot {
            generation,
            source: place,
        } = &mut self.slots[slot as usize];
        *place = Some(source);
        Ok(Key {
            slot,
            generation: *generation,
        })
    }

    /// The caller drops what comes back: under the borrow it must not be dropped.
    fn remove(&mut self, key: Key) -> Option<Rc<Source>> {
        let slot = &mut self.slots[key.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        slot.source.take()
    }
}
