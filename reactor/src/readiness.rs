//! Futures that wait for readiness.
//!
//! These are leaf futures. They wait for an event of the poller rather than for another future.
//! `poll` checks whether the event has come. If so, it returns `Ready`. If not, it leaves the
//! task's waker with the source of the event, and returns `Pending`. When the event arrives, the
//! turn of the reactor takes the waker from the source and calls it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
#[cfg(unix)]
use std::task::ready;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};

use crate::always_ready::{set_reported, skip_registration_event};
#[cfg(unix)]
use crate::current;
use crate::entry::{EntryRef, LocalEntry};
use crate::poller::Interest;
use crate::source::{Source, set_conditions};
use crate::source_wait::Wait;

/// The future of [`Async::readable`](crate::Async::readable) and of the `readable` of sockets.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Readable<'a>(Readiness<'a>);

/// The future of [`Async::writable`](crate::Async::writable) and of the `writable` of sockets.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited or polled"]
pub struct Writable<'a>(Readiness<'a>);

impl<'a> Readable<'a> {
    pub(crate) fn new(source: &'a Source, fd: BorrowedFd<'a>) -> Self {
        Readable(Readiness::new(source, fd, Interest::Read))
    }
}

impl<'a> Writable<'a> {
    pub(crate) fn new(source: &'a Source, fd: BorrowedFd<'a>) -> Self {
        Writable(Readiness::new(source, fd, Interest::Write))
    }
}

impl Future for Readable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(cx)
    }
}

impl Future for Writable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(cx)
    }
}

struct Readiness<'a> {
    wait: Wait<'a>,
    fd: BorrowedFd<'a>,
    waiting_since: Since<'a>,
}

/// The entry and its tick when a future began to wait. On another thread, and after another reactor
/// has become the home of the source, it begins again.
type Since<'a> = Option<(EntryRef<'a>, u32)>;

/// Whether an event has come.
fn has_event(since: Since<'_>, entry: LocalEntry<'_>, tick: u32) -> bool {
    since.is_some_and(|(known, since)| known == entry.as_ref() && since != tick)
}

impl<'a> Readiness<'a> {
    fn new(source: &'a Source, fd: BorrowedFd<'a>, interest: Interest) -> Self {
        Readiness {
            wait: Wait::new(source, interest),
            fd,
            waiting_since: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (source, interest) = (self.wait.source(), self.wait.interest());
        let (fd, entry) = (self.fd, source.entry()?);
        if skip_registration_event(entry) {
            self.waiting_since = None;
        }
        let tick = entry.readiness(interest).tick();
        if has_event(self.waiting_since, entry, tick) {
            settle(source, entry, fd, interest, tick);
            return Poll::Ready(Ok(()));
        }
        let check = || check_and_note(entry, fd, interest);
        let polled = self.wait.poll_with(cx, &fd, check);
        if let Poll::Ready(Ok(())) = polled {
            settle(source, entry, fd, interest, tick);
        }
        self.waiting_since = Some((entry.as_ref(), entry.readiness(interest).tick()));
        polled
    }
}

/// Returns `Ready` if the system reports the descriptor ready. Otherwise leaves the waker.
pub(crate) fn poll_ready(
    source: &Source,
    fd: BorrowedFd<'_>,
    interest: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let entry = source.entry()?;
    skip_registration_event(entry);
    let tick = entry.readiness(interest).tick();
    let check = || check_and_note(entry, fd, interest);
    let polled = source.poll_with(cx, &fd, interest, None, check);
    if let Poll::Ready(Ok(())) = polled {
        settle(source, entry, fd, interest, tick);
    }
    polled
}

fn check_and_note(entry: LocalEntry<'_>, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
    let revents = revents(fd, flags(interest))?;
    note(entry, revents);
    would_block_if_empty(revents)
}

/// Reports each event of an always ready file once.
fn settle(
    source: &Source,
    entry: LocalEntry<'_>,
    fd: BorrowedFd<'_>,
    interest: Interest,
    tick: u32,
) {
    if interest == Interest::Read && source.is_always_ready(fd) {
        set_reported(entry, tick);
    }
}

/// Waits for a priority or error condition.
#[cfg(unix)]
pub(crate) struct ConditionWait<'a> {
    source: &'a Source,
    fd: BorrowedFd<'a>,
    condition: Interest,
    waiting_since: Since<'a>,
}

