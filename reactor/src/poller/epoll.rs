//! The poller of Linux, which calls epoll through `rustix`.
//!
//! The crate `polling` is bypassed, because here each of its parts costs more. Counted by strace
//! with `polling` 3.11 on Linux 6.18:
//!
//! | system calls | here | `polling` | because `polling` |
//! |---|---:|---:|---|
//! | one wait | 1 | 5 | sets a timerfd, reads an eventfd and re-arms both |
//! | notification, with the wait it ends | 2 | 6 | resets a notification in its own wait only |
//! | echo of one message | 3 | 8 | and has no `EPOLLRDHUP`: one more `recv` per message |
//! | creation | 5 | 8 | |
//!
//! Its descriptors and its notification cannot be used alone. A `polling::Poller` owns an eventfd
//! and a timerfd, both one-shot and re-armed by its own wait only, so this poller would need a
//! second pair of them. A reactor has 3 descriptors here and would have 5 with it.
//!
//! What this file does instead:
//!
//! * Sources are registered edge-triggered and with `EPOLLRDHUP`, which distinguishes a peer's half
//!   close from its data (see [`Event::hung_up`]). Interest in writing is added by a second call
//!   when a task first waits to write. A datagram socket or a Unix socket has a write event for
//!   each message that leaves its buffer, and mostly no task waits for it.
//! * The notifier is an eventfd that is written and never read. It is edge-triggered, so each write
//!   is an event.
//! * The timer is a timerfd. It is set only when an earlier deadline appears, so that a wait needs
//!   no timeout. It also makes the epoll descriptor readable for a host loop when a timer is due.
//!
//! A sandbox may refuse an eventfd or a timerfd. Then the notifier is a pipe, and a wait has a
//! timeout in whole milliseconds. A host loop then takes its timeout from
//! [`Reactor::next_deadline`](crate::Reactor::next_deadline).

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::*;
use crate::entered::placeholder;
use crate::system::{Readiness, System};

/// How many events a turn takes at most. The next turn takes the rest.
const EVENTS: usize = 1024;

const NOTIFIER: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The kernel can wake one of several pollers that watch a socket.
pub(crate) const HAS_EXCLUSIVE: bool = true;

pub(crate) struct Poller {
    remote: RemotePoller,
    /// `None` where the system refuses a timerfd.
    timer_fd: Option<OwnedFd>,
    events: RefCell<Vec<epoll::Event>>,
    /// `None` unless the system refuses an eventfd or a timerfd.
    substitute: Option<Box<Substitute>>,
}

/// Takes the place of what the system refuses, or of the system.
enum Substitute {
    Fallback(Fallback),
    /// The epoll descriptor is a placeholder.
    System(Rc<dyn System>),
}

/// The part of a poller that other threads may use.
#[derive(Clone)]
pub(crate) struct RemotePoller {
    epoll: Arc<OwnedFd>,
    /// The system of a simulated host.
    system: Option<HostSystem>,
}

/// A system that is used and dropped on its own thread only.
#[derive(Clone)]
struct HostSystem {
    thread: ThreadId,
    system: Rc<dyn System>,
}

// SAFETY: `HostSystem::get` returns the system on its own thread only. A clone for other threads is
// dropped there as well, when the reactor is (`Remote::close`).
unsafe impl Send for HostSystem {}

impl HostSystem {
    fn get(&self) -> io::Result<&dyn System> {
        match self.thread == thread::current().id() {
            true => Ok(&*self.system),
            false => Err(Errno::BADF.into()),
        }
    }
}

impl RemotePoller {
    /// Removes a descriptor, from any thread.
    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(system) = &self.system {
            return system.get()?.deregister(fd.as_raw_fd());
        }
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Removes and closes a simulated socket.
    pub(crate) fn close(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let _ = self.delete(fd); // fails if it is not registered
        if let Some(system) = &self.system {
            system.get()?.close(fd.as_raw_fd());
        }
        Ok(())
    }
}

