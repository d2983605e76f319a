//! The common part of all listeners.

use std::future::poll_fn;
use std::io;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd};

use super::sys;
use crate::async_io::Async;
use crate::clock::MonotonicNanos;
use crate::current::local;
use crate::entry::LocalEntry;
use crate::other_entries::{ExclusiveWaits, OtherEntry};
use crate::poller::Interest;
use crate::readiness::check;
use crate::source::may_have_missed_event;
use crate::source_wait::Wait;
use crate::time::Sleep;

/// How long a listener pauses when the system has no file descriptor left for a connection.
///
/// The connection stays in the queue, so the next `accept` would fail at once, and no event reports
/// that a descriptor is free again.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
///
/// A listener that other pollers share is registered only while a task waits for a connection,
/// because each event wakes one poller, which must then accept.
#[derive(Debug)]
pub(super) struct Acceptor<L: AsFd> {
    pub(super) io: Async<L>,
    /// When to try again, after the system ran out of descriptors (ns), or zero.
    pause: AtomicU64,
}

impl<L: AsFd> Acceptor<L> {
    pub(super) fn new(io: Async<L>) -> Self {
        let pause = AtomicU64::new(0);
        Acceptor { io, pause }
    }

    pub(super) async fn accept<T>(&self, make: Make<T>) -> io::Result<T> {
        let mut accepting = Accepting::new(self);
        poll_fn(|cx| accepting.poll(cx, make)).await
    }

    /// Called when one of the waits in the reactor of this entry has ended.
    #[cold]
    fn stop_waiting(&self, entry: &OtherEntry) {
        if entry.waits.waiting.fetch_sub(1, AcqRel) == 1 {
            entry.waits.has_accepted.store(false, Relaxed);
            match local(entry.entry()) {
                Some(local) => self.withdraw(local, &entry.waits),
                None => {
                    let listener = self.io.as_fd();
                    self.io
                        .source()
                        .deregister_elsewhere(entry.entry(), listener);
                    hand_over(listener);
                }
            }
        }
    }

    /// Leaves the shared listener to the other pollers after the last wait has ended here. If an
    /// event may have woken this poller alone, and its connection is still in the queue, wakes the
    /// others.
    fn withdraw(&self, entry: LocalEntry<'_>, waits: &ExclusiveWaits) {
        self.io
            .source()
            .deregister_exclusive(entry, self.io.as_fd());
        let tick = entry.readiness(Interest::Read).tick();
        if tick != waits.answered.swap(tick, Relaxed) || may_have_missed_event() {
            hand_over(self.io.as_fd());
        }
    }
}

/// Records that the event of `tick` has led to an accept, so the other pollers need no wake for it.
fn note_answer<T>(entry: &OtherEntry, tick: u32, accepted: &Poll<io::Result<T>>) {
    let is_answer = match accepted {
        Poll::Ready(accepted) => accepted.is_ok(),
        // Otherwise the budget of the task is used up.
        Poll::Pending => {
            local(entry.entry()).is_some_and(|it| !it.readiness(Interest::Read).is_ready())
        }
    };
    if is_answer {
        entry.waits.answered.store(tick, Relaxed);
        if accepted.is_ready() {
            entry.waits.has_accepted.store(true, Relaxed);
        }
    }
}

/// Wakes all pollers that share a listener, if a connection is in its queue.
///
/// The kernel wakes one of them when a connection arrives. It wakes no other one later, even if the
/// first deregisters or registers again. A shutdown of a TCP listener for writing wakes all its
/// pollers and has no other effect.
#[cold]
fn hand_over(listener: BorrowedFd<'_>) {
    if check(listener, Interest::Read).is_ok() {
        sys::wake_pollers(listener);
    }
}

/// The wait for a connection. While it is pending, the listener is registered, unless it pauses.
#[derive(Debug)]
pub(super) struct Accepting<'a, L: AsFd> {
    acceptor: &'a Acceptor<L>,
    wait: Wait<'a>,
    /// The entry that counts it in [`ExclusiveWaits::waiting`].
    counted: Option<&'a OtherEntry>,
    /// The pause. Each wait has its own timer.
    sleep: Option<Sleep>,
}

