//! The common part of all listeners.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::panic::RefUnwindSafe;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, BorrowedFd};

use super::sys;
use crate::async_io::Async;
use crate::poller::Interest;
use crate::readiness::check;
use crate::source::Wait;
use crate::time::{Sleep, sleep_until};

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
    /// When to try again, after the system ran out of descriptors.
    pause: Cell<Option<Instant>>,
    shared: Shared,
}

/// The state of a listener that other pollers share.
#[derive(Debug, Default)]
struct Shared {
    /// A connection was accepted since the last wait.
    has_accepted: Cell<bool>,
    /// How many `Accepting` wait for an event.
    waiting: Cell<usize>,
    /// The tick of the last event after which an accept returned a connection or found none.
    answered: Cell<u32>,
}

// The cells change in single steps, and no user code runs in between.
impl<L: AsFd> RefUnwindSafe for Acceptor<L> {}

impl<L: AsFd> Acceptor<L> {
    pub(super) fn new(io: Async<L>) -> Self {
        Acceptor {
            io,
            pause: Cell::new(None),
            shared: Shared::default(),
        }
    }

    pub(super) async fn accept<T>(&self, make: Make<T>) -> io::Result<T> {
        let mut accepting = Accepting::new(self);
        poll_fn(|cx| accepting.poll(cx, make)).await
    }

    pub(super) fn try_accept<T>(&self, make: Make<T>) -> io::Result<T> {
        let may_linger = self.io.source().may_linger();
        self.io
            .try_read_with(|listener| make(listener.as_fd(), may_linger))
    }

    /// Records that the event of `tick` has led to an accept, so the other pollers need no wake for
    /// it.
    fn note_answer<T>(&self, tick: u32, accepted: &Poll<io::Result<T>>) {
        let is_answer = match accepted {
            Poll::Ready(accepted) => accepted.is_ok(),
            // Otherwise the budget of the task is used up.
            Poll::Pending => !self.io.source().readiness(Interest::Read).is_ready(),
        };
        if is_answer {
            self.shared.answered.set(tick);
        }
        if accepted.is_ready() && is_answer {
            self.shared.has_accepted.set(true);
        }
    }

    #[cold]
    fn stop_waiting(&self) {
        let waiting = self.shared.waiting.get() - 1;
        self.shared.waiting.set(waiting);
        if waiting == 0 {
            self.withdraw();
        }
    }

    /// Leaves the shared listener to the other pollers after the last wait has ended here. If an
    /// event may have woken this poller alone, and its connection is still in the queue, wakes the
    /// others.
    fn withdraw(&self) {
        let (source, shared) = (self.io.source(), &self.shared);
        shared.has_accepted.set(false);
        source.deregister_exclusive(self.io.as_fd());
        let tick = source.readiness(Interest::Read).tick();
        if tick != shared.answered.get() || source.may_have_missed_event() {
            shared.answered.set(tick);
            hand_over(self.io.as_fd());
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
    /// It is counted in [`Shared::waiting`].
    is_counted: bool,
    /// The pause. Each wait has its own timer.
    sleep: Option<Sleep>,
}

impl<'a, L: AsFd> Accepting<'a, L> {
    pub(super) fn new(acceptor: &'a Acceptor<L>) -> Self {
        Accepting {
            acceptor,
            wait: Wait::new(acceptor.io.source(), Interest::Read),
            is_counted: false,
            sleep: None,
        }
    }

    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, make: Make<T>) -> Poll<io::Result<T>> {
        let acceptor = self.acceptor;
        loop {
            if let Some(until) = acceptor.pause.get() {
                self.stop_waiting();
                let sleep = self.sleep.get_or_insert_with(|| sleep_until(until));
                ready!(sleep.poll_io(cx)?);
                acceptor.pause.set(None);
            }
            self.sleep = None;
            match self.poll_once(cx, make) {
                Poll::Pending => {
                    self.start_waiting()?;
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) if sys::is_lost_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    acceptor.pause.set(crate::clock::now().checked_add(PAUSE));
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
        let acceptor = self.acceptor;
        let (source, listener) = (acceptor.io.source(), acceptor.io.get_ref());
        let tick = source.readiness(Interest::Read).tick();
        let accept = || make(listener.as_fd(), source.may_linger());
        let accepted = self.wait.poll_with(cx, listener, accept);
        if source.is_exclusive() {
            acceptor.note_answer(tick, &accepted);
        }
        accepted
    }

    fn start_waiting(&mut self) -> io::Result<()> {
        let (io, shared) = (&self.acceptor.io, &self.acceptor.shared);
        if !io.source().is_exclusive() {
            return Ok(());
        }
        if !mem::replace(&mut self.is_counted, true) {
            shared.waiting.set(shared.waiting.get() + 1);
        }
        if shared.has_accepted.take() {
            // The next connection is for another poller, if there are others. If this is the only
            // wait here, it has registered the listener again, as the last of them.
            io.source().rotate_exclusive_waiter(io.as_fd())?;
        }
        Ok(())
    }

    #[inline]
    fn stop_waiting(&mut self) {
        if mem::take(&mut self.is_counted) {
            self.acceptor.stop_waiting();
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
            pub(super) fn new(io: crate::async_io::Async<$std>) -> $listener {
                let acceptor = Acceptor::new(io);
                $listener { acceptor }
            }

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

            /// Accepts a connection that is there, without waiting.
            ///
            /// # Errors
            ///
            /// Returns `WouldBlock` if there is none. The other errors are as of `accept`, also
            /// those of a connection that was lost.
            pub fn try_accept(&self) -> std::io::Result<($stream, $addr)> {
                self.acceptor.try_accept($make)
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

            /// Takes the socket out, still non-blocking, for example for another thread.
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
                Ok($listener::new(crate::async_io::Async::new_nonblocking(listener)?))
            }
        }

        crate::async_io::gives_descriptor!([] $listener, acceptor.io.expose());
    };
}
pub(super) use listener;
