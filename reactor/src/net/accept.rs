//! What the listeners share.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::SocketAddrAny;

use super::socket::{accept, is_lost_connection};
use crate::io::Async;
use crate::time::{Sleep, sleep_until};

/// How many connections may wait to be accepted; the system may allow fewer.
pub(super) const BACKLOG: i32 = 4096;

/// How long an accept loop rests when the system has no descriptor left for a connection.
///
/// Such a connection stays in the queue, so the next try would fail at once, and the one after it.
/// It isn't told either when a descriptor gets free. So it is tried again after a while.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections and makes a `T` of each.
#[derive(Debug)]
pub(super) struct Acceptor<L: AsFd> {
    pub(super) io: Async<L>,
    /// When to try again, after the system ran out of descriptors.
    pause: Cell<Option<Instant>>,
    /// A connection was accepted since this last waited.
    served: Cell<bool>,
}

impl<L: AsFd> Acceptor<L> {
    pub(super) fn new(io: Async<L>) -> Self {
        Acceptor {
            io,
            pause: Cell::new(None),
            served: Cell::new(false),
        }
    }

    pub(super) async fn accept<T>(&self, make: Make<T>) -> io::Result<T> {
        let mut sleep = None;
        poll_fn(|cx| self.poll_accept(cx, &mut sleep, make)).await
    }

    /// `sleep` belongs to the caller: each that waits here has its own.
    pub(super) fn poll_accept<T>(
        &self,
        cx: &mut Context<'_>,
        sleep: &mut Option<Sleep>,
        make: Make<T>,
    ) -> Poll<io::Result<T>> {
        let accept_one = |listener: &L| {
            let (socket, peer) = accept(listener.as_fd())?;
            make(socket, peer)
        };
        loop {
            if let Some(until) = self.pause.get() {
                ready!(
                    sleep
                        .get_or_insert_with(|| sleep_until(until))
                        .poll_io(cx)?
                );
                self.pause.set(None);
            }
            *sleep = None;
            let accepted = self.io.poll_read_with(cx, accept_one);
            if accepted.is_pending() && self.served.take() {
                self.io.line_up()?; // the next connection is for another, if there are others
            }
            match ready!(accepted) {
                Err(error) if is_lost_connection(&error) => continue,
                Err(error) => {
                    self.pause.set(Instant::now().checked_add(PAUSE));
                    return Poll::Ready(Err(error));
                }
                accepted => {
                    self.served.set(true);
                    return Poll::Ready(accepted);
                }
            }
        }
    }
}

/// Makes a stream, and its peer's address, of what was accepted.
pub(super) type Make<T> = fn(OwnedFd, Option<SocketAddrAny>) -> io::Result<T>;

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
            /// No connection is lost when the future is dropped.
            pub async fn accept(&self) -> std::io::Result<($stream, $addr)> {
                self.acceptor.accept($make).await
            }

            #[doc = concat!(
                "An endless stream of connections, each as from [`accept`](", stringify!($listener),
                "::accept)."
            )]
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming {
                    listener: self,
                    sleep: None,
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
            listener: &'a $listener,
            sleep: Option<crate::time::Sleep>,
        }

        impl futures_core::Stream for Incoming<'_> {
            type Item = std::io::Result<$stream>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                let acceptor = &self.listener.acceptor;
                let accepted = acceptor.poll_accept(cx, &mut self.sleep, $make);
                accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
            }
        }

        impl TryFrom<$std> for $listener {
            type Error = std::io::Error;

            fn try_from(listener: $std) -> std::io::Result<$listener> {
                listener.set_nonblocking(true)?;
                Ok($listener {
                    acceptor: Acceptor::new(crate::io::Async::new_nonblocking(listener)?),
                })
            }
        }

        crate::io::gives_descriptor!([] $listener, acceptor.io.get_ref());
    };
}
pub(super) use listener;
