//! The source: a handle with which the owner of a descriptor reaches its entry in the registry.

use std::fmt;
use std::io;
#[cfg(windows)]
use std::os::windows::io::BorrowedHandle;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::current;
use crate::inner::ReactorInner;
use crate::poller::{HAS_EXCLUSIVE, Interest, Poller};
use crate::registry::{
    ALWAYS_READY, EXCLUSIVE, EntryRef, NO_LINGER, NOT_ALWAYS_READY, REPORTED, ReadinessCell,
    Registered, SHORT_READS_UNRELIABLE, SourceEntry,
};
use crate::ticket::Ticket;
use crate::wake::wake_all;

/// The readiness of one descriptor. The owner of the descriptor owns it. It allocates nothing: its
/// state is an entry of the reactor's registry.
///
/// The poller reports each edge once. See [`ReadinessCell`].
pub(crate) struct Source {
    reactor: Rc<ReactorInner>,
    entry: EntryRef,
}

impl Source {
    pub(crate) fn new() -> io::Result<Source> {
        let reactor = current::current_reactor()?;
        let entry = reactor.insert_source()?;
        Ok(Source { reactor, entry })
    }

    #[inline]
    pub(crate) fn readiness(&self, interest: Interest) -> &ReadinessCell {
        self.entry.readiness(interest)
    }

