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
        // it (`Waitable`, on drop).
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
