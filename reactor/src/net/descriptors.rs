//! File descriptors that travel through Unix sockets (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

use rustix::cmsg_space;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, recvmsg, sendmsg,
};

use super::{simulated, sys};

/// The most descriptors that one message has, `SCM_MAX_FD` of Linux. Other systems allow more.
pub(super) const MAX_FDS: usize = 253;

const TOO_MANY: &str = "one message takes 253 file descriptors at most: send several messages";
const NO_BYTE: &str = "file descriptors need a byte that carries them: send at least one";

/// The descriptors are close-on-exec from the start where the system can do that.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const FLAGS: RecvFlags = RecvFlags::empty();

/// Sends bytes, and descriptors with the first of them.
pub(super) fn send(socket: &impl AsFd, buf: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    check(buf.len(), fds.len())?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
    debug_assert!(
        fits,
        "the buffer is for the most descriptors that there can be"
    );
    let bufs = [IoSlice::new(buf)];
    Ok(sendmsg(socket, &bufs, &mut control, sys::SEND_FLAGS)?)
}

fn check(bytes: usize, fds: usize) -> io::Result<()> {
    let (kind, text) = if simulated::is_current() {
        let text = "a simulated socket can't pass file descriptors";
        (io::ErrorKind::Unsupported, text)
    } else if fds > MAX_FDS {
        (io::ErrorKind::InvalidInput, TOO_MANY)
    } else if fds > 0 && bytes == 0 {
        // A stream would send nothing, and report no error.
        (io::ErrorKind::InvalidInput, NO_BYTE)
    } else {
        return Ok(());
    };
    Err(io::Error::new(kind, text))
}

/// Receives bytes, and appends the descriptors that came with them.
pub(super) fn receive(
    socket: &impl AsFd,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    check(buf.len(), 0)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let bufs = &mut [IoSliceMut::new(buf)];
    let received = recvmsg(socket, bufs, &mut control, FLAGS)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(new) = message {
            for fd in new {
                set_close_on_exec(&fd)?;
                fds.push(fd);
            }
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(format!(
            "file descriptors that came with {} bytes were lost: close the connection. The process \
             can open no more of them (raise RLIMIT_NOFILE), or one message had over {MAX_FDS}",
            received.bytes
        )));
    }
    Ok(received.bytes)
}

fn set_close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    if FLAGS.is_empty() {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(())
}

/// The methods of a Unix socket that passes descriptors, which is a struct around an `Async<_>`.
macro_rules! passes_descriptors {
    ($socket:ident) => {
        impl $socket {
            /// Sends bytes and, with the first of them, duplicates of file descriptors
            /// (`SCM_RIGHTS`). Returns how many bytes were sent. All descriptors were sent then.
            ///
            /// # Errors
            ///
            /// Fails if there are more than 253 descriptors, or no byte that carries them. Returns
            /// the errors of the system.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it completes, nothing was sent.
            pub async fn send_with_fds(
                &self,
                buf: &[u8],
                fds: &[std::os::fd::BorrowedFd<'_>],
            ) -> std::io::Result<usize> {
                self.io
                    .write_with(|io| $crate::net::descriptors::send(io, buf, fds))
                    .await
            }

            /// Receives bytes, and appends the file descriptors that came with them to `fds`. They
            /// are close-on-exec. On a stream, a call ends behind the bytes that carried
            /// descriptors. A receive without `fds`, such as a read, closes the descriptors.
            ///
            /// # Errors
            ///
            /// Fails if the process could not open all of the descriptors. `fds` then has those
            /// that it could, and the other ones are lost. Returns the errors of the system.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it completes, nothing was received.
            pub async fn recv_with_fds(
                &self,
                buf: &mut [u8],
                fds: &mut Vec<std::os::fd::OwnedFd>,
            ) -> std::io::Result<usize> {
                self.io
                    .read_with(|io| $crate::net::descriptors::receive(io, buf, fds))
                    .await
            }
        }
    };
}
pub(super) use passes_descriptors;