    /// ③ Tries `operation` first. After `WouldBlock` it leaves the task's waker here, where the
    /// next event finds it.
    #[inline]
    pub(crate) fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        mut ticket: Option<&mut Ticket>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let entry = &*self.entry;
        let readiness = entry.readiness(interest);
        loop {
            while readiness.is_ready() {
                ready!(self.reactor.poll_charge(cx));
                if let Some(result) = readiness.attempt(&mut operation) {
                    return Poll::Ready(result);
                }
                self.reactor.refund();
            }
            self.wait(entry, cx, fd.as_fd(), interest, ticket.as_deref_mut())?;
            // Cloning the waker is user code and may have turned the reactor. An event may have
            // come before the waker was there.
            if !readiness.is_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the task's waker, and arms the poller so that it reports the next event.
    #[inline(always)] // a call with these arguments costs as much as the body
    fn wait(
        &self,
        entry: &SourceEntry,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
        ticket: Option<&mut Ticket>,
    ) -> io::Result<()> {
        current::check_driven_by(&self.reactor)?;
        let turn = self.reactor.turn_number();
        match ticket {
            None => entry.waiters.add(interest, cx.waker(), turn),
            Some(ticket) => ticket.register(entry, interest, cx.waker(), turn),
        }
        self.arm_entry(entry, fd, interest)
    }

    /// Registers the descriptor with the poller, once. A source that never waits costs no system
    /// call.
    pub(crate) fn arm(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.arm_entry(&self.entry, fd, interest)
    }

    #[inline]
    fn arm_entry(
        &self,
        entry: &SourceEntry,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        match (entry.registered.get(), interest) {
            // A new registration is armed, even if nothing waits yet.
            (Registered::Nothing, _) => return self.register(fd, interest),
            (Registered::Read, Interest::Write) => self.register(fd, interest)?,
            _ => {}
        }
        self.reactor.poller().rearm(fd, || {
            let waits = |interest| !entry.waiters.is_empty(interest);
            let reads = [Interest::Read, Interest::Priority, Interest::Error];
            let read = reads.into_iter().any(waits);
            (self.entry.key(), read, waits(Interest::Write))
        })
    }

    #[cold]
    fn register(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.reactor.check_origin()?;
        self.reactor.park().counters().add_registration();
        self.entry.fd.set(fd.as_raw_fd());
        let (poller, key) = (self.reactor.poller(), self.entry.key());
        if self.entry.is_registered() {
            poller.add_write(fd, key)?;
        } else if self.entry.has(EXCLUSIVE) {
            poller.add_exclusive(fd, key)?;
        } else {
            poller.add(fd, key, interest)?;
        }
        self.entry.registered.set(match interest {
            Interest::Write => Registered::Both,
            _ => Registered::Read,
        });
        Ok(())
    }

    /// Registers the source with EPOLLEXCLUSIVE, so that an event wakes only one of the pollers
    /// that watch the same socket. Must be called before anything waits, for a source that is only
    /// read.
    pub(crate) fn set_exclusive(&self) {
        self.entry.set(EXCLUSIVE);
    }

    /// Whether an event wakes only one of the pollers that watch the socket.
    pub(crate) fn is_exclusive(&self) -> bool {
        HAS_EXCLUSIVE && self.entry.has(EXCLUSIVE)
    }

    /// Removes an exclusive source, for which nothing waits any more, from the poller. From now on
    /// its events wake other pollers. The next wait tries the operation first, then registers
    /// again.
    pub(crate) fn deregister_exclusive(&self, fd: BorrowedFd<'_>) {
        if self.is_exclusive() && self.entry.is_registered() {
            self.deregister(|poller| poller.delete(fd));
            self.entry.registered.set(Registered::Nothing);
            self.readiness(Interest::Read).assume_ready();
        }
    }

    /// Whether the kernel may have more events for this loop than the last wait returned, because
    /// the buffer for events was full.
    pub(crate) fn may_have_missed_event(&self) -> bool {
        self.reactor.poller().is_full()
    }

    /// Re-registers as the last exclusive waiter. Pending readiness is reported again.
    pub(crate) fn rotate_exclusive_waiter(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.is_exclusive() && self.entry.is_registered() {
            self.reactor.check_origin()?;
            self.reactor.poller().delete(fd)?;
            // If this fails, the next task that waits tries again.
            self.entry.registered.set(Registered::Nothing);
            self.register(fd, Interest::Read)?;
        }
        Ok(())
    }

    /// Removes the descriptor from the poller, before it is closed, and releases the entry. Must be
    /// called once.
    pub(crate) fn close(&self, fd: BorrowedFd<'_>) {
        self.release(|poller| poller.delete(fd));
    }

    #[inline]
    fn release(&self, delete: impl FnOnce(&Poller) -> io::Result<()>) {
        if self.entry.is_registered() {
            self.deregister(delete);
        }
        let waiters = self.reactor.release_source(&self.entry);
        waiters.discard(); // user code, after the borrow
    }

    #[inline]
    fn deregister(&self, delete: impl FnOnce(&Poller) -> io::Result<()>) {
        // A forked child shares the poller with its parent, where the parent's descriptor stays
        // registered.
        if !self.reactor.is_inherited() {
            // It fails only if other code has closed the descriptor, which deregisters it as well.
            let _ = delete(self.reactor.poller());
        }
    }

    /// Leaves the task's waker for the end of a process, which is one event.
    #[cfg(windows)]
    pub(crate) fn wait_for_process(
        &self,
        cx: &mut Context<'_>,
        process: BorrowedHandle<'_>,
    ) -> io::Result<()> {
        current::check_driven_by(&self.reactor)?;
        let (entry, turn) = (&self.entry, self.reactor.turn_number());
        entry.waiters.add(Interest::Read, cx.waker(), turn);
        if !entry.is_registered() {
            self.reactor.poller().add_process(process, entry.key())?;
            entry.registered.set(Registered::Both);
        }
        Ok(())
    }

    /// Like `close`, for a process.
    #[cfg(windows)]
    pub(crate) fn close_process(&self, process: BorrowedHandle<'_>) {
        self.release(|poller| poller.delete_process(process));
    }

    /// Takes the waiters of both directions, which the caller wakes.
    pub(crate) fn take_waiters(&self) -> Vec<Waker> {
        let mut waiters = Vec::new();
        for interest in [Interest::Read, Interest::Write] {
            self.entry.waiters.take(interest, &mut waiters);
        }
        waiters
    }

    /// Acts as an event, for readiness that the poller does not report.
    #[cfg(windows)]
    pub(crate) fn wake_readers(&self) {
        let mut woken = Vec::new();
        self.readiness(Interest::Read).set_ready();
        self.entry.waiters.take(Interest::Read, &mut woken);
        wake_all(woken);
    }

    /// Records that a read has filled less than its buffer. The next one would block and is not
    /// tried, because data that comes later is an event.
    ///
    /// There are two exceptions. Once the peer has hung up or has sent urgent data, unread data may
    /// have come with that same event, and no other event follows for it. And code outside of this
    /// crate may have had the descriptor. If it has received urgent data with `MSG_OOB`, reads stop
    /// at the mark that is left in the stream, and no event reports the mark. Socket options that
    /// it has set may add other boundaries at which reads stop.
    #[inline]
    pub(crate) fn note_short_read(&self) {
        if self.entry.is_registered() && !self.entry.has(SHORT_READS_UNRELIABLE) {
            let readiness = self.readiness(Interest::Read);
            readiness.clear_ready(readiness.tick());
        }
    }

    /// Records that code outside of this crate may have the descriptor. From then on short reads
    /// are unreliable, see [`Source::note_short_read`], and a linger time may be set.
    #[inline]
    pub(crate) fn note_exposed(&self) {
        self.entry.clear(NO_LINGER);
        self.entry.set(SHORT_READS_UNRELIABLE);
    }

    /// Records whether the socket may have a linger time. [`Source::note_exposed`] overrides
    /// `false`.
    #[inline]
    pub(crate) fn set_may_linger(&self, may_linger: bool) {
        match may_linger {
            true => self.entry.clear(NO_LINGER),
            false => self.entry.set(NO_LINGER),
        }
    }

    /// Whether the source belongs to a simulated host.
    pub(crate) fn is_simulated(&self) -> bool {
        self.reactor.poller().is_simulated()
    }

    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    pub(crate) fn close_simulated(&self, fd: BorrowedFd<'_>) {
        if let Some(system) = self.reactor.poller().system() {
            system.close(fd.as_raw_fd());
        }
    }

    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    pub(crate) fn close_simulated(&self, _: BorrowedFd<'_>) {}

    /// Whether the descriptor may be a socket with a linger time.
    #[inline]
    pub(crate) fn may_linger(&self) -> bool {
        !self.entry.has(NO_LINGER)
    }
}

// Waits for priority and error conditions.
#[cfg(unix)]
impl Source {
    /// Charges one operation to the budget of the task.
    pub(crate) fn poll_charge(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.reactor.poll_charge(cx)
    }

    /// Refunds the last charge, because the operation has to wait.
    pub(crate) fn refund(&self) {
        self.reactor.refund();
    }

    /// Leaves the task's waker for a condition.
    pub(crate) fn wait_for_condition(
        &self,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        condition: Interest,
    ) -> io::Result<()> {
        self.wait(&self.entry, cx, fd, condition, None)
    }
}

// Conditions that poll(2) returns, and files that are always ready.
impl Source {
    /// Acts as an event, for conditions that poll(2) has returned. Some files report them to the
    /// first call only.
    #[cold]
    pub(crate) fn set_conditions(&self, priority: bool, error: bool) {
        let mut woken = Vec::new();
        self.entry.set_conditions(priority, error, &mut woken);
        wake_all(woken);
    }

    /// Whether this is a file of `/proc` or `/sys`, which is always readable and has events for
    /// conditions only. Calls the system once. Must be called only when the descriptor is ready.
    pub(crate) fn is_always_ready(&self, fd: BorrowedFd<'_>) -> bool {
        if !self.entry.has(ALWAYS_READY | NOT_ALWAYS_READY) {
            self.entry.set(match is_system_file(fd) {
                true => ALWAYS_READY,
                false => NOT_ALWAYS_READY,
            });
        }
        self.entry.has(ALWAYS_READY)
    }

    /// Records that an always ready file was reported as readable, after the event of this tick.
    /// The next report is for the next event.
    pub(crate) fn set_reported(&self, tick: u32) {
        self.readiness(Interest::Read).clear_ready(tick);
        if tick == 0 {
            self.entry.set(REPORTED);
        }
    }

    /// Ignores the first event of an always ready file if it was reported before, because the event
    /// may come from the registration. Returns true if it did.
    pub(crate) fn skip_registration_event(&self) -> bool {
        let read = self.readiness(Interest::Read);
        let skips = self.entry.has(REPORTED) && read.tick() == 1;
        if skips {
            self.entry.clear(REPORTED);
            read.clear_ready(1);
        }
        skips
    }
}

/// The poller accepts a regular file only if the file system generates its content, as `/proc` and
/// `/sys` do. If such a file cannot seek, it is a stream that may be empty, for example
/// `trace_pipe`.
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
            .field("may_read", &self.readiness(Interest::Read).is_ready())
            .field("may_write", &self.readiness(Interest::Write).is_ready())
            .finish_non_exhaustive()
    }
}

/// The wait of one future for a source. Its registration ends when the future is dropped.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    source: &'a Source,
    interest: Interest,
    ticket: Ticket,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(source: &'a Source, interest: Interest) -> Self {
        Wait {
            source,
            interest,
            ticket: Ticket::default(),
        }
    }

    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    pub(crate) fn interest(&self) -> Interest {
        self.interest
    }

    /// Like [`Source::poll_with`].
    #[inline]
    pub(crate) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let ticket = Some(&mut self.ticket);
        self.source
            .poll_with(cx, fd, self.interest, ticket, operation)
    }
}

impl Drop for Wait<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ticket.release(&self.source.entry, self.interest);
    }
}
