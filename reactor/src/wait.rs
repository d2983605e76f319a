//! The one place that knows how each platform waits.
//!
//! On Linux this file uses epoll by itself. `polling` would take five system calls for a wait, and
//! two more file descriptors for each reactor. Here a wait is one system call:
//!
//! * Sources are registered edge-triggered, and with `RDHUP`, which tells a peer's half close apart
//!   from its data (see [`Event::hung_up`]). Room to write is told of only from the first wait for
//!   it on, which takes a second call: on datagram and Unix sockets each message that leaves makes
//!   room, and would be an event that nobody waits for.
//! * The bell is an eventfd that is written and never read: being edge-triggered, each write is
//!   an event of its own.
//! * The alarm is a timer descriptor. It is set only when an earlier deadline comes up, so that
//!   waiting needs no timeout; and the poller's descriptor becomes readable for timers, too.
//!
//! Where a sandbox refuses an eventfd, the bell is a pipe. Where it refuses a timer descriptor,
//! waiting has a timeout, in whole milliseconds, and a host loop has to go by
//! [`Reactor::next_deadline`](crate::Reactor::next_deadline).
//!
//! Elsewhere `polling` does all of it. `--cfg windlass_portable` chooses that on Linux as well.
//!
use std::io;
use std::time::Duration;

pub(crate) use platform::{Bell, HAS_EXCLUSIVE, Poll};

/// The name of a source in the poller: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// On 64 bits, half of the word each.
const SLOT_BITS: u32 = usize::BITS / 2;
const MASK: usize = (1 << SLOT_BITS) - 1;
/// The uppermost numbers are taken: `polling` has the last, the bell or the alarm the next two, and
/// the ring of files one.
pub(crate) const MAX_SOURCES: usize = MASK - 3;

impl Key {
    fn to_usize(self) -> usize {
        (self.generation as usize & MASK) << SLOT_BITS | self.slot as usize
    }

    fn from_usize(number: usize) -> Self {
        Key {
            slot: (number & MASK) as u32,
            generation: (number >> SLOT_BITS) as u32,
        }
    }

    /// Equality of what fits into the poller.
    pub(crate) fn names(self, slot: u32, generation: u32) -> bool {
        self.slot == slot && self.generation as usize & MASK == generation as usize & MASK
    }
}

/// What the poller tells of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: Key,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its half, the connection is gone, or there is urgent data, at which a
    /// read stops. An edge comes but once: after this one, a short read is no proof that nothing is
    /// left to read.
    pub(crate) hung_up: bool,
    /// There may be priority news (`POLLPRI`), or an error (`POLLERR`). Then `hung_up` is set, too.
    pub(crate) priority: bool,
    pub(crate) error: bool,
    /// The poller is silent from now on, in both directions, until the source is armed again.
    pub(crate) disarmed: bool,
}

