//! The poller of all other systems, which uses the crate `polling`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use polling::{Event as PolledEvent, Events, PollMode};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
#[cfg(windows)]
use {polling::os::iocp::PollerIocpExt, std::os::windows::io::BorrowedHandle};

use super::*;

/// Each event wakes all pollers that watch a socket.
pub(crate) const HAS_EXCLUSIVE: bool = false;

/// Events report priority conditions separately.
const HAS_PRIORITY: bool = cfg!(any(target_os = "linux", target_os = "android"));

pub(crate) struct Poller {
    remote: RemotePoller,
    deadline: Cell<Option<Instant>>,
    events: RefCell<Events>,
}

/// The part of a poller that other threads may use.
#[derive(Clone)]
pub(crate) struct RemotePoller(Arc<polling::Poller>);

impl RemotePoller {
    /// Removes a descriptor, from any thread.
    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.delete(fd)
    }

    /// Simulated sockets exist with the other poller only.
    pub(crate) fn close(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.delete(fd)
    }

    #[cfg(windows)]
    pub(crate) fn delete_process(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        self.0.remove_waitable(process)
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<(Poller, Notifier)> {
        let inner = Arc::new(polling::Poller::new()?);
        let notifier = Notifier(inner.clone());
        let (deadline, events) = (Cell::new(None), RefCell::new(Events::new()));
        let poller = Poller {
            remote: RemotePoller(inner),
            deadline,
            events,
        };
        Ok((poller, notifier))
    }

    /// Registers a source for both directions, and a one-shot source for the one of `interest`.
    ///
    /// `polling` requires that a descriptor is deleted before it is closed. `Async` does that, on
    /// drop and in `into_inner`. But safe code may `mem::forget` an `Async` that only borrows its
    /// descriptor, and then close the descriptor. This is sound:
    ///
    /// - `polling` keeps the number and no pointer, and uses it in `modify` and `delete` only. Both
    ///   are called here with the open descriptor of a living `Async`.
    /// - The system removes a closed descriptor from the poller (epoll, kqueue, event ports), or
    ///   ends the operation (Windows).
    /// - A late event is ignored. A forgotten source never releases its slot, so its key stays
    ///   unique.
    ///
    /// At worst, adding the number fails with an error when the system has reused it.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let (wanted, mode) = self.wanted(key, interest);
        // SAFETY: the descriptor is open, and `Async` deletes it before closing it, unless it is
        // forgotten. See above for why a registration that outlives its descriptor is sound.
        unsafe { self.inner().add_with_mode(fd.as_raw_fd(), wanted, mode) }
    }

    fn wanted(&self, key: Key, interest: Interest) -> (PolledEvent, PollMode) {
        let both = self.inner().supports_edge();
        let write = interest == Interest::Write;
        let wanted = PolledEvent::new(key.to_usize(), both || !write, both || write);
        match both {
            true => (wanted, PollMode::Edge),
            false => (wanted, PollMode::Oneshot),
        }
    }

    /// As `add`, or replaces a registration if there is one. If the source is ready, that is an
    /// event.
    pub(crate) fn set(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let (wanted, mode) = self.wanted(key, interest);
        self.set_wanted(fd, wanted, mode)
    }

    /// Registers a source for one event, or arms it again. A source that is ready has an event.
    pub(crate) fn arm_once(
        &self,
        fd: BorrowedFd<'_>,
        key: Key,
        read: bool,
        write: bool,
    ) -> io::Result<()> {
        let wanted = PolledEvent::new(key.to_usize(), read, write);
        self.set_wanted(fd, wanted, PollMode::Oneshot)
    }

    fn set_wanted(
        &self,
        fd: BorrowedFd<'_>,
        wanted: PolledEvent,
        mode: PollMode,
    ) -> io::Result<()> {
        match self.inner().modify_with_mode(fd, wanted, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // SAFETY: as in `add`.
                unsafe { self.inner().add_with_mode(fd.as_raw_fd(), wanted, mode) }
            }
            modified => modified,
        }
    }

    fn inner(&self) -> &polling::Poller {
        &self.remote.0
    }

    /// The part that other threads may use.
    pub(crate) fn remote(&self) -> &RemotePoller {
        &self.remote
    }

    pub(crate) fn add_exclusive(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        self.add(fd, key, Interest::Read)
    }

    pub(crate) fn add_write(&self, _: BorrowedFd<'_>, _: Key) -> io::Result<()> {
        Ok(()) // it was registered for both, or `rearm` follows
    }

    /// Arms a one-shot source for its next event. `wanted` returns its key, and whether tasks wait
    /// to read and to write.
    pub(crate) fn rearm(
        &self,
        fd: &impl AsFd,
        wanted: impl Fn() -> (Key, bool, bool),
    ) -> io::Result<()> {
        if self.inner().supports_edge() {
            return Ok(());
        }
        let (key, read, write) = wanted();
        let interest = PolledEvent::new(key.to_usize(), read, write);
        self.set_wanted(fd.as_fd(), interest, PollMode::Oneshot)
    }

    /// Registers a process. Its end is one readable event.
    #[cfg(windows)]
    pub(crate) fn add_process(&self, process: BorrowedHandle<'_>, key: Key) -> io::Result<()> {
        let ended = PolledEvent::readable(key.to_usize());
        // SAFETY: the handle is open, and its owner deletes it from the poller before closing it
        // (`Waitable`, on drop).
        unsafe {
            self.inner()
                .add_waitable(&process, ended, PollMode::Oneshot)
        }
    }

    pub(crate) fn set_timer(&self, after: Duration) -> io::Result<()> {
        self.deadline.set(crate::clock::now().checked_add(after));
        Ok(())
    }

    pub(crate) fn wait(&self, block: bool) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let left = |at: Instant| at.saturating_duration_since(crate::clock::now());
        let timeout = match block {
            true => self.deadline.get().map(left),
            false => Some(Duration::ZERO),
        };
        match self.inner().wait(&mut events, timeout) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let deadline = self.deadline.get();
        let expired = deadline.is_some_and(|at| at <= crate::clock::now());
        if expired {
            self.deadline.set(None);
        }
        Ok(expired)
    }

    pub(crate) fn is_simulated(&self) -> bool {
        false
    }

    pub(crate) fn has_timer_fd(&self) -> bool {
        false // only its own wait sets a timer
    }

    /// Returns whether the last wait may have left events in the kernel. The events of `polling`
    /// itself take the room of at most two others.
    pub(crate) fn is_full(&self) -> bool {
        let events = self.events.borrow();
        events.iter().count() + 2 >= events.capacity().get()
    }

    pub(crate) fn for_each_event(&self, mut dispatch: impl FnMut(Event)) {
        for event in self.events.borrow().iter() {
            dispatch(Event {
                key: Key::from_usize(event.key),
                readable: event.readable,
                writable: event.writable,
                // Some systems have no such event, so no short read is trusted here.
                hung_up: true,
                // Where events do not report conditions, a task that waits for one checks it at
                // each event.
                priority: !HAS_PRIORITY || event.is_priority(),
                error: event.is_err().unwrap_or(true),
                // A task that waits for the other direction has to arm it again.
                disarmed: !self.inner().supports_edge(),
            });
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner().as_fd()
    }
}

#[derive(Debug)]
pub(crate) struct Notifier(Arc<polling::Poller>);

impl Notifier {
    pub(crate) fn notify(&self) {
        // It fails only if the poller itself is broken, which the next wait reports.
        let _ = self.0.notify();
    }
}
