//! The source: the readiness of a descriptor, which its owner may use on any thread.

use std::fmt;
use std::io;
use std::mem;
#[cfg(windows)]
use std::os::windows::io::BorrowedHandle;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8};
use std::task::{Context, Poll, Waker, ready};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::always_ready::is_system_file;
use crate::current::{self, check_driven_here, current_reactor, local};
use crate::entry::{
    EntryRef, LocalEntry, Message, OwnedEntry, Registered, SHORT_READS_UNRELIABLE, SourceEntry,
    substitute_entry,
};
use crate::fork;
use crate::inner::{REACTOR, ReactorInner};
use crate::other_entries::{OtherEntries, OtherEntry};
use crate::poller::{HAS_EXCLUSIVE, Interest, Poller, RemotePoller};
use crate::ticket::Ticket;
use crate::waiters::INTERESTS;
use crate::wake::wake_all;

/// The readiness of one descriptor. The owner of the descriptor owns it.
///
/// Its state is an entry in the registry of a reactor, which is made when something first waits. So
/// a socket that moves to another thread before is registered there. The reactor of that first wait
/// is its *home*. An operation on the thread of the home skips system calls that would block. On
/// another thread it tries first. If it has to wait there, that reactor becomes the home, unless
/// tasks wait in the old one, too. Then each of the reactors has an entry, and those that are not
/// the home register the descriptor for one event per wait.
///
/// Only the thread of a reactor accesses the state of its entries. See [`LocalEntry`].
pub(crate) struct Source {
    /// The entry in the home, or null. Holds a reference to it. An entry that another one replaces
    /// is in `others` before.
    home: AtomicPtr<SourceEntry>,
    /// All entries but the first, and the first once there is a second one.
    others: OtherEntries,
    /// Code outside of this crate may have the descriptor.
    is_exposed: AtomicBool,
    /// This crate has created the socket, and no other code can have set a linger time.
    has_no_linger: AtomicBool,
    /// Other pollers watch the same socket, and each event wakes one of them.
    is_exclusive: AtomicBool,
    /// The source belongs to a simulated host.
    is_simulated: bool,
    /// The kind of file, once `is_always_ready` has determined it.
    file_kind: AtomicU8,
}

const ALWAYS_READY: u8 = 1;
const NOT_ALWAYS_READY: u8 = 2;

impl Source {
    /// Returns an error only in a simulated host, where the source belongs to the host's reactor.
    #[inline]
    pub(crate) fn new() -> io::Result<Source> {
        let source = Source {
            home: AtomicPtr::new(ptr::null_mut()),
            others: OtherEntries::new(),
            is_exposed: AtomicBool::new(false),
            has_no_linger: AtomicBool::new(false),
            is_exclusive: AtomicBool::new(false),
            is_simulated: is_simulated(),
            file_kind: AtomicU8::new(0),
        };
        if source.is_simulated {
            source.make_entry()?; // outlined, so that this is inlined
        }
        Ok(source)
    }

