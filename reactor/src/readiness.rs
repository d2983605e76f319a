//! Waiting for readiness: the leaf futures to learn from.
//!
//! A leaf future is where an `.await` ends: it waits for something outside, not for another
//! future. Its `poll` looks whether what it waits for is there. If so it's `Ready`. If not, it
//! leaves the task's waker where the event will find it, and is `Pending`. That is all; the rest
//! of this crate is about finding the waker again.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
#[cfg(unix)]
use std::task::ready;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};

#[cfg(unix)]
use crate::source::News;
use crate::source::{Interest, Source};
use crate::ticket::Wait;

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
    /// The number of the last event before this began to wait.
    waiting_since: Option<u32>,
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
        let direction = source.direction(interest);
        if source.skip_registration_event() {
            self.waiting_since = None;
        }
        if self
            .waiting_since
            .is_some_and(|since| since != direction.events())
        {
            settle(source, self.fd, interest, direction.events());
            return Poll::Ready(Ok(())); // an event has come
        }
        let events = direction.events();
        let look = || look_and_note(source, self.fd, interest);
        let polled = source.poll_with(cx, &self.fd, interest, self.wait.ticket(), look);
        if let Poll::Ready(Ok(())) = polled {
            settle(source, self.fd, interest, events);
        }
        self.waiting_since = Some(direction.events());
        polled
    }
}

/// Ready if the system says so now; leaves the waker otherwise.
pub(crate) fn poll_ready(
    source: &Source,
    fd: BorrowedFd<'_>,
    interest: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    source.skip_registration_event();
    let events = source.direction(interest).events();
    let look = || look_and_note(source, fd, interest);
    let polled = source.poll_with(cx, &fd, interest, None, look);
    if let Poll::Ready(Ok(())) = polled {
        settle(source, fd, interest, events);
    }
    polled
}

fn look_and_note(source: &Source, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
    let found = revents(fd, flags(interest))?;
    note(source, found);
    is_ready(found)
}

/// A file that is always ready reports news by events alone: so each event is reported once.
fn settle(source: &Source, fd: BorrowedFd<'_>, interest: Interest, events: u32) {
    if interest == Interest::Read && source.is_always_ready(fd) {
        source.set_reported(events);
    }
}

/// Waits for priority news or for errors. It isn't ready for what was reported before.
#[cfg(unix)]
pub(crate) struct NewsWait<'a> {
    source: &'a Source,
    fd: BorrowedFd<'a>,
    news: News,
    /// The number of the last event before this began to wait.
    waiting_since: Option<u32>,
}

#[cfg(unix)]
impl<'a> NewsWait<'a> {
    pub(crate) fn new(source: &'a Source, fd: BorrowedFd<'a>, news: News) -> Self {
        NewsWait {
            source,
            fd,
            news,
            waiting_since: None,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let events = self.source.news_events(self.news);
        if self.waiting_since.is_some_and(|since| since != events) {
            self.source.take_news(self.news);
            return Poll::Ready(Ok(())); // an event has come
        }
        let polled = poll_news(self.source, self.fd, self.news, cx);
        self.waiting_since = Some(self.source.news_events(self.news));
        polled
    }
}

/// Ready if there is news; leaves the waker otherwise.
///
/// Most descriptors report news until the program has taken it. A file of `/proc` or `/sys` may
/// report it to the first look only, and the poller looks as well: there the event is the news.
#[cfg(unix)]
pub(crate) fn poll_news(
    source: &Source,
    fd: BorrowedFd<'_>,
    news: News,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // A condition that lasts would otherwise keep the task running.
    ready!(source.poll_charge(cx));
    let polled = poll_news_unlimited(source, fd, news, cx);
    if polled.is_pending() {
        source.refund();
    }
    polled
}

#[cfg(unix)]
fn poll_news_unlimited(
    source: &Source,
    fd: BorrowedFd<'_>,
    news: News,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        if source.take_news(news) && source.is_always_ready(fd) {
            return Poll::Ready(Ok(()));
        }
        let wanted = match news {
            News::Priority => PollFlags::PRI,
            News::Error => PollFlags::empty(), // the system reports errors always
        };
        note(source, revents(fd, wanted)?);
        if source.take_news(news) {
            return Poll::Ready(Ok(()));
        }
        source.wait_for_news(cx, fd, news)?;
        // Cloning the waker is user code and may have turned the reactor.
        if !source.has_news(news) {
            return Poll::Pending;
        }
    }
}

/// Asks the system whether the descriptor is ready, without waiting.
///
/// After an event one could take it for granted. But somebody may have read by other ways, and
/// `readable` promises more than "perhaps".
pub(crate) fn look(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
    is_ready(revents(fd, flags(interest))?)
}

fn flags(interest: Interest) -> PollFlags {
    match interest {
        // Windows refuses to be asked about urgent data.
        Interest::Read if cfg!(windows) => PollFlags::IN,
        Interest::Read => PollFlags::IN | PollFlags::PRI,
        Interest::Write => PollFlags::OUT,
    }
}

fn is_ready(found: PollFlags) -> io::Result<()> {
    if found.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

fn revents(fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<PollFlags> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut asked = [PollFd::from_borrowed_fd(fd.as_fd(), wanted)];
    poll(&mut asked, Some(&at_once))?;
    Ok(asked[0].revents())
}

/// What a look has found may be news for others.
fn note(source: &Source, found: PollFlags) {
    if found.intersects(PollFlags::PRI | PollFlags::ERR) {
        source.note_news(
            found.contains(PollFlags::PRI),
            found.contains(PollFlags::ERR),
        );
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