/// Replaces the descriptors that the system refuses.
struct Fallback {
    /// The reading end of the notifier's pipe.
    notified: Option<Arc<OwnedFd>>,
    deadline: Cell<Option<Instant>>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<(Poller, Notifier)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (notifier, notified) = match unless_refused(eventfd(0, flags))? {
            Some(eventfd) => (eventfd, None),
            None => pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map(|(reader, writer)| (writer, Some(Arc::new(reader))))?,
        };
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer_fd = unless_refused(timerfd_create(TimerfdClockId::Monotonic, flags))?;
        let own = [
            (notified.as_deref().or(Some(&notifier)), NOTIFIER),
            (timer_fd.as_ref(), TIMER),
        ];
        for (fd, number) in own {
            let (data, flags) = (EventData::new_u64(number), EventFlags::IN | EventFlags::ET);
            fd.map_or(Ok(()), |fd| epoll::add(&epoll, fd, data, flags))?;
        }
        let notifier = Notifier(notifier, notified.clone());
        let substitute = (notified.is_some() || timer_fd.is_none()).then(|| {
            let deadline = Cell::new(None);
            Box::new(Substitute::Fallback(Fallback { notified, deadline }))
        });
        let events = RefCell::new(Vec::with_capacity(EVENTS));
        let remote = RemotePoller {
            epoll: Arc::new(epoll),
            system: None,
        };
        let poller = Poller {
            remote,
            timer_fd,
            events,
            substitute,
        };
        Ok((poller, notifier))
    }

    /// Creates the poller of a simulated host.
    pub(crate) fn simulated(system: Rc<dyn System>) -> io::Result<(Poller, Notifier)> {
        let remote = RemotePoller {
            epoll: Arc::new(placeholder()?),
            system: Some(HostSystem {
                thread: thread::current().id(),
                system: system.clone(),
            }),
        };
        let poller = Poller {
            remote,
            timer_fd: None,
            events: RefCell::default(),
            substitute: Some(Box::new(Substitute::System(system))),
        };
        Ok((poller, Notifier(placeholder()?, None)))
    }

    /// The part that other threads may use.
    #[inline]
    pub(crate) fn remote(&self) -> &RemotePoller {
        &self.remote
    }

    /// The system of a simulated host.
    pub(crate) fn system(&self) -> Option<&dyn System> {
        match self.substitute.as_deref() {
            Some(Substitute::System(system)) => Some(&**system),
            _ => None,
        }
    }

    /// Registers a source for reading, and also for writing if that is the interest.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        if let Some(system) = self.system() {
            let writable = interest == Interest::Write;
            return system.register(fd.as_raw_fd(), data(key).u64(), writable, false);
        }
        Ok(epoll::add(self.epoll(), fd, data(key), flags(interest))?)
    }

    /// Registers a source for reading that other pollers also watch. The kernel wakes the first of
    /// these pollers that waits. The newest registration is the last in that order.
    pub(crate) fn add_exclusive(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        if let Some(system) = self.system() {
            return system.register(fd.as_raw_fd(), data(key).u64(), false, true);
        }
        // The kernel allows no other flags.
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        match epoll::add(self.epoll(), fd, data(key), flags) {
            // Before Linux 4.5 each event wakes all pollers.
            Err(Errno::INVAL) => self.add(fd, key, Interest::Read),
            added => Ok(added?),
        }
    }

    /// Extends a registration for reading to both directions. If the source is ready, that is an
    /// event.
    pub(crate) fn add_write(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        if let Some(system) = self.system() {
            return system.watch_writing(fd.as_raw_fd(), data(key).u64());
        }
        let flags = flags(Interest::Write);
        Ok(epoll::modify(self.epoll(), fd, data(key), flags)?)
    }

    /// As `add`, or replaces a registration if there is one. If the source is ready, that is an
    /// event.
    pub(crate) fn set(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        self.set_flags(fd, key, flags(interest))
    }

    /// Registers a source for one event, or arms it again. A source that is ready has an event.
    pub(crate) fn arm_once(
        &self,
        fd: BorrowedFd<'_>,
        key: Key,
        read: bool,
        write: bool,
    ) -> io::Result<()> {
        let mut flags = flags(Interest::Write) | EventFlags::ONESHOT;
        if !read {
            flags.remove(self::flags(Interest::Read));
        }
        flags.set(EventFlags::OUT, write);
        self.set_flags(fd, key, flags | EventFlags::ET)
    }

    fn set_flags(&self, fd: BorrowedFd<'_>, key: Key, flags: EventFlags) -> io::Result<()> {
        if let Some(system) = self.system() {
            let _ = system.deregister(fd.as_raw_fd()); // fails if it is not registered
            let writable = flags.contains(EventFlags::OUT);
            return system.register(fd.as_raw_fd(), data(key).u64(), writable, false);
        }
        match epoll::modify(self.epoll(), fd, data(key), flags) {
            Err(Errno::NOENT) => Ok(epoll::add(self.epoll(), fd, data(key), flags)?),
            modified => Ok(modified?),
        }
    }

    fn epoll(&self) -> &OwnedFd {
        &self.remote.epoll
    }

    #[inline]
    pub(crate) fn rearm(&self, _: &impl AsFd, _: impl Fn() -> (Key, bool, bool)) -> io::Result<()> {
        Ok(()) // edge-triggered sources stay armed
    }

    /// Sets the timer, which ends a wait. It replaces an earlier setting.
    pub(crate) fn set_timer(&self, after: Duration) -> io::Result<()> {
        // Zero would switch it off.
        let after = after.max(Duration::from_nanos(1));
        let never = Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        };
        let at = Itimerspec {
            it_interval: ZERO,
            it_value: Timespec::try_from(after).unwrap_or(never),
        };
        match &self.timer_fd {
            Some(fd) => timerfd_settime(fd, TimerfdTimerFlags::empty(), &at).map(drop)?,
            None => self.set_fallback_timer(after),
        }
        Ok(())
    }

    #[cold]
    fn set_fallback_timer(&self, after: Duration) {
        if let Some(Substitute::Fallback(fallback)) = self.substitute.as_deref() {
            let deadline = crate::clock::now().checked_add(after);
            fallback.deadline.set(deadline);
        }
    }

    /// Waits for an event, a notification or the timer. Without `block`, collects only pending
    /// events. Returns true if the timer has expired. A signal also ends the wait.
    #[inline]
    pub(crate) fn wait(&self, block: bool) -> io::Result<bool> {
        match self.substitute.as_deref() {
            None => self.wait_for(if block { None } else { Some(&ZERO) }),
            Some(substitute) => self.wait_substituted(substitute, block),
        }
    }

    #[inline(always)] // the caller's constant timeout removes the branches of epoll::wait
    fn wait_for(&self, timeout: Option<&Timespec>) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        events.clear();
        match epoll::wait(self.epoll(), spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().any(|event| event.data.u64() == TIMER))
    }

    #[cold]
    fn wait_substituted(&self, substitute: &Substitute, block: bool) -> io::Result<bool> {
        match substitute {
            Substitute::Fallback(fallback) => self.wait_with(fallback, block),
            Substitute::System(system) => self.wait_simulated(&**system, block),
        }
    }

    fn wait_with(&self, fallback: &Fallback, block: bool) -> io::Result<bool> {
        let timeout = match block {
            true => fallback.time_left(),
            false => Some(ZERO),
        };
        let expired = self.wait_for(timeout.as_ref())?;
        Ok(fallback.finish_wait() || expired)
    }

    #[cold]
    fn wait_simulated(&self, system: &dyn System, block: bool) -> io::Result<bool> {
        if block {
            return Err(io::Error::other(
                "a turn in a simulated world can't wait: the world moves the time",
            ));
        }
        let mut simulated = Vec::new();
        system.take_events(&mut simulated);
        let mut events = self.events.borrow_mut();
        events.clear();
        events.extend(simulated.into_iter().map(|event| epoll::Event {
            flags: event_flags(event.readiness),
            data: EventData::new_u64(event.key),
        }));
        Ok(true) // a timer may be due
    }

    /// Returns whether the descriptor becomes readable when the timer expires.
    pub(crate) fn has_timer_fd(&self) -> bool {
        self.timer_fd.is_some()
    }

    /// Returns whether the last wait may have left events in the kernel.
    pub(crate) fn is_full(&self) -> bool {
        self.events.borrow().len() == EVENTS
    }

    /// Passes on the events of the last wait.
    pub(crate) fn for_each_event(&self, mut dispatch: impl FnMut(Event)) {
        use EventFlags as Flags;
        for event in self.events.borrow().iter() {
            let (number, flags) = (event.data.u64(), event.flags);
            let gone = flags.intersects(Flags::HUP | Flags::ERR);
            if number < TIMER {
                dispatch(Event {
                    key: Key::from_usize(number as usize),
                    readable: gone || flags.intersects(Flags::IN | Flags::RDHUP | Flags::PRI),
                    writable: gone || flags.contains(Flags::OUT),
                    hung_up: gone || flags.intersects(Flags::RDHUP | Flags::PRI),
                    priority: flags.contains(Flags::PRI),
                    error: flags.contains(Flags::ERR),
                    disarmed: false,
                });
            }
        }
    }
}