    /// The entry in the home, on any thread.
    #[inline(always)]
    fn home_ref(&self) -> Option<EntryRef<'_>> {
        let entry = NonNull::new(self.home.load(Acquire))?;
        // SAFETY: it is the pointer of an `OwnedEntry`. This holds a reference to each entry
        // that was ever stored here, in `home` or `others`, until it is dropped.
        Some(unsafe { EntryRef::from_ptr(entry) })
    }

    /// The entry in the home, if that is the reactor of this thread.
    #[inline(always)]
    fn home(&self) -> Option<LocalEntry<'_>> {
        self.home_ref().and_then(local)
    }

    /// The entry in this thread's reactor, if there is one.
    #[inline]
    pub(crate) fn existing_entry(&self) -> Option<LocalEntry<'_>> {
        self.home()
            .or_else(|| self.others.iter().find_map(|other| local(other.entry())))
    }

    /// The entry in this thread's reactor, which this makes if needed.
    ///
    /// # Errors
    ///
    /// Fails if there is no reactor and none can be made, and in a forked child if the source was
    /// registered before the fork.
    #[inline]
    pub(crate) fn entry(&self) -> io::Result<LocalEntry<'_>> {
        self.existing_entry().map_or_else(|| self.make_entry(), Ok)
    }

    #[cold]
    fn make_entry(&self) -> io::Result<LocalEntry<'_>> {
        let home = self.home_ref();
        if home.is_some_and(|home| home.remote().is_inherited()) {
            return Err(fork::error(REACTOR));
        }
        let entry = current_reactor()?.insert_source()?;
        let (none, new) = (ptr::null_mut(), entry.as_ref().as_ptr());
        match self.home.compare_exchange(none, new, AcqRel, Acquire) {
            Ok(_) => mem::forget(entry), // `home` has the reference
            Err(_) => {
                self.others.get_or_insert(entry.as_ref());
            }
        }
        let entry = self.existing_entry();
        entry.ok_or_else(|| io::Error::other("the reactor of this thread has changed"))
    }

    /// The entry of an exclusive source in this thread's reactor, with the state of its waits.
    pub(crate) fn exclusive_entry(&self) -> io::Result<&OtherEntry> {
        let entry = self.entry()?.as_ref();
        Ok(self.others.get_or_insert(entry))
    }

    /// ③ Tries `operation` first. After `WouldBlock` it leaves the task's waker here, where the
    /// next event finds it.
    #[inline]
    pub(crate) fn poll_with<'a, T>(
        &'a self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        ticket: Option<&mut Ticket<'a>>,
        operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_read_with(cx, fd, interest, ticket, operation, |_| false)
    }

    /// As `poll_with`. `is_short` returns whether the operation has read less than its buffer can
    /// hold, see [`Source::note_short_read`].
    #[inline(always)]
    pub(crate) fn poll_read_with<'a, T>(
        &'a self,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        mut ticket: Option<&mut Ticket<'a>>,
        mut operation: impl FnMut() -> io::Result<T>,
        is_short: impl Fn(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        let entry = self.home().unwrap_or_else(substitute_entry);
        let readiness = entry.readiness(interest);
        loop {
            while readiness.is_ready() {
                ready!(current::poll_charge(cx));
                if let Some(result) = readiness.attempt(&mut operation) {
                    if result.as_ref().is_ok_and(&is_short) {
                        self.clear_after_short_read(entry);
                    }
                    return Poll::Ready(result);
                }
                current::refund();
            }
            self.wait(entry, cx, fd, interest, ticket.as_deref_mut())?;
            // Cloning the waker is user code and may have turned the reactor. An event may have
            // come before the waker was there.
            if !readiness.is_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Leaves the task's waker, and arms the poller so that it reports the next event.
    #[inline(always)] // a call with these arguments costs as much as the body
    fn wait<'a>(
        &'a self,
        entry: LocalEntry<'a>,
        cx: &mut Context<'_>,
        fd: &impl AsFd,
        interest: Interest,
        ticket: Option<&mut Ticket<'a>>,
    ) -> io::Result<()> {
        if !entry.reports(interest) {
            return self.wait_and_register(entry, cx, fd.as_fd(), interest, ticket);
        }
        leave_waker(entry, cx, interest, ticket)?;
        rearm(entry, fd)
    }

    /// As `wait`, for a descriptor that the poller does not watch yet, or not for this interest.
    #[cold]
    #[inline(never)]
    fn wait_and_register<'a>(
        &'a self,
        known: LocalEntry<'a>,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
        ticket: Option<&mut Ticket<'a>>,
    ) -> io::Result<()> {
        check_driven_here()?;
        let entry = self.entry()?;
        let readiness = entry.readiness(interest);
        if entry.as_ref() != known.as_ref() {
            readiness.clear_ready(readiness.tick());
        }
        leave_waker(entry, cx, interest, ticket)?;
        self.arm(entry, fd, interest)?;
        if readiness.is_ready() {
            known.readiness(interest).assume_ready();
        }
        Ok(())
    }

    /// Registers the descriptor with the poller of this thread's reactor, once. A source that never
    /// waits costs no system call.
    pub(crate) fn arm(
        &self,
        entry: LocalEntry<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        if !entry.reports(interest) {
            let is_new = entry.registered.get() == Registered::Nothing;
            self.register(entry, fd, interest)?;
            if is_new {
                return Ok(()); // it is armed, even if nothing waits yet
            }
        }
        rearm(entry, &fd)
    }

    #[cold]
    fn register(
        &self,
        entry: LocalEntry<'_>,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> io::Result<()> {
        if entry.as_ref().remote().is_inherited() {
            return Err(fork::error(REACTOR));
        }
        let reactor = current_reactor()?;
        reactor.park().counters().add_registration();
        entry.fd.set(fd.as_raw_fd());
        let poller = reactor.poller();
        if self.is_exclusive() {
            if entry.registered.get() == Registered::Once {
                let _ = poller.remote().delete(fd); // if another thread has not removed it
            }
            poller.add_exclusive(fd, entry.key())?;
            entry.registered.set(Registered::Read);
        } else if self.make_home(entry, fd) {
            self.register_home(entry, poller, fd, interest)?;
        } else {
            entry.registered.set(Registered::Once);
            let (read, write) = entry.waits();
            poller.arm_once(fd, entry.key().once(), read, write)?;
        }
        Ok(())
    }

    fn register_home(
        &self,
        entry: LocalEntry<'_>,
        poller: &Poller,
        fd: BorrowedFd<'_>,
        mut interest: Interest,
    ) -> io::Result<()> {
        match entry.registered.get() {
            Registered::Nothing => poller.add(fd, entry.key(), interest)?,
            Registered::Once => {
                if entry.waits().1 {
                    interest = Interest::Write; // a task waits to write since before this wait
                }
                poller.set(fd, entry.key(), interest)?;
            }
            Registered::Read | Registered::Both => match poller.add_write(fd, entry.key()) {
                // Another thread has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    poller.add(fd, entry.key(), interest)?;
                }
                added => added?,
            },
        }
        entry.registered.set(match interest {
            Interest::Write => Registered::Both,
            _ => Registered::Read,
        });
        if self.home_ref() != Some(entry.as_ref()) {
            // Another reactor has become the home. It may have removed the descriptor before this
            // has added it. Its message wakes the tasks that wait here.
            let _ = poller.remote().delete(fd);
        }
        Ok(())
    }

    /// Makes the reactor of the entry the home of the source. Returns false if tasks wait in the
    /// home and here in turns.
    fn make_home(&self, entry: LocalEntry<'_>, fd: BorrowedFd<'_>) -> bool {
        while let Some(home) = self.home_ref().filter(|home| *home != entry.as_ref()) {
            if let Some(left) = entry.patience.get().checked_sub(1) {
                entry.patience.set(left);
                return false;
            }
            self.others.get_or_insert(home); // keeps it
            let new = entry.as_ref().to_owned();
            let (old, pointer) = (home.as_ptr(), new.as_ref().as_ptr());
            let swapped = self.home.compare_exchange(old, pointer, AcqRel, Acquire);
            if swapped.is_ok() {
                mem::forget(new); // `home` has the reference
                // SAFETY: `home` has given up this reference.
                drop(NonNull::new(old).map(|old| unsafe { OwnedEntry::from_ptr(old) }));
                self.deregister_elsewhere(home, fd);
                return true; // if it is taken over at once, `register_home` finds that
            }
        }
        true
    }

    /// Registers the source with EPOLLEXCLUSIVE, so that an event wakes only one of the pollers
    /// that watch the same socket. Must be called before anything waits, for a source that is only
    /// read.
    pub(crate) fn set_exclusive(&self) {
        self.is_exclusive.store(true, Relaxed);
    }

    /// Whether an event wakes only one of the pollers that watch the socket. Such a source is
    /// registered in each reactor where tasks wait for it.
    pub(crate) fn is_exclusive(&self) -> bool {
        HAS_EXCLUSIVE && self.is_exclusive.load(Relaxed)
    }

    /// Removes an exclusive source, for which nothing waits any more, from the poller. From now on
    /// its events wake other pollers. The next wait tries the operation first, then registers
    /// again.
    pub(crate) fn deregister_exclusive(&self, entry: LocalEntry<'_>, fd: BorrowedFd<'_>) {
        if self.is_exclusive() && entry.is_registered() {
            let _ = delete_local(entry, |poller| poller.delete(fd));
            entry.registered.set(Registered::Nothing);
            entry.readiness(Interest::Read).assume_ready();
        }
    }

    /// Removes the source from the poller of another reactor, and wakes the tasks that wait there.
    pub(crate) fn deregister_elsewhere(&self, entry: EntryRef<'_>, fd: BorrowedFd<'_>) {
        let evicted = Message::Evicted(entry.to_owned());
        post(entry, evicted, |poller| poller.delete(fd));
    }

    /// Re-registers as the last exclusive waiter. Pending readiness is reported again.
    pub(crate) fn rotate_exclusive_waiter(
        &self,
        entry: LocalEntry<'_>,
        fd: BorrowedFd<'_>,
    ) -> io::Result<()> {
        if self.is_exclusive() && entry.is_registered() {
            // It fails if another thread has just removed it.
            let _ = delete_local(entry, |poller| poller.delete(fd));
            // If this fails, the next task that waits tries again.
            entry.registered.set(Registered::Nothing);
            self.register(entry, fd, Interest::Read)?;
        }
        Ok(())
    }

    /// Removes the descriptor from all pollers, before it is closed, and releases the entries. Must
    /// be called once.
    #[inline]
    pub(crate) fn close(&self, fd: BorrowedFd<'_>) {
        self.release(|poller| poller.delete(fd));
    }

    /// As `close`. Then closes a simulated socket.
    #[cold]
    pub(crate) fn close_simulated(&self, fd: BorrowedFd<'_>) {
        self.release(|poller| poller.close(fd));
    }

    #[inline]
    fn release(&self, delete: impl Fn(&RemotePoller) -> io::Result<()>) {
        match self.home_ref() {
            None => {}
            Some(home) if self.others.is_empty() => self.release_entry(home, &delete),
            Some(home) => self.release_all(home, &delete),
        }
    }

    #[cold]
    fn release_all(&self, home: EntryRef<'_>, delete: &impl Fn(&RemotePoller) -> io::Result<()>) {
        if !self.others.contains(home) {
            self.release_entry(home, delete);
        }
        let others = self.others.iter();
        others.for_each(|other| self.release_entry(other.entry(), delete));
    }

    #[inline]
    fn release_entry(
        &self,
        entry: EntryRef<'_>,
        delete: &impl Fn(&RemotePoller) -> io::Result<()>,
    ) {
        let Some(entry) = local(entry) else {
            let released = Message::Released(entry.to_owned());
            return post(entry, released, delete);
        };
        if entry.is_registered() || self.is_simulated {
            // It fails only if other code has closed the descriptor, which deregisters it as well.
            let _ = delete_local(entry, delete);
        }
        let release = |reactor: Option<&ReactorInner>| Some(reactor?.release_source(entry));
        if let Some(waiters) = current::with_reactor(release) {
            waiters.discard(); // user code, after the borrow
        }
    }

    /// Leaves the task's waker for the end of a process, which is one event.
    #[cfg(windows)]
    pub(crate) fn wait_for_process(
        &self,
        cx: &mut Context<'_>,
        process: BorrowedHandle<'_>,
    ) -> io::Result<()> {
        let turn = check_driven_here()?;
        let entry = self.entry()?;
        entry.waiters.add(Interest::Read, cx.waker(), turn);
        if !entry.is_registered() {
            let reactor = current_reactor()?;
            reactor.poller().add_process(process, entry.key())?;
            entry.registered.set(Registered::Both);
        }
        Ok(())
    }

    /// Like `close`, for a process.
    #[cfg(windows)]
    pub(crate) fn close_process(&self, process: BorrowedHandle<'_>) {
        self.release(|poller| poller.delete_process(process));
    }

    /// Takes the waiters in this thread's reactor, which the caller wakes.
    pub(crate) fn take_waiters(&self) -> Vec<Waker> {
        let mut waiters = Vec::new();
        if let Some(entry) = self.existing_entry() {
            for interest in INTERESTS {
                entry.waiters.take(interest, &mut waiters);
            }
        }
        waiters
    }

    /// Acts as an event, for readiness that the poller does not report.
    #[cfg(windows)]
    pub(crate) fn wake_readers(&self) {
        let mut woken = Vec::new();
        let home = self.home_ref().into_iter();
        for entry in home.chain(self.others.iter().map(OtherEntry::entry)) {
            match local(entry) {
                Some(entry) => {
                    entry.readiness(Interest::Read).set_ready();
                    entry.waiters.take(Interest::Read, &mut woken);
                }
                None => post(entry, Message::Evicted(entry.to_owned()), |_| Ok(())),
            }
        }
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
        if let Some(entry) = self.home() {
            self.clear_after_short_read(entry);
        }
    }

    #[inline(always)]
    fn clear_after_short_read(&self, entry: LocalEntry<'_>) {
        if !entry.has(SHORT_READS_UNRELIABLE) && !self.is_exposed.load(Relaxed) {
            let readiness = entry.readiness(Interest::Read);
            readiness.clear_ready(readiness.tick());
        }
    }

    /// Records that code outside of this crate may have the descriptor. From then on short reads
    /// are unreliable, see [`Source::note_short_read`], and a linger time may be set.
    #[inline]
    pub(crate) fn note_exposed(&self) {
        self.has_no_linger.store(false, Relaxed);
        self.is_exposed.store(true, Relaxed);
    }

    /// Records whether the socket may have a linger time. [`Source::note_exposed`] overrides
    /// `false`.
    #[inline]
    pub(crate) fn set_may_linger(&self, may_linger: bool) {
        self.has_no_linger.store(!may_linger, Relaxed);
    }

    /// Whether the source belongs to a simulated host.
    #[inline]
    pub(crate) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// Whether the descriptor may be a socket with a linger time.
    #[inline]
    pub(crate) fn may_linger(&self) -> bool {
        !self.has_no_linger.load(Relaxed)
    }

    /// Tries an operation once. After `WouldBlock` the readiness is clear.
    pub(crate) fn try_with<T>(
        &self,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let entry = self.home().unwrap_or_else(substitute_entry);
        let result = entry.readiness(interest).attempt(&mut operation);
        result.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}

