use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::*;
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
            None => {
                let (rung, bell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                (bell, Some(Arc::new(rung)))
            }
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