#[cfg(unix)]
impl<'a> ConditionWait<'a> {
    pub(crate) fn new(source: &'a Source, fd: BorrowedFd<'a>, condition: Interest) -> Self {
        ConditionWait {
            source,
            fd,
            condition,
            waiting_since: None,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let entry = self.source.entry()?;
        let readiness = entry.readiness(self.condition);
        if has_event(self.waiting_since, entry, readiness.tick()) {
            readiness.take_ready();
            return Poll::Ready(Ok(()));
        }
        let polled = poll_condition(self.source, self.fd, self.condition, cx);
        self.waiting_since = Some((entry.as_ref(), readiness.tick()));
        polled
    }
}

/// Returns `Ready` if the condition holds. Otherwise leaves the waker.
///
/// Most descriptors report a condition until the program has dealt with it. A file of `/proc` or
/// `/sys` may report it to the first poll(2) only. The poller's own check may have been the first,
/// so there the event alone is proof.
#[cfg(unix)]
pub(crate) fn poll_condition(
    source: &Source,
    fd: BorrowedFd<'_>,
    condition: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // A task that waits for a lasting condition in a loop must not keep the reactor busy.
    ready!(current::poll_charge(cx));
    let polled = poll_condition_unlimited(source, fd, condition, cx);
    if polled.is_pending() {
        current::refund();
    }
    polled
}

#[cfg(unix)]
fn poll_condition_unlimited(
    source: &Source,
    fd: BorrowedFd<'_>,
    condition: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let entry = source.entry()?;
    let readiness = entry.readiness(condition);
    loop {
        if readiness.take_ready() && source.is_always_ready(fd) {
            return Poll::Ready(Ok(()));
        }
        note(entry, revents(fd, flags(condition))?);
        if readiness.take_ready() {
            return Poll::Ready(Ok(()));
        }
        source.wait_for_condition(entry, cx, fd, condition)?;
        // Cloning the waker is user code and may have turned the reactor.
        if !readiness.is_ready() {
            return Poll::Pending;
        }
    }
}

/// Checks by poll(2) whether the descriptor is ready. Returns `WouldBlock` otherwise.
///
/// Needed after an event, because other code may have read from the descriptor since.
pub(crate) fn check(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
    would_block_if_empty(revents(fd, flags(interest))?)
}

fn flags(interest: Interest) -> PollFlags {
    match interest {
        // Windows refuses a request for urgent data.
        Interest::Read if cfg!(windows) => PollFlags::IN,
        Interest::Read => PollFlags::IN | PollFlags::PRI,
        Interest::Write => PollFlags::OUT,
        Interest::Priority => PollFlags::PRI,
        Interest::Error => PollFlags::empty(), // the system always reports errors
    }
}

fn would_block_if_empty(revents: PollFlags) -> io::Result<()> {
    if revents.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

fn revents(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), events)];
    poll(&mut fds, Some(&Timespec::default()))?;
    match fds[0].revents() {
        // A closed descriptor, or the placeholder of a simulated socket.
        revents if revents.contains(PollFlags::NVAL) => simulated_revents(fd, events, revents),
        revents => Ok(revents),
    }
}

#[cfg(all(target_os = "linux", not(windlass_portable)))]
#[cold]
fn simulated_revents(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    revents: PollFlags,
) -> io::Result<PollFlags> {
    let Some(system) = crate::entered::current_system() else {
        return Ok(revents);
    };
    let ready = system.readiness(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    let mut revents = PollFlags::empty();
    revents.set(PollFlags::IN, ready.readable);
    revents.set(PollFlags::OUT, ready.writable);
    revents.set(PollFlags::PRI, ready.priority);
    revents.set(PollFlags::HUP, ready.hung_up);
    revents.set(PollFlags::ERR, ready.error);
    Ok(revents & (events | PollFlags::HUP | PollFlags::ERR))
}

#[cfg(not(all(target_os = "linux", not(windlass_portable))))]
fn simulated_revents(_: BorrowedFd<'_>, _: PollFlags, revents: PollFlags) -> io::Result<PollFlags> {
    Ok(revents)
}

/// Passes conditions on to the tasks that wait for them.
fn note(entry: LocalEntry<'_>, revents: PollFlags) {
    let (priority, error) = (PollFlags::PRI, PollFlags::ERR);
    if revents.intersects(priority | error) {
        set_conditions(entry, revents.contains(priority), revents.contains(error));
    }
}

impl fmt::Debug for Readiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("interest", &self.wait.interest())
            .field("waiting", &self.waiting_since.is_some())
            .finish_non_exhaustive()
    }
}