/// Leaves the task's waker with an entry, or returns an error if nothing would wake it.
#[inline(always)]
fn leave_waker<'a>(
    entry: LocalEntry<'a>,
    cx: &mut Context<'_>,
    interest: Interest,
    ticket: Option<&mut Ticket<'a>>,
) -> io::Result<()> {
    let turn = check_driven_here()?;
    match ticket {
        None => entry.waiters.add(interest, cx.waker(), turn),
        Some(ticket) => ticket.register(entry, interest, cx.waker(), turn),
    }
    Ok(())
}

/// Arms a one-shot source for its next event.
#[inline]
fn rearm(entry: LocalEntry<'_>, fd: &impl AsFd) -> io::Result<()> {
    current::with_reactor(|reactor| match reactor {
        None => Ok(()),
        Some(reactor) => reactor.poller().rearm(fd, || {
            let (read, write) = entry.waits();
            (entry.key(), read, write)
        }),
    })
}

/// Whether a simulated host is entered on this thread.
#[inline]
fn is_simulated() -> bool {
    #[cfg(all(target_os = "linux", not(windlass_portable)))]
    return crate::entered::is_simulated();
    #[cfg(not(all(target_os = "linux", not(windlass_portable))))]
    return false;
}

/// Whether the kernel may have more events for this loop than the last wait returned, because the
/// buffer for events was full.
pub(crate) fn may_have_missed_event() -> bool {
    current::with_reactor(|reactor| reactor.is_some_and(|reactor| reactor.poller().is_full()))
}

