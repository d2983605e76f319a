//! Pipes through which the kernel moves bytes without copying them into the program.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use windlass_reactor::Async;
use windlass_reactor::budget::charge;
use windlass_reactor::fork::Origin;
use windlass_reactor::net::{TcpStream, unix::UnixStream};

use super::pipe::ends;

/// The size of a pipe, which is the largest that Linux allows an unprivileged process.
const SIZE: usize = 1 << 20;

/// The most pipes per thread. Linux allows 64 of this size per user.
const MAX_PIPES: usize = 16;

/// The name in the error of a forked child.
const PIPE: &str = "this copy";

/// The number of bytes that charge one operation to the budget, as many as a buffered read.
const OPERATION: usize = 64 * 1024;

thread_local! {
    /// An empty pipe, between two copies.
    static SPARE: Cell<Option<Pipe>> = const { Cell::new(None) };
    /// The number of pipes of this thread, including the spare one.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The owner of a file descriptor that the kernel can splice from and to.
pub trait Spliced {
    /// Does a read-like operation, as [`Async::poll_read_with`].
    fn poll_read(&self, cx: &mut Context<'_>, op: &mut Operation<'_>) -> Poll<io::Result<usize>>;

    /// Does a write-like operation, as [`Async::poll_write_with`].
    fn poll_write(&self, cx: &mut Context<'_>, op: &mut Operation<'_>) -> Poll<io::Result<usize>>;
}

type Operation<'a> = dyn FnMut(BorrowedFd<'_>) -> io::Result<usize> + 'a;

macro_rules! spliced {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> Spliced for $type {
            fn poll_read(
                &self,
                cx: &mut Context<'_>,
                op: &mut Operation<'_>,
            ) -> Poll<io::Result<usize>> {
                self.poll_read_with(cx, |io| op(io.as_fd()))
            }

            fn poll_write(
                &self,
                cx: &mut Context<'_>,
                op: &mut Operation<'_>,
            ) -> Poll<io::Result<usize>> {
                self.poll_write_with(cx, |io| op(io.as_fd()))
            }
        }
    };
}
spliced!([T: AsFd] Async<T>);
spliced!([] TcpStream);
spliced!([] UnixStream);

pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// The number of bytes in it.
    filled: usize,
    /// A forked child shares the pipe with its parent, and must not use it.
    origin: Origin,
}

impl Pipe {
    /// Returns an empty pipe. If none is available, the error satisfies [`is_refusal`].
    pub(crate) fn lend() -> io::Result<Pipe> {
        if let Some(pipe) = SPARE.take().filter(|pipe| pipe.origin.is_here()) {
            return Ok(pipe);
        }
        Pipe::new().map_err(|_| Errno::INVAL.into())
    }

    /// Creates a pipe of full size. Beyond the limit of the user the kernel grants one page only,
    /// and such a pipe would be slower than the buffer.
    fn new() -> io::Result<Pipe> {
        if COUNT.get() == MAX_PIPES || !sigpipe_is_harmless()? {
            return Err(io::ErrorKind::Other.into());
        }
        let (reader, writer) = ends()?;
        fcntl_setpipe_size(&writer, SIZE)?;
        COUNT.set(COUNT.get() + 1);
        Ok(Pipe {
            reader,
            writer,
            filled: 0,
            origin: Origin::here(),
        })
    }

    pub(crate) fn give_back(self) {
        // The next copy would write leftover bytes.
        if self.is_empty() {
            SPARE.set(Some(self));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills the empty pipe, so `WouldBlock` can only come from the reader. Returns 0 at its end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &dyn Spliced,
    ) -> Poll<io::Result<usize>> {
        self.origin.check(PIPE)?;
        let mut fill =
            |fd: BorrowedFd<'_>| Ok(splice(fd, None, &self.writer, None, SIZE, flags())?);
        self.filled = ready!(reader.poll_read(cx, &mut fill))?;
        charge(self.filled / OPERATION);
        Poll::Ready(Ok(self.filled))
    }

    /// Drains the filled pipe, so `WouldBlock` can only come from the writer.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        writer: &dyn Spliced,
    ) -> Poll<io::Result<usize>> {
        self.origin.check(PIPE)?;
        let mut drain =
            |fd: BorrowedFd<'_>| Ok(splice(&self.reader, None, fd, None, self.filled, flags())?);
        let bytes = ready!(writer.poll_write(cx, &mut drain))?;
        charge(bytes / OPERATION);
        self.filled -= bytes;
        Poll::Ready(Ok(bytes))
    }

