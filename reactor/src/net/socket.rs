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
    let connected = Async::new_nonlingering(T::from(socket))?;
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
            fn new(io: crate::async_io::Async<$std>) -> $socket {
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
