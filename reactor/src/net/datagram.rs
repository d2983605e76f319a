//! The common methods of datagram sockets.

/// The methods of a datagram socket, which is a struct around an `Arc<Async<_>>`.
macro_rules! datagram {
    ($socket:ident, $addr:ty) => {
        impl $socket {
            /// Sends a datagram to the address that the socket is connected to.
            ///
            /// # Errors
            ///
            /// Fails if the socket is not connected, if the datagram is too large, or if an earlier
            /// one was refused.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it completes, nothing was sent.
            pub async fn send(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.write_with(|io| $crate::net::sys::Datagrams::send(io, buf)).await
            }

            /// Sends a datagram to the address that the socket is connected to, without waiting.
            ///
            /// # Errors
            ///
            #[doc = concat!(
                "Returns `WouldBlock` if the send buffer is full, and fails as [`send`](",
                stringify!($socket), "::send) does."
            )]
            pub fn try_send(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.try_write_with(|io| $crate::net::sys::Datagrams::send(io, buf))
            }

            /// Waits for a datagram and receives it. Bytes beyond the buffer are lost. On Windows
            /// this is also an error.
            ///
            /// # Errors
            ///
            /// Returns the errors of the system. A connected socket reports that an earlier
            /// datagram was refused.
            ///
            /// # Cancel safety
            ///
            /// No datagram is lost when the future is dropped.
            pub async fn recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io.read_with(|io| $crate::net::sys::Datagrams::receive(io, buf)).await
            }

            /// Receives a datagram, without waiting.
            ///
            /// # Errors
            ///
            #[doc = concat!(
                "Returns `WouldBlock` if there is none, and fails as [`recv`](",
                stringify!($socket), "::recv) does."
            )]
            pub fn try_recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io.try_read_with(|io| $crate::net::sys::Datagrams::receive(io, buf))
            }

            #[doc = concat!(
                "Receives a datagram and its sender's address. See [`recv`](", stringify!($socket),
                "::recv)."
            )]
            ///
            /// # Errors
            ///
            #[doc = concat!("Fails as [`recv`](", stringify!($socket), "::recv) does.")]
            ///
            /// # Cancel safety
            ///
            /// No datagram is lost when the future is dropped.
            pub async fn recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                self.io.read_with(|io| $crate::net::sys::Datagrams::receive_from(io, buf)).await
            }

            /// Receives a datagram, without waiting, and returns its sender's address.
            ///
            /// # Errors
            ///
            #[doc = concat!("Fails as [`try_recv`](", stringify!($socket), "::try_recv) does.")]
            pub fn try_recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                self.io.try_read_with(|io| $crate::net::sys::Datagrams::receive_from(io, buf))
            }
        }
    };
}
pub(super) use datagram;