/// Changes the poller of the reactor of an entry, and posts a message about the entry.
#[cold]
fn post(
    entry: EntryRef<'_>,
    message: Message,
    change: impl FnOnce(&RemotePoller) -> io::Result<()>,
) {
    // Nothing is left to do if the reactor is gone, or the parent's.
    let _ = entry.remote().post(message, |poller| {
        // The descriptor is missing if nothing has waited there yet.
        let _ = change(poller);
    });
}

/// Removes the descriptor of an entry from the poller of this thread.
#[inline]
fn delete_local(
    entry: LocalEntry<'_>,
    delete: impl FnOnce(&RemotePoller) -> io::Result<()>,
) -> io::Result<()> {
    // A forked child shares the poller with its parent, where the parent's descriptor stays
    // registered.
    if entry.as_ref().remote().is_inherited() {
        return Err(fork::error(REACTOR));
    }
    current::with_reactor(|reactor| reactor.map_or(Ok(()), |it| delete(it.poller().remote())))
}

// Waits for priority and error conditions.
#[cfg(unix)]
impl Source {
    /// Leaves the task's waker for a condition.
    pub(crate) fn wait_for_condition<'a>(
        &'a self,
        entry: LocalEntry<'a>,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        condition: Interest,
    ) -> io::Result<()> {
        self.wait(entry, cx, &fd, condition, None)
    }
}