#[cfg(all(target_os = "linux", not(windlass_portable)))]
mod platform {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::buffer::spare_capacity;
    use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
    use rustix::io::Errno;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    };

    use super::*;
    use crate::pipe;
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::time::Instant;

    /// How many events a turn takes at most. The rest comes in the next one.
    const EVENTS: usize = 1024;

    const BELL: u64 = u64::MAX - 1;
    const ALARM: u64 = u64::MAX - 2;

    /// An event can be for one of several pollers that watch a socket.
    pub(crate) const HAS_EXCLUSIVE: bool = true;

    pub(crate) struct Poll {
        poller: OwnedFd,
        /// `None` where the system refuses one.
        alarm: Option<OwnedFd>,
        events: RefCell<Vec<epoll::Event>>,
        /// `None` unless the system refuses something.
        fallback: Option<Box<Fallback>>,
    }

    /// What stands in for the descriptors that the system refuses.
    struct Fallback {
        /// The other end of the bell's pipe.
        rung: Option<Arc<OwnedFd>>,
        alarm: Cell<Option<Instant>>,
    }

    impl Poll {
        pub(crate) fn new() -> io::Result<(Poll, Bell)> {
            let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let (bell, rung) = match unless_refused(eventfd(0, flags))? {
                Some(eventfd) => (eventfd, None),
                None => pipe::ends().map(|(rung, bell)| (bell, Some(Arc::new(rung))))?,
            };
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let alarm = unless_refused(timerfd_create(TimerfdClockId::Monotonic, flags))?;
            let sources = [
                (rung.as_deref().or(Some(&bell)), BELL),
                (alarm.as_ref(), ALARM),
            ];
            for (source, number) in sources {
                let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                let data = epoll::EventData::new_u64(number);
                source.map_or(Ok(()), |source| epoll::add(&poller, source, data, flags))?;
            }
            let bell = Bell(bell, rung.clone());
            let fallback = (rung.is_some() || alarm.is_none()).then(|| {
                let alarm = Cell::new(None);
                Box::new(Fallback { rung, alarm })
            });
            let poll = Poll {
                poller,
                alarm,
                events: RefCell::new(Vec::with_capacity(EVENTS)),
                fallback,
            };
            Ok((poll, bell))
        }

        /// Registers the source for reading, and for writing as well if that is asked for.
        pub(crate) fn add(&self, source: BorrowedFd<'_>, key: Key, write: bool) -> io::Result<()> {
            let (data, flags) = interest(key, write);
            Ok(epoll::add(&self.poller, source, data, flags)?)
        }

        /// Registers a source that other pollers watch as well: each event is for one of them, the
        /// first in line that waits. The newest is the last in line.
        pub(crate) fn add_exclusive(&self, source: BorrowedFd<'_>, key: Key) -> io::Result<()> {
            use epoll::EventFlags as Flags;
            let data = epoll::EventData::new_u64(key.to_usize() as u64);
            let flags = Flags::IN | Flags::ET | Flags::EXCLUSIVE; // it allows no others
            match epoll::add(&self.poller, source, data, flags) {
                // Before Linux 4.5: each event is for all.
                Err(Errno::INVAL) => self.add(source, key, false),
                added => Ok(added?),
            }
        }

        /// From now on for both directions. What is ready already is an event.
        pub(crate) fn add_write(&self, source: BorrowedFd<'_>, key: Key) -> io::Result<()> {
            let (data, flags) = interest(key, true);
            Ok(epoll::modify(&self.poller, source, data, flags)?)
        }

        #[inline]
        pub(crate) fn rearm(
            &self,
            _: BorrowedFd<'_>,
            _: impl Fn() -> (Key, bool, bool),
        ) -> io::Result<()> {
            Ok(()) // edge-triggered sources stay armed
        }

        pub(crate) fn delete(&self, source: BorrowedFd<'_>) -> io::Result<()> {
            Ok(epoll::delete(&self.poller, source)?)
        }

        /// Sets the alarm, which ends a wait; a later call takes the place of an earlier one.
        pub(crate) fn set_alarm(&self, after: Duration) -> io::Result<()> {
            // Zero would switch it off.
            let after = after.max(Duration::from_nanos(1));
            let never = Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            };
            let it_value = Timespec::try_from(after).unwrap_or(never);
            let it_interval = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let at = Itimerspec {
                it_interval,
                it_value,
            };
            match &self.alarm {
                Some(alarm) => timerfd_settime(alarm, TimerfdTimerFlags::empty(), &at).map(drop)?,
                None => self.set_alarm_of_fallback(after),
            }
            Ok(())
        }

        #[cold]
        fn set_alarm_of_fallback(&self, after: Duration) {
            let fallback = self.fallback.as_ref().expect("it's there without an alarm");
            fallback.alarm.set(Instant::now().checked_add(after));
        }

        /// Waits for events, the bell, or the alarm; for nothing if not `block`. True if the alarm
        /// has gone off. A signal ends the wait as well.
        #[inline]
        pub(crate) fn wait(&self, block: bool) -> io::Result<bool> {
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            match &self.fallback {
                None => self.wait_for(if block { None } else { Some(&at_once) }),
                Some(fallback) => self.wait_with(fallback, block),
            }
        }

        #[inline(always)] // the timeout is a constant, and so is what becomes of it
        fn wait_for(&self, timeout: Option<&Timespec>) -> io::Result<bool> {
            let mut events = self.events.borrow_mut();
            events.clear();
            match epoll::wait(&self.poller, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(events.iter().any(|event| event.data.u64() == ALARM))
        }

        #[cold]
        fn wait_with(&self, fallback: &Fallback, block: bool) -> io::Result<bool> {
            let timeout = match block {
                true => fallback.time_left(),
                false => Some(Timespec::default()),
            };
            let gone_off = self.wait_for(timeout.as_ref())?;
            Ok(fallback.has_gone_off() || gone_off)
        }

        /// Whether the last wait may have left events behind.
        pub(crate) fn is_full(&self) -> bool {
            self.events.borrow().len() == EVENTS
        }

        /// What the last wait found.
        pub(crate) fn for_each_event(&self, mut tell: impl FnMut(Event)) {
            use epoll::EventFlags as Flags;
            for event in self.events.borrow().iter() {
                let (number, flags) = (event.data.u64(), event.flags);
                let gone = flags.intersects(Flags::HUP | Flags::ERR);
                if number < ALARM {
                    tell(Event {
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
        /// Until the alarm, a day at most.
        fn time_left(&self) -> Option<Timespec> {
            let left = self.alarm.get()?.saturating_duration_since(Instant::now());
            Timespec::try_from(left.min(Duration::from_secs(24 * 60 * 60))).ok()
        }

        /// Whether the alarm has. Takes what was rung as well, since only a pipe that is empty
        /// tells of the next ring.
        fn has_gone_off(&self) -> bool {
            if let Some(rung) = &self.rung {
                while rustix::io::read(rung, &mut [0; 512]).is_ok_and(|n| n > 0) {}
            }
            let is_over = self.alarm.get().is_some_and(|at| at <= Instant::now());
            if is_over {
                self.alarm.set(None);
            }
            is_over
        }
    }

    /// `None` for a call that the system doesn't know or a sandbox refuses. A shortage is an error.
    fn unless_refused(made: Result<OwnedFd, Errno>) -> io::Result<Option<OwnedFd>> {
        match made {
            Ok(fd) => Ok(Some(fd)),
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    fn interest(key: Key, write: bool) -> (epoll::EventData, epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        let mut flags = Flags::IN | Flags::RDHUP | Flags::PRI | Flags::ET;
        flags.set(Flags::OUT, write);
        (epoll::EventData::new_u64(key.to_usize() as u64), flags)
    }

    impl AsFd for Poll {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.poller.as_fd()
        }
    }

    /// Ends a wait from any thread.
    #[derive(Debug)]
    pub(crate) struct Bell(
        OwnedFd,
        /// The other end of a pipe. A waker may outlive its loop, and must not raise `SIGPIPE`
        /// then.
        #[allow(dead_code)] // it only stays open
        Option<Arc<OwnedFd>>,
    );

    impl Bell {
        pub(crate) fn ring(&self) {
            // It fails only if 2^64 - 2 rings were never read, or a pipe is full of them, and then
            // the bell is ringing.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
mod platform {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;
    use std::time::Instant;

    use polling::{Event as Polled, Events, PollMode, Poller};
    use rustix::fd::{AsRawFd, BorrowedFd};
    #[cfg(windows)]
    use {polling::os::iocp::PollerIocpExt, std::os::windows::io::BorrowedHandle};

    use super::*;

    /// Each event is for all pollers that watch a socket.
    pub(crate) const HAS_EXCLUSIVE: bool = false;

    /// Events say whether they are about priority news.
    const HAS_PRIORITY: bool = cfg!(any(target_os = "linux", target_os = "android"));

    pub(crate) struct Poll {
        poller: Arc<Poller>,
        alarm: Cell<Option<Instant>>,
        events: RefCell<Events>,
    }

    impl Poll {
        pub(crate) fn new() -> io::Result<(Poll, Bell)> {
            let poller = Arc::new(Poller::new()?);
            let bell = Bell(poller.clone());
            let (alarm, events) = (Cell::new(None), RefCell::new(Events::new()));
            Ok((
                Poll {
                    poller,
                    alarm,
                    events,
                },
                bell,
            ))
        }

        /// For both directions. A one-shot source, for the one that is waited for.
        ///
        /// `polling` asks that a descriptor is deleted before it's closed. `Async` does that, on
        /// drop and in `into_inner`, but safe code may `mem::forget` an `Async` that only borrows
        /// the descriptor, and close that. What `polling` needs this for holds then as well:
        ///
        /// - It keeps the number, no pointer, and uses it in `modify` and `delete` only. These are
        ///   called here with the open descriptor of a living `Async`.
        /// - The system drops a closed descriptor from the poller by itself (epoll, kqueue, event
        ///   ports), or ends the operation (Windows).
        /// - An event that comes all the same finds nothing: a forgotten source never gives its
        ///   slot back, so no other has its key.
        ///
        /// At worst the number, when the system uses it again, can't be added, which is an error.
        pub(crate) fn add(&self, source: BorrowedFd<'_>, key: Key, write: bool) -> io::Result<()> {
            let both = self.poller.supports_edge();
            let wanted = Polled::new(key.to_usize(), both || !write, both || write);
            // SAFETY: the descriptor is open, and `Async` deletes it before closing it, unless it's
            // forgotten; see above for why a registration that outlives its descriptor is sound.
            unsafe {
                self.poller
                    .add_with_mode(source.as_raw_fd(), wanted, self.mode())
            }
        }

        /// No other poller knows how to wake one of several.
        pub(crate) fn add_exclusive(&self, source: BorrowedFd<'_>, key: Key) -> io::Result<()> {
            self.add(source, key, false)
        }

        pub(crate) fn add_write(&self, _: BorrowedFd<'_>, _: Key) -> io::Result<()> {
            Ok(()) // it was registered for both, or is armed for what is wanted
        }

        /// A one-shot source tells of one event only, and must be armed for the next.
        pub(crate) fn rearm(
            &self,
            source: BorrowedFd<'_>,
            wanted: impl Fn() -> (Key, bool, bool),
        ) -> io::Result<()> {
            if self.poller.supports_edge() {
                return Ok(());
            }
            let (key, read, write) = wanted();
            let interest = Polled::new(key.to_usize(), read, write);
            self.poller
                .modify_with_mode(source, interest, PollMode::Oneshot)
        }

        pub(crate) fn delete(&self, source: BorrowedFd<'_>) -> io::Result<()> {
            self.poller.delete(source)
        }

        /// For the end of the process, of which it tells once, as readable.
        #[cfg(windows)]
        pub(crate) fn add_process(&self, process: BorrowedHandle<'_>, key: Key) -> io::Result<()> {
            let ended = Polled::readable(key.to_usize());
            // SAFETY: the handle is open, and its owner deletes it from the poller before closing
            // it (`ChildEnd`, on drop).
            unsafe { self.poller.add_waitable(&process, ended, PollMode::Oneshot) }
        }

        #[cfg(windows)]
        pub(crate) fn delete_process(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
            self.poller.remove_waitable(process)
        }

        pub(crate) fn set_alarm(&self, after: Duration) -> io::Result<()> {
            self.alarm.set(Instant::now().checked_add(after));
            Ok(())
        }

        pub(crate) fn wait(&self, block: bool) -> io::Result<bool> {
            let mut events = self.events.borrow_mut();
            events.clear();
            let left = self
                .alarm
                .get()
                .map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = if block { left } else { Some(Duration::ZERO) };
            match self.poller.wait(&mut events, timeout) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let gone_off = self.alarm.get().is_some_and(|at| at <= Instant::now());
            if gone_off {
                self.alarm.set(None);
            }
            Ok(gone_off)
        }

        pub(crate) fn is_full(&self) -> bool {
            false // no event is exclusive, so none can be lost to other pollers
        }

        pub(crate) fn for_each_event(&self, mut tell: impl FnMut(Event)) {
            for event in self.events.borrow().iter() {
                tell(Event {
                    key: Key::from_usize(event.key),
                    readable: event.readable,
                    writable: event.writable,
                    // Not every poller tells: so no short read is trusted here.
                    hung_up: true,
                    // Where the poller can't tell, a task that waits for one of these looks at each
                    // event.
                    priority: !HAS_PRIORITY || event.is_priority(),
                    error: event.is_err().unwrap_or(true),
                    // Who waits for the other direction has to arm it again.
                    disarmed: !self.poller.supports_edge(),
                });
            }
        }

        fn mode(&self) -> PollMode {
            if self.poller.supports_edge() {
                PollMode::Edge
            } else {
                PollMode::Oneshot
            }
        }
    }

    #[cfg(unix)]
    impl std::os::fd::AsFd for Poll {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.poller.as_fd()
        }
    }

    #[derive(Debug)]
    pub(crate) struct Bell(Arc<Poller>);

    impl Bell {
        pub(crate) fn ring(&self) {
            // It fails only if the poller itself is broken, which its next wait reports.
            let _ = self.0.notify();
        }
    }
}
