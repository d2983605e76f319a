//! What all sockets share.

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
    let in_progress = sys::connect(&socket, addr)?;
    let connected = Async::new_nonlingering(T::from(socket))?;
    if in_progress {
        connected.writable().await?;
        sys::finish_connect(&connected)?;
    }
    Ok(connected)
}

/// The methods and traits of any connected or connectable socket: a struct around an
/// `Rc<Async<$std>>`.
macro_rules! socket {
    ($socket:ident, $addr:ty, $std:ty) => {
        impl $socket {
            fn new(io: crate::async_io::Async<$std>) -> $socket {
                $socket {
                    io: std::rc::Rc::new(io),
                }
            }

            /// Waits until there's something to read: data, an end, or an error.
            ///
            /// # Errors
            ///
            /// If no reactor turns on this thread.
            pub fn readable(&self) -> crate::readiness::Readable<'_> {
                self.io.readable()
            }

            /// Waits until there is room to write, or an error.
            ///
            /// # Errors
            ///
            /// If no reactor turns on this thread.
            pub fn writable(&self) -> crate::readiness::Writable<'_> {
                self.io.writable()
            }

            /// The address of the other side.
            ///
            /// # Errors
            ///
            /// If there is none (any more).
            pub fn peer_addr(&self) -> std::io::Result<$addr> {
                self.io.get_ref().peer_addr()
            }

            /// The address of this side.
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                self.io.get_ref().local_addr()
            }

            /// Takes the error that the system has noted for this socket, if any (`SO_ERROR`).
            ///
            /// # Errors
            ///
            /// Those of the system.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.io.get_ref().take_error()
            }

            /// Takes the socket out, still non-blocking, for another thread say.
            ///
            /// # Errors
            ///
            /// If there are other clones of it.
            pub fn into_std(self) -> std::io::Result<$std> {
                match std::rc::Rc::try_unwrap(self.io) {
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
                io.expose(); // its maker may have kept a duplicate
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
