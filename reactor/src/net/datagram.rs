//! What the datagram sockets share.

/// The methods of a datagram socket: a struct around an `Rc<Async<_>>`.
macro_rules! datagram {
    ($socket:ident, $addr:ty) => {
        impl $socket {
            /// Sends a datagram to the address that it's connected to.
            ///
            /// # Errors
            ///
            /// If it's not connected, the datagram is too large, or an earlier one was refused.
            ///
            /// # Cancel safety
            ///
            /// When the future is dropped, nothing was sent.
            pub async fn send(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.write_with(|io| io.send(buf)).await
            }

            /// Sends a datagram to the address that it's connected to, without waiting.
            ///
            /// # Errors
            ///
            #[doc = concat!(
                "`WouldBlock` if there is no room, and as [`send`](", stringify!($socket),
                "::send)."
            )]
            pub fn try_send(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.try_write_with(|io| io.send(buf))
            }

            /// Waits for a datagram. What doesn't fit into the buffer is lost; on Windows that is
            /// an error as well.
            ///
            /// # Errors
            ///
            /// Those of the system; if it's connected, that an earlier datagram was refused.
            ///
            /// # Cancel safety
            ///
            /// No datagram is lost when the future is dropped.
            pub async fn recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io.read_with(|io| io.recv(buf)).await
            }

            /// Takes a datagram, without waiting.
            ///
            /// # Errors
            ///
            #[doc = concat!(
                "`WouldBlock` if there is none, and as [`recv`](", stringify!($socket), "::recv)."
            )]
            pub fn try_recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io.try_read_with(|io| io.recv(buf))
            }

            #[doc = concat!(
                "Waits for a datagram, as [`recv`](", stringify!($socket), "::recv), and tells \
                 who sent it."
            )]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`recv`](", stringify!($socket), "::recv).")]
            ///
            /// # Cancel safety
            ///
            /// No datagram is lost when the future is dropped.
            pub async fn recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                self.io.read_with(|io| io.recv_from(buf)).await
            }

            /// Takes a datagram, without waiting, and tells who sent it.
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`try_recv`](", stringify!($socket), "::try_recv).")]
            pub fn try_recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                self.io.try_read_with(|io| io.recv_from(buf))
            }
        }
    };
}
pub(super) use datagram;
