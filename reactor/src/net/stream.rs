//! The common part of all streams.

use std::io::{self, IoSliceMut};
use std::task::{Context, Poll};

use super::sys::{MAX_BUFS, Receive, Received};
use crate::async_io::Async;

#[inline]
pub(super) fn poll_receive<T: Receive>(
    io: &Async<T>,
    cx: &mut Context<'_>,
    bufs: &mut [IoSliceMut<'_>],
) -> Poll<io::Result<usize>> {
    // The system fills at most these buffers, so only their length shows whether a read was short.
    let most = bufs.len().min(MAX_BUFS);
    let bufs = &mut bufs[..most];
    let wanted = bufs.iter().map(|buf| buf.len()).sum();
    let received = io.poll_receive(
        cx,
        |io| io.receive(bufs),
        |received| is_short(received, wanted),
    );
    received.map_ok(|received| received.bytes)
}

pub(super) fn try_receive<T: Receive>(
    io: &Async<T>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let most = bufs.len().min(MAX_BUFS);
    let bufs = &mut bufs[..most];
    let received = io.try_read_with(|io| io.receive(bufs))?;
    if is_short(&received, bufs.iter().map(|buf| buf.len()).sum()) {
        io.note_short_read();
    }
    Ok(received.bytes)
}

#[inline]
fn is_short(received: &Received, wanted: usize) -> bool {
    !received.stopped && received.bytes > 0 && received.bytes < wanted
}

/// The methods and traits of a stream, a struct around an `Arc<Async<_>>` of a [`Receive`].
macro_rules! stream {
    ($stream:ident) => {
        impl $stream {
            /// Reads the bytes that are there, without waiting.
            ///
            /// # Errors
            ///
            /// Returns `WouldBlock` if there is nothing to read, and the errors of the system.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let bufs = &mut [std::io::IoSliceMut::new(buf)];
                $crate::net::stream::try_receive(&self.io, bufs)
            }

            /// Writes as many bytes as the send buffer takes, without waiting.
            ///
            /// # Errors
            ///
            /// Returns `WouldBlock` if the send buffer is full, and the errors of the system.
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                let bufs = [std::io::IoSlice::new(buf)];
                self.io
                    .try_write_with(|io| $crate::net::sys::send(io, &bufs))
            }

            /// Shuts down one half, or both. Succeeds also if the half is shut down already or the
            /// stream is disconnected.
            ///
            /// # Errors
            ///
            /// Returns the errors of the system.
            pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                match $crate::net::sys::shutdown(self.io.get_ref(), how) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(()),
                    Err(error) => Err(error),
                    Ok(()) => {
                        #[cfg(windows)] // elsewhere this is an event
                        if how != std::net::Shutdown::Write {
                            self.io.wake_readers();
                        }
                        Ok(())
                    }
                }
            }

            /// Performs a read-like operation on the socket's file descriptor, for hand-written
            /// futures. Tries it first and after each event, until the result is anything but
            /// `WouldBlock`. Suits operations that this type lacks, such as receiving file
            /// descriptors or `splice`.
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
        }

        impl futures_io::AsyncRead for &$stream {
            #[inline]
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let bufs = &mut [std::io::IoSliceMut::new(buf)];
                $crate::net::stream::poll_receive(&self.io, cx, bufs)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $crate::net::stream::poll_receive(&self.io, cx, bufs)
            }
        }

        impl futures_io::AsyncWrite for &$stream {
            #[inline]
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let bufs = [std::io::IoSlice::new(buf)];
                self.io
                    .poll_write_with(cx, |io| $crate::net::sys::send(io, &bufs))
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io
                    .poll_write_with(cx, |io| $crate::net::sys::send(io, bufs))
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(self.shutdown(std::net::Shutdown::Write))
            }
        }

        $crate::async_io::also_by_value!([] $stream);
    };
}
pub(super) use stream;