impl Fallback {
    /// The time until the deadline, one day at most.
    fn time_left(&self) -> Option<Timespec> {
        let left = self.deadline.get()?;
        let left = left.saturating_duration_since(crate::clock::now());
        Timespec::try_from(left.min(Duration::from_secs(24 * 60 * 60))).ok()
    }

    /// Empties the notifier's pipe, since only the write to an empty pipe is an event. Returns true
    /// if the timer has expired.
    fn finish_wait(&self) -> bool {
        if let Some(notified) = &self.notified {
            while rustix::io::read(notified, &mut [0; 512]).is_ok_and(|n| n > 0) {}
        }
        let expired = self
            .deadline
            .get()
            .is_some_and(|at| at <= crate::clock::now());
        if expired {
            self.deadline.set(None);
        }
        expired
    }
}

/// Returns `None` for a call that the system does not have or a sandbox refuses. A lack of
/// descriptors or memory is an error.
fn unless_refused(made: Result<OwnedFd, Errno>) -> io::Result<Option<OwnedFd>> {
    match made {
        Ok(fd) => Ok(Some(fd)),
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// The flags that epoll reports for this state.
fn event_flags(readiness: Readiness) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, readiness.readable);
    flags.set(EventFlags::OUT, readiness.writable);
    flags.set(EventFlags::RDHUP, readiness.read_closed);
    flags.set(EventFlags::HUP, readiness.hung_up);
    flags.set(EventFlags::ERR, readiness.error);
    flags.set(EventFlags::PRI, readiness.priority);
    flags
}

fn data(key: Key) -> EventData {
    EventData::new_u64(key.to_usize() as u64)
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
    flags.set(EventFlags::OUT, interest == Interest::Write);
    flags
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll().as_fd()
    }
}

/// Ends a wait from any thread.
#[derive(Debug)]
pub(crate) struct Notifier(
    OwnedFd,
    /// The reading end of a pipe. A waker may outlive its loop, and a write to a pipe without
    /// readers would raise `SIGPIPE`.
    #[allow(dead_code)] // is only kept open
    Option<Arc<OwnedFd>>,
);

impl Notifier {
    pub(crate) fn notify(&self) {
        // The write fails only when the counter or the pipe is full. Then an event is pending.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
