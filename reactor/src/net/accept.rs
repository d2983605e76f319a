//! What the listeners share.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::panic::RefUnwindSafe;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys::{self, SocketAddrAny, is_lost_connection};
use crate::async_io::Async;
use crate::poller::Interest;
use crate::readiness::check;

use crate::source::Wait;
use crate::time::{Sleep, sleep_until};

/// How long an accept loop rests when the system has no descriptor left for a connection.
///
/// Such a connection stays in the queue, so the next try would fail at once, and the one after it.
/// It isn't told either when a descriptor gets free. So it is tried again after a while.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
///
/// If other pollers share it, it's registered only while something waits for a connection: each
/// event wakes one poller, and none may wake for nothing while a connection is in the queue.
#[derive(Debug)]
pub(super) struct Acceptor<L: AsFd> {
    pub(super) io: Async<L>,
    /// When to try again, after the system ran out of descriptors.
    pause: Cell<Option<Instant>>,
    /// A connection was accepted since this last waited.
    served: Cell<bool>,
    /// How many `Accepting` wait for an event.
    waiting: Cell<usize>,
    /// The number of the last event after which an accept gave a connection, or found none.
    answered: Cell<u32>,
}

// Its cells are changed by single steps, and no user code runs in between.
impl<L: AsFd> RefUnwindSafe for Acceptor<L> {}

impl<L: AsFd> Acceptor<L> {
    pub(super) fn new(io: Async<L>) -> Self {
        Acceptor {
            io,
            pause: Cell::new(None),
            served: Cell::new(false),
            waiting: Cell::new(0),
            answered: Cell::new(0),
        }
    }

    pub(super) async fn accept<T>(&self, make: Make<T>) -> io::Result<T> {
        let mut accepting = Accepting::new(self);
        poll_fn(|cx| accepting.poll(cx, make)).await
    }

    /// One try, or the wait for an event.
    fn poll_once<T>(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait<'_>,
        make: Make<T>,
    ) -> Poll<io::Result<T>> {
        let (source, listener) = (self.io.source(), self.io.get_ref());
        let read = source.readiness(Interest::Read);
        let event = read.tick();
        let accepted = wait.poll_with(cx, listener, || {
            let (socket, peer) = sys::accept(listener.as_fd())?;
            make(socket, peer, source.may_linger())
        });
        let is_answer = match &accepted {
            Poll::Ready(accepted) => accepted.is_ok(),
            Poll::Pending => !read.is_ready(), // otherwise its budget is used up
        };
        if is_answer {
            self.answered.set(event);
        }
        accepted
    }

    /// Nothing waits for a connection any more. Should an event have woken this poller alone, and
    /// its connection still be in the queue, then the other pollers are woken.
    fn withdraw(&self) {
        let source = self.io.source();
        if !source.is_exclusive() {
            return;
        }
        self.served.set(false);
        source.deregister_exclusive(self.io.as_fd());
        let event = source.readiness(Interest::Read).tick();
        if event != self.answered.get() || source.may_have_missed_event() {
            self.answered.set(event);
            hand_on(self.io.as_fd());
        }
    }
}

/// Wakes all pollers that share a listener, if a connection is in its queue.
///
/// The kernel wakes one of them when a connection comes, and no other later on, neither when that
/// one deregisters nor when it registers again. But to shut down a TCP listener for writing, which
/// changes nothing, wakes all that poll it (`inet_shutdown`).
#[cold]
fn hand_on(listener: BorrowedFd<'_>) {
    if check(listener, Interest::Read).is_ok() {
        sys::wake_pollers(listener);
    }
}

/// Waits for a connection. While it's pending, the listener is registered, unless it pauses.
#[derive(Debug)]
pub(super) struct Accepting<'a, L: AsFd> {
    acceptor: &'a Acceptor<L>,
    wait: Wait<'a>,
    /// It counts among those that wait.
    waits: bool,
    /// The pause. Each that waits has its own.
    sleep: Option<Sleep>,
}

impl<'a, L: AsFd> Accepting<'a, L> {
    pub(super) fn new(acceptor: &'a Acceptor<L>) -> Self {
        Accepting {
            acceptor,
            wait: Wait::new(acceptor.io.source(), Interest::Read),
            waits: false,
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
            match acceptor.poll_once(cx, &mut self.wait, make) {
                Poll::Pending => {
                    self.start_waiting()?;
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) if is_lost_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    acceptor.pause.set(crate::clock::now().checked_add(PAUSE));
                    self.stop_waiting();
                    return Poll::Ready(Err(error));
                }
                accepted => {
                    acceptor.served.set(true);
                    self.stop_waiting();
                    return accepted;
                }
            }
        }
    }

    fn start_waiting(&mut self) -> io::Result<()> {
        if !mem::replace(&mut self.waits, true) {
            self.acceptor.waiting.set(self.acceptor.waiting.get() + 1);
        }
        if self.acceptor.served.take() {
            // The next connection is for another poller, if there are others. Without others that
            // wait here, the listener was registered anew by now.
            let io = &self.acceptor.io;
            io.source().rotate_exclusive_waiter(io.as_fd())?;
        }
        Ok(())
    }

    fn stop_waiting(&mut self) {
        if mem::take(&mut self.waits) {
            let left = self.acceptor.waiting.get() - 1;
            self.acceptor.waiting.set(left);
            if left == 0 {
                self.acceptor.withdraw();
            }
        }
    }
}

impl<L: AsFd> Drop for Accepting<'_, L> {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

/// Makes a stream, and its peer's address, of what was accepted. The last argument is true if it
/// may have inherited a linger time from the listener.
pub(super) type Make<T> = fn(OwnedFd, Option<SocketAddrAny>, bool) -> io::Result<T>;

/// The methods and traits of a listener, which is a struct around an `Acceptor`, and its stream of
/// connections. `$make` is a `Make<($stream, $addr)>`.
macro_rules! listener {
    ($listener:ident, $stream:ident, $addr:ty, $std:ty, $make:path) => {
        impl $listener {
            /// Waits for a connection.
            ///
            /// # Errors
            ///
            /// Errors of one connection that was lost before it was accepted don't show: the next
            /// one is taken. When there's no descriptor or memory left (`EMFILE` and the like),
            /// that is told once, and the next call rests for 50 ms before it tries again: a loop
            /// that logs errors and goes on neither spins nor goes deaf.
            ///
            /// # Cancel safety
            ///
            /// No connection is lost when the future is dropped: it's for the next call or, if the
            /// listener is [shared](crate::net::TcpListener::share), for another loop.
            pub async fn accept(&self) -> std::io::Result<($stream, $addr)> {
                self.acceptor.accept($make).await
            }

            #[doc = concat!(
                "An endless stream of connections, each as from [`accept`](", stringify!($listener),
                "::accept)."
            )]
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming {
                    accepting: Accepting::new(&self.acceptor),
                }
            }

            /// The address that it listens on.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                self.acceptor.io.get_ref().local_addr()
            }

            /// Takes the socket out, still non-blocking, for another thread say.
            ///
            /// # Errors
            ///
            /// None today.
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
                Ok($listener {
                    acceptor: Acceptor::new(crate::async_io::Async::new_nonblocking(listener)?),
                })
            }
        }

        crate::async_io::gives_descriptor!([] $listener, acceptor.io.expose());
    };
}
pub(super) use listener;
