//! Pipes that bytes are moved through without coming into the program.

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

/// The size of a pipe: the largest that Linux gives to everybody.
const SIZE: usize = 1 << 20;

/// How many pipes the copies of one thread have at most. Linux gives 64 of this size to a user.
const MOST: usize = 16;

/// What an error names in a forked child.
const PIPE: &str = "this copy";

/// What counts as one operation for fairness: what a buffered read brings.
const OPERATION: usize = 64 * 1024;

thread_local! {
    /// An empty one that nobody has.
    static SPARE: Cell<Option<Pipe>> = const { Cell::new(None) };
    /// How many there are, the spare one included.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// What has a file descriptor that the system can move bytes from and to.
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
    holds: usize,
    /// A forked child shares the pipe with its parent, and must not use it.
    origin: Origin,
}

impl Pipe {
    /// An empty one. Where none can be had, that's an error which [`is_refusal`].
    pub(crate) fn lend() -> io::Result<Pipe> {
        if let Some(pipe) = SPARE.take().filter(|pipe| pipe.origin.is_here()) {
            return Ok(pipe);
        }
        Pipe::new().map_err(|_| Errno::INVAL.into())
    }

    /// Of full size: without privileges, those beyond a limit are of one page, and slower than a
    /// buffer.
    fn new() -> io::Result<Pipe> {
        if COUNT.get() == MOST || !sigpipe_is_harmless()? {
            return Err(io::ErrorKind::Other.into());
        }
        let (reader, writer) = ends()?;
        fcntl_setpipe_size(&writer, SIZE)?;
        COUNT.set(COUNT.get() + 1);
        windlass_reactor::on_release(release);
        Ok(Pipe {
            reader,
            writer,
            holds: 0,
            origin: Origin::here(),
        })
    }

    pub(crate) fn give_back(self) {
        // Whose next copy would write what is in it.
        if self.is_empty() {
            SPARE.set(Some(self));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holds == 0
    }

    /// Fills it, which is empty: so it's the reader that would block, if any. 0 at its end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &dyn Spliced,
    ) -> Poll<io::Result<usize>> {
        self.origin.check(PIPE)?;
        let mut fill =
            |fd: BorrowedFd<'_>| Ok(splice(fd, None, &self.writer, None, SIZE, flags())?);
        self.holds = ready!(reader.poll_read(cx, &mut fill))?;
        charge(self.holds / OPERATION);
        Poll::Ready(Ok(self.holds))
    }

    /// Empties it, which isn't: so it's the writer that would block, if any.
    pub(crate) fn poll_empty(
        &mut self,
        cx: &mut Context<'_>,
        writer: &dyn Spliced,
    ) -> Poll<io::Result<usize>> {
        self.origin.check(PIPE)?;
        let mut empty =
            |fd: BorrowedFd<'_>| Ok(splice(&self.reader, None, fd, None, self.holds, flags())?);
        let bytes = ready!(writer.poll_write(cx, &mut empty))?;
        charge(bytes / OPERATION);
        self.holds -= bytes;
        Poll::Ready(Ok(bytes))
    }

    /// What is in it, for a writer that can't be spliced to.
    pub(crate) fn take_all(&mut self) -> io::Result<Box<[u8]>> {
        self.origin.check(PIPE)?;
        let mut bytes = vec![0; self.holds].into_boxed_slice();
        while self.holds > 0 {
            let start = bytes.len() - self.holds;
            self.holds -= rustix::io::read(&self.reader, &mut bytes[start..])?;
        }
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = COUNT.try_with(|count| count.set(count.get() - 1));
    }
}

/// Closes the spare pipe of this thread.
pub(crate) fn release() {
    drop(SPARE.try_with(Cell::take));
}

/// A descriptor that can't be spliced, no pipe to splice by, or a sandbox that refuses the call. An
/// ordinary read or write that isn't permitted either has the same error once more.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let refusals = [
        Errno::INVAL,
        Errno::NOSYS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NODEV,
        Errno::OPNOTSUPP,
    ];
    let code = error.raw_os_error();
    code.is_some_and(|code| refusals.iter().any(|it| it.raw_os_error() == code))
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK
}

/// `splice` to a peer that is gone sends `SIGPIPE`, to sockets as well, and can't be told not to.
/// Rust programs ignore it; the host of an embedded one may not.
fn sigpipe_is_harmless() -> io::Result<bool> {
    Ok(is_handled(&fs::read_to_string("/proc/self/status")?))
}

/// Whether the signal is ignored or caught, by the masks in `/proc/self/status`.
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

    /// A fill and an emptying are 17 operations each, of a budget of 32, refilled once.
    #[test]
    fn what_is_moved_at_once_counts_for_as_many_operations_as_by_a_buffer() {
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
            let emptied = poll_fn(|cx| pipe.poll_empty(cx, &to)).now_or_never();
            assert_eq!(emptied.map(Result::unwrap), may_move.then_some(SIZE));
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
