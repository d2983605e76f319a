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
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};

use crate::source::{Interest, Source};

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
        Readable(Readiness {
            source,
            fd,
            interest: Interest::Read,
            waiting_since: None,
        })
    }
}

impl<'a> Writable<'a> {
    pub(crate) fn new(source: &'a Source, fd: BorrowedFd<'a>) -> Self {
        Writable(Readiness {
            source,
            fd,
            interest: Interest::Write,
            waiting_since: None,
        })
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
    source: &'a Source,
    fd: BorrowedFd<'a>,
    interest: Interest,
    /// The number of the last event before this began to wait.
    waiting_since: Option<u32>,
}

impl Readiness<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let direction = self.source.direction(self.interest);
        if self
            .waiting_since
            .is_some_and(|since| since != direction.events())
        {
            return Poll::Ready(Ok(())); // an event has come
        }
        let polled = poll_ready(self.source, self.fd, self.interest, cx);
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
    source.poll_with(cx, &fd, interest, || look(fd, interest))
}

/// Asks the system whether the descriptor is ready, without waiting.
///
/// After an event one could take it for granted. But somebody may have read by other ways, and
/// `readable` promises more than "perhaps".
pub(crate) fn look(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
    let flags = match interest {
        // Windows refuses to be asked about urgent data.
        Interest::Read if cfg!(windows) => PollFlags::IN,
        Interest::Read => PollFlags::IN | PollFlags::PRI,
        Interest::Write => PollFlags::OUT,
    };
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(
        &mut [PollFd::from_borrowed_fd(fd.as_fd(), flags)],
        Some(&at_once),
    )? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

impl fmt::Debug for Readiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("interest", &self.interest)
            .field("waiting", &self.waiting_since.is_some())
            .finish_non_exhaustive()
    }
}