impl<'a, L: AsFd> Accepting<'a, L> {
    pub(super) fn new(acceptor: &'a Acceptor<L>) -> Self {
        Accepting {
            acceptor,
            wait: Wait::new(acceptor.io.source(), Interest::Read),
            counted: None,
            sleep: None,
        }
    }

    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, make: Make<T>) -> Poll<io::Result<T>> {
        let pause = &self.acceptor.pause;
        loop {
            if let until @ 1.. = pause.load(Relaxed) {
                self.stop_waiting();
                let until = MonotonicNanos::from_u64(until);
                let sleep = self.sleep.get_or_insert_with(|| Sleep::until(until));
                ready!(sleep.poll_io(cx)?);
                pause.store(0, Relaxed);
            }
            self.sleep = None;
            match self.poll_once(cx, make) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if sys::is_lost_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    let until = MonotonicNanos::now().after(PAUSE);
                    pause.store(until.as_u64(), Relaxed);
                    self.stop_waiting();
                    return Poll::Ready(Err(error));
                }
                accepted => {
                    self.stop_waiting();
                    return accepted;
                }
            }
        }
    }

    /// Tries once, or waits for an event.
    #[inline]
    fn poll_once<T>(&mut self, cx: &mut Context<'_>, make: Make<T>) -> Poll<io::Result<T>> {
        let (source, listener) = (self.acceptor.io.source(), self.acceptor.io.get_ref());
        let accept = || make(listener.as_fd(), source.may_linger());
        if !source.is_exclusive() {
            return self.wait.poll_with(cx, listener, accept);
        }
        let entry = source.exclusive_entry()?;
        let tick = local(entry.entry()).map_or(0, |it| it.readiness(Interest::Read).tick());
        let accepted = self.wait.poll_with(cx, listener, accept);
        note_answer(entry, tick, &accepted);
        if accepted.is_pending() {
            self.start_waiting(entry)?;
        }
        accepted
    }

    fn start_waiting(&mut self, entry: &'a OtherEntry) -> io::Result<()> {
        if self.counted.is_none_or(|counted| !ptr::eq(counted, entry)) {
            self.stop_waiting(); // on another thread
            entry.waits.waiting.fetch_add(1, AcqRel);
            self.counted = Some(entry);
        }
        if entry.waits.has_accepted.load(Relaxed) {
            entry.waits.has_accepted.store(false, Relaxed);
            // The next connection is for another poller, if there are others. If this is the only
            // wait here, it has registered the listener again, as the last of them.
            if let Some(local) = local(entry.entry()) {
                let io = &self.acceptor.io;
                io.source().rotate_exclusive_waiter(local, io.as_fd())?;
            }
        }
        Ok(())
    }

    #[inline]
    fn stop_waiting(&mut self) {
        if let Some(entry) = self.counted.take() {
            self.acceptor.stop_waiting(entry);
        }
    }
}

impl<L: AsFd> Drop for Accepting<'_, L> {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

/// Accepts one connection and makes a stream of it, with its peer's address. The last argument is
/// true if the connection may inherit a linger time from the listener.
pub(super) type Make<T> = fn(BorrowedFd<'_>, bool) -> io::Result<T>;

/// The methods and traits of a listener, which is a struct around an `Acceptor`, and its stream of
/// connections. `$make` is a `Make<($stream, $addr)>`.
macro_rules! listener {
    ($listener:ident, $stream:ident, $addr:ty, $std:ty, $make:path) => {
        impl $listener {
            /// Waits for a connection.
            ///
            /// # Errors
            ///
            /// Returns an error when no file descriptor or memory is left (`EMFILE` and similar).
            /// The next call then waits for 50 ms before it tries again, so a loop that logs errors
            /// and continues neither spins nor stops accepting. A connection that was lost before
            /// it was accepted is skipped.
            ///
            /// # Cancel safety
            ///
            /// No connection is lost when the future is dropped. The next call accepts it or, if
            /// the listener is [shared](crate::net::TcpListener::share), another loop.
            pub async fn accept(&self) -> std::io::Result<($stream, $addr)> {
                self.acceptor.accept($make).await
            }

            #[doc = concat!(
                "Returns an endless stream of connections, each as from [`accept`](",
                stringify!($listener), "::accept)."
            )]
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming {
                    accepting: Accepting::new(&self.acceptor),
                }
            }

            /// Returns the address that it listens on.
            ///
            /// # Errors
            ///
            /// Returns the errors of the system.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                $crate::net::sys::local_addr(self.acceptor.io.get_ref())
            }

            /// Takes the socket out, still non-blocking, for example for another runtime.
            ///
            /// # Errors
            ///
            /// Fails in a simulation.
            pub fn into_std(self) -> std::io::Result<$std> {
                self.acceptor.io.into_inner()
            }
        }

        #[doc = concat!("The stream of [`", stringify!($listener), "::incoming`].")]
        #[derive(Debug)]
        #[must_use = "streams do nothing unless polled"]
        pub struct Incoming<'a> {
            accepting: Accepting<'a, $std>,
        }

        impl futures_core::Stream for Incoming<'_> {
            type Item = std::io::Result<$stream>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                let accepted = self.accepting.poll(cx, $make);
                accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
            }
        }

        impl TryFrom<$std> for $listener {
            type Error = std::io::Error;

            fn try_from(listener: $std) -> std::io::Result<$listener> {
                listener.set_nonblocking(true)?;
                let io = crate::async_io::Async::new_nonblocking(listener)?;
                Ok($listener { acceptor: Acceptor::new(io) })
            }
        }

        crate::async_io::gives_descriptor!([] $listener, acceptor.io.expose());
    };
}
pub(super) use listener;
