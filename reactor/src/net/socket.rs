//! The common methods of all sockets.

use std::io;

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::addr::SocketAddrArg;

use super::sys;
use crate::async_io::Async;

/// Connects, and waits until that has succeeded or failed.
pub(crate) async fn connect_to<T>(
    socket: OwnedFd,
    addr: &impl SocketAddrArg,
) -> io::Result<Async<T>>
where
    T: AsFd + From<OwnedFd>,
{
    let (socket, in_progress) = sys::prepare(socket, |socket| sys::connect(socket, addr))?;
    await_connection(Async::new_nonlingering(T::from(socket))?, in_progress).await
}

/// Waits until a connection has succeeded or failed, if it is in progress.
pub(super) async fn await_connection<T: AsFd>(
    connected: Async<T>,
    in_progress: bool,
) -> io::Result<Async<T>> {
    if in_progress {
        connected.writable().await?;
        sys::finish_connect(&connected)?;
    }
    Ok(connected)
}

/// The methods and traits of any connected or connectable socket, which is a struct around an
/// `Arc<Async<$std>>`.
macro_rules! socket {
    ($socket:ident, $addr:ty, $std:ty) => {
        impl $socket {
            pub(super) fn new(io: crate::async_io::Async<$std>) -> $socket {
                $socket {
                    io: std::sync::Arc::new(io),
                }
            }

            /// Waits until the socket has data, the end of the stream, or an error to read.
            ///
            /// # Errors
            ///
            /// Fails if no reactor is running on this thread.
            pub fn readable(&self) -> crate::readiness::Readable<'_> {
                self.io.readable()
            }

            /// Waits until the socket can be written to, or has an error.
            ///
            /// # Errors
            ///
            /// Fails if no reactor is running on this thread.
            pub fn writable(&self) -> crate::readiness::Writable<'_> {
                self.io.writable()
            }

            /// [`readable`](Self::readable) for hand-written futures.
            ///
            /// # Errors
            ///
            /// Fails if no reactor is running on this thread.
            pub fn poll_readable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_readable(cx)
            }

            /// [`writable`](Self::writable) for hand-written futures.
            ///
            /// # Errors
            ///
            /// Fails if no reactor is running on this thread.
            pub fn poll_writable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_writable(cx)
            }

            /// Performs a read-like operation on the socket's file descriptor, for hand-written
            /// futures. Tries it first and after each event, until the result is anything but
            /// `WouldBlock`. Suits operations that this type lacks, such as `splice` or many
            /// datagrams per call.
            ///
            /// The operation must neither duplicate the descriptor nor set its options. Use `as_fd`
            /// for that.
            ///
            /// # Errors
            ///
            /// Returns the errors of the operation. Fails if no reactor is running on this thread.
            pub fn poll_read_with<R>(
                &self,
                cx: &mut std::task::Context<'_>,
                mut op: impl FnMut(rustix::fd::BorrowedFd<'_>) -> std::io::Result<R>,
            ) -> std::task::Poll<std::io::Result<R>> {
                self.io.poll_read_with(cx, |io| op(rustix::fd::AsFd::as_fd(io)))
            }

            /// Performs a write-like operation on the socket's file descriptor, as
            /// [`poll_read_with`](Self::poll_read_with) does a read-like one.
            ///
            /// # Errors
            ///
            /// Returns the errors of the operation. Fails if no reactor is running on this thread.
            pub fn poll_write_with<R>(
                &self,
                cx: &mut std::task::Context<'_>,
                mut op: impl FnMut(rustix::fd::BorrowedFd<'_>) -> std::io::Result<R>,
            ) -> std::task::Poll<std::io::Result<R>> {
                self.io.poll_write_with(cx, |io| op(rustix::fd::AsFd::as_fd(io)))
            }

            /// Returns the address of the peer.
            ///
            /// # Errors
            ///
            /// Fails unless the socket is connected.
            pub fn peer_addr(&self) -> std::io::Result<$addr> {
                $crate::net::sys::peer_addr(self.io.get_ref())
            }

            /// Returns the address of this socket.
            ///
            /// # Errors
            ///
            /// Returns the errors of the system.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                $crate::net::sys::local_addr(self.io.get_ref())
            }

            /// Takes the pending error of this socket, if there is one (`SO_ERROR`).
            ///
            /// # Errors
            ///
            /// Returns the errors of the system.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                $crate::net::sys::take_error(self.io.get_ref())
            }

            /// Takes the socket out, still non-blocking, for example for another runtime.
            ///
            /// # Errors
            ///
            /// Fails if the socket has other clones.
            pub fn into_std(self) -> std::io::Result<$std> {
                match std::sync::Arc::try_unwrap(self.io) {
                    Ok(io) => io.into_inner(),
                    Err(_) => Err(std::io::Error::other(
                        "there are other clones of this socket",
                    )),
                }
            }
        }

        impl TryFrom<$std> for $socket {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$socket> {
                socket.set_nonblocking(true)?;
                let io = crate::async_io::Async::new_nonblocking(socket)?;
                io.expose(); // other code may have a duplicate
                Ok($socket::new(io))
            }
        }

        impl std::fmt::Debug for $socket {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.io.get_ref().fmt(f)
            }
        }

        crate::async_io::gives_descriptor!([] $socket, io.expose());
    };
}
pub(crate) use socket;