    /// Reads the bytes in the pipe, for a writer that refuses `splice`.
    pub(crate) fn read_all(&mut self) -> io::Result<Box<[u8]>> {
        self.origin.check(PIPE)?;
        let mut bytes = vec![0; self.filled].into_boxed_slice();
        while self.filled > 0 {
            let start = bytes.len() - self.filled;
            self.filled -= rustix::io::read(&self.reader, &mut bytes[start..])?;
        }
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = COUNT.try_with(|count| count.set(count.get() - 1));
    }
}

/// Closes this thread's spare pipe.
pub(crate) fn release() {
    drop(SPARE.try_with(Cell::take));
}

/// Returns true for a file descriptor that can't be spliced, for a missing pipe, and for a sandbox
/// that refuses the call. If reads and writes are refused, too, they return the same error.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let refusals = [
        Errno::INVAL,
        Errno::NOSYS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NODEV,
        Errno::OPNOTSUPP,
        Errno::BADF, // a simulated socket
    ];
    let code = error.raw_os_error();
    code.is_some_and(|code| refusals.iter().any(|it| it.raw_os_error() == code))
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK
}

/// `splice` to a disconnected peer raises `SIGPIPE`, also for sockets, and lacks a flag against it.
/// Rust programs ignore the signal, but the host of an embedded one may keep its default action.
pub(super) fn sigpipe_is_harmless() -> io::Result<bool> {
    Ok(is_handled(&fs::read_to_string("/proc/self/status")?))
}

/// Returns whether `SIGPIPE` is ignored or caught, by the masks in `/proc/self/status`.
fn is_handled(status: &str) -> bool {
    const SIGPIPE: u64 = 1 << (13 - 1);
    let masks = status.lines().filter_map(|line| {
        line.strip_prefix("SigIgn:")
            .or_else(|| line.strip_prefix("SigCgt:"))
    });
    let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    masks.any(|mask| mask & SIGPIPE != 0)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use rustix::io::{read, write};
    use std::future::poll_fn;

    use super::*;
    use windlass_reactor::Reactor;

    /// A fill and a drain charge 17 operations each, to a budget of 32 that is refilled once.
    #[test]
    fn a_splice_charges_as_many_operations_as_buffered_reads() {
        let _reactor = Reactor::current().unwrap();
        let ((from, source), (sink, to)) = (ends().unwrap(), ends().unwrap());
        for writer in [&source, &to] {
            fcntl_setpipe_size(writer, SIZE).unwrap();
        }
        let (from, to) = (Async::new(from).unwrap(), Async::new(to).unwrap());
        let mut pipe = Pipe::lend().unwrap();
        let mut room = vec![7; SIZE];
        for may_move in [true, true, false] {
            assert_eq!(write(&source, &room), Ok(SIZE));
            let filled = poll_fn(|cx| pipe.poll_fill(cx, &from)).now_or_never();
            assert_eq!(filled.map(Result::unwrap), may_move.then_some(SIZE));
            let drained = poll_fn(|cx| pipe.poll_drain(cx, &to)).now_or_never();
            assert_eq!(drained.map(Result::unwrap), may_move.then_some(SIZE));
            assert!(!may_move || read(&sink, &mut room) == Ok(SIZE));
        }
    }

    #[test]
    fn sigpipe_is_harmless_where_it_is_ignored_or_caught() {
        let status =
            |ignored, caught| format!("SigBlk:\tffff\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n");
        assert!(is_handled(&status("0000000000001000", "0000000000000440")));
        assert!(is_handled(&status("0000000000000000", "0000000180001440")));
        assert!(!is_handled(&status("0000000000000fff", "000000018000efff")));
        assert!(!is_handled(""));
        assert!(sigpipe_is_harmless().unwrap()); // this is a Rust program
    }
}