// Files that are always ready.
impl Source {
    /// Whether this is a file of `/proc` or `/sys`, which is always readable and has events for
    /// conditions only. Calls the system once. Must be called only when the descriptor is ready.
    pub(crate) fn is_always_ready(&self, fd: BorrowedFd<'_>) -> bool {
        let mut kind = self.file_kind.load(Relaxed);
        if kind == 0 {
            kind = match is_system_file(fd) {
                true => ALWAYS_READY,
                false => NOT_ALWAYS_READY,
            };
            self.file_kind.store(kind, Relaxed);
        }
        kind == ALWAYS_READY
    }
}

/// Acts as an event, for conditions that poll(2) has returned. Some files report them to the first
/// call only.
#[cold]
pub(crate) fn set_conditions(entry: LocalEntry<'_>, priority: bool, error: bool) {
    let mut woken = Vec::new();
    entry.set_conditions(priority, error, &mut woken);
    wake_all(woken);
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(home) = NonNull::new(*self.home.get_mut()) {
            // SAFETY: `make_entry` or `make_home` has forgotten this reference.
            drop(unsafe { OwnedEntry::from_ptr(home) });
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ready = |interest| {
            let is_ready = |entry: LocalEntry<'_>| entry.readiness(interest).is_ready();
            self.home().is_none_or(is_ready)
        };
        f.debug_struct("Source")
            .field("may_read", &is_ready(Interest::Read))
            .field("may_write", &is_ready(Interest::Write))
            .finish_non_exhaustive()
    }
}
