//! The standard streams.
//!
//! Non-blocking is not a descriptor but an open file, and that of a standard stream is shared: with
//! the shell, with the programs before and after in the pipeline. To set it there would break them,
//! and it would stay set when this program has ended. So each stream here has a descriptor of its
//! own, which is one of three:
//!
//! | what it is | descriptor | an operation |
//! |---|---|---|
//! | pipe, terminal (Linux) | opened anew, non-blocking | tries, and waits if it must |
//! | file, block device | a duplicate | is done: it's always ready |
//! | others: sockets, `/dev/null`, what can't be opened anew | a duplicate | asks `poll` first |

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, makedev};
use rustix::pipe::PIPE_BUF;

use windlass_reactor::Async;

/// The standard input of the process.
///
/// It has no buffer: a read takes what is there, of a terminal a line. So a read that is dropped
/// has taken nothing, what is typed later goes to the next one, and nothing holds up the end of
/// the program. For lines, put it into a `BufReader`.
///
/// What [`std::io::stdin`] has read ahead is not seen here; use one of the two.
///
/// Any number of `Stdin` may read; each gets what the others haven't taken. Dropping one doesn't
/// close the stream itself.
///
/// # When it may block the loop
///
/// A file is read directly, and may take as long as its disk takes. A socket, or a terminal that
/// can't be opened anew (another user's, after `su`), is read when the system says that there is
/// something to read; should another process take just that in this moment, the read waits, and
/// the loop with it. So it is with pipes and terminals where the system isn't Linux.
///
/// # Errors
///
/// Those of the system. If it's closed there is an end, since Rust programs open `/dev/null` in its
/// place when they start.
///
/// # Cancel safety
///
/// A read that is dropped has taken nothing. To wait for the next of `lines()` may be given up as
/// well: the stream keeps what it has of a line.
///
/// # Examples
///
/// Waits for an answer, for a while:
///
/// ```no_run
/// use futures::{StreamExt, AsyncBufReadExt, io::BufReader};
/// use std::time::Duration;
/// use windlass::{block_on, io::stdin, time::timeout};
///
/// block_on(async {
///     let mut lines = BufReader::new(stdin()).lines();
///     match timeout(Duration::from_secs(10), lines.next()).await {
///         Ok(Some(line)) => println!("you said: {}", line?),
///         Ok(None) => println!("there will be no answer"),
///         Err(_) => println!("that took too long"),
///     }
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin(Standard::new(rustix::stdio::stdin(), OFlags::RDONLY))
}

/// The standard output of the process.
///
/// It has no buffer: each write is a system call, and what is written is out. `println!` has a
/// buffer that ends at each line; what is printed without one may come later than what is written
/// here.
///
/// While a terminal is stopped (Ctrl-S) or a pipe is full, a write waits, and the loop goes on. Any
/// number of `Stdout` may write; dropping or closing one doesn't close the stream itself.
///
/// # When it may block the loop
///
/// As [`stdin`]; where it asks the system first, it writes `PIPE_BUF` bytes at a time, for which
/// there is room if there's any.
///
/// # Errors
///
/// Those of the system: `BrokenPipe` if nobody reads any more.
///
/// # Cancel safety
///
/// A write that is dropped has written nothing; `write_all` may have written a part.
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::{block_on, io::stdout};
///
/// block_on(stdout().write_all(b"ahoy\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdout() -> Stdout {
    Stdout(Standard::new(rustix::stdio::stdout(), OFlags::WRONLY))
}

/// The standard error of the process; all else as [`stdout`].
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::{block_on, io::stderr};
///
/// block_on(stderr().write_all(b"man overboard\n"))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stderr() -> Stderr {
    Stderr(Standard::new(rustix::stdio::stderr(), OFlags::WRONLY))
}

/// Made by [`stdin`].
#[derive(Debug)]
pub struct Stdin(Standard);

/// Made by [`stdout`].
#[derive(Debug)]
pub struct Stdout(Standard);

/// Made by [`stderr`].
#[derive(Debug)]
pub struct Stderr(Standard);

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bufs = &mut [IoSliceMut::new(buf)];
        self.0.opened()?.poll_read(cx, bufs)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.opened()?.poll_read(cx, bufs)
    }
}

macro_rules! writes {
    ($stream:ident) => {
        impl AsyncWrite for $stream {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.0.opened()?.poll_write(cx, &[IoSlice::new(buf)])
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.0.opened()?.poll_write(cx, bufs)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    };
}

writes!(Stdout);
writes!(Stderr);

/// One of the three, opened when it's first used: so to make one can't fail.
struct Standard {
    fd: BorrowedFd<'static>,
    access: OFlags,
    opened: Option<Opened>,
}

impl Standard {
    fn new(fd: BorrowedFd<'static>, access: OFlags) -> Standard {
        Standard {
            fd,
            access,
            opened: None,
        }
    }

    fn opened(&mut self) -> io::Result<&Opened> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => Opened::new(self.fd, self.access)?,
        };
        Ok(self.opened.insert(opened))
    }
}

impl fmt::Debug for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.fd, f)
    }
}

/// A descriptor of our own for it.
struct Opened {
    io: Async<OwnedFd>,
    /// An operation could block: ask first.
    asks: bool,
}

impl Opened {
    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Opened> {
        // If the system refuses to say what it is, each operation asks.
        let stat = fstat(fd).ok();
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_ready = matches!(kind, Some(FileType::RegularFile | FileType::BlockDevice));
        // To open the master of a pseudo-terminal, device 5:2, makes another one.
        let is_master = stat.is_none_or(|stat| stat.st_rdev == makedev(5, 2));
        let is_terminal = fd.is_terminal() && !is_master;
        let anew = if kind == Some(FileType::Fifo) || is_terminal {
            open_anew(fd, access)
        } else {
            None
        };
        let asks = anew.is_none() && !is_ready;
        let own = anew.map_or_else(|| fd.try_clone_to_owned(), Ok)?;
        let io = Async::new_nonblocking(own)?;
        Ok(Opened { io, asks })
    }

    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_read_with(cx, |fd| {
            if self.asks {
                check_ready(fd, PollFlags::IN | PollFlags::PRI)?;
            }
            Ok(rustix::io::readv(fd, bufs)?)
        })
    }

    fn poll_write(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.io.poll_write_with(cx, |fd| {
            if self.asks {
                check_ready(fd, PollFlags::OUT)?;
                let mut part = [0; PIPE_BUF];
                let length = gather(bufs, &mut part);
                return Ok(rustix::io::write(fd, &part[..length])?);
            }
            Ok(rustix::io::writev(fd, bufs)?)
        })
    }
}

/// Returns `WouldBlock` unless the system says that the descriptor is ready.
fn check_ready(fd: &OwnedFd, wanted: PollFlags) -> io::Result<()> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(fd, wanted)], Some(&at_once))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Copies as much of the buffers as there is room for, and gives the number of bytes.
fn gather(bufs: &[IoSlice<'_>], part: &mut [u8]) -> usize {
    let mut length = 0;
    for buf in bufs {
        let n = buf.len().min(part.len() - length);
        part[length..][..n].copy_from_slice(&buf[..n]);
        length += n;
    }
    length
}

/// Another open file of the same pipe or terminal, which may be non-blocking without anybody else
/// seeing it. None where that can't be had: it may be another user's, or there is no `/proc`.
fn open_anew(fd: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
    if !cfg!(target_os = "linux") {
        return None; // elsewhere such a path is a duplicate
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
