//! The standard streams on Unix.
//!
//! `O_NONBLOCK` belongs to the open file, and a standard stream shares its open file with the shell
//! and with the other programs of the pipeline. Setting it there would break these programs, also
//! after this one has ended. So each stream has a file descriptor of its own, of one of three
//! kinds:
//!
//! | stream | file descriptor | an operation |
//! |---|---|---|
//! | pipe, terminal (Linux) | reopened, non-blocking | tries, and waits for an event |
//! | regular file, block device | duplicate | always completes |
//! | socket, `/dev/null`, anything that can't be reopened | duplicate | calls `poll` first |

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, makedev};
use rustix::pipe::PIPE_BUF;
use windlass_reactor::Async;

pub(super) type Input = Standard;
pub(super) type Output = Standard;

/// A standard stream, opened by its first operation, so that creating one can't fail.
pub(super) struct Standard {
    fd: BorrowedFd<'static>,
    access: OFlags,
    opened: Option<Opened>,
}

impl Standard {
    pub(super) fn stdin() -> Standard {
        Standard::new(rustix::stdio::stdin(), OFlags::RDONLY)
    }

    pub(super) fn stdout() -> Standard {
        Standard::new(rustix::stdio::stdout(), OFlags::WRONLY)
    }

    pub(super) fn stderr() -> Standard {
        Standard::new(rustix::stdio::stderr(), OFlags::WRONLY)
    }

    fn new(fd: BorrowedFd<'static>, access: OFlags) -> Standard {
        let opened = None;
        Standard { fd, access, opened }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let Opened { io, needs_poll } = self.opened()?;
        io.poll_read_with(cx, |fd| {
            if *needs_poll {
                check_ready(fd, PollFlags::IN | PollFlags::PRI)?;
            }
            Ok(rustix::io::readv(fd, bufs)?)
        })
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Opened { io, needs_poll } = self.opened()?;
        io.poll_write_with(cx, |fd| {
            if *needs_poll {
                check_ready(fd, PollFlags::OUT)?;
                let mut part = [0; PIPE_BUF];
                let length = gather(bufs, &mut part);
                return Ok(rustix::io::write(fd, &part[..length])?);
            }
            Ok(rustix::io::writev(fd, bufs)?)
        })
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

/// The stream's own file descriptor.
struct Opened {
    io: Async<OwnedFd>,
    /// An operation could block, so it calls `poll` first.
    needs_poll: bool,
}

impl Opened {
    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Opened> {
        // Where the system refuses `fstat`, each operation calls `poll`.
        let stat = fstat(fd).ok();
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_ready = matches!(kind, Some(FileType::RegularFile | FileType::BlockDevice));
        // Opening the master of a pseudo-terminal, device 5:2, creates another pseudo-terminal.
        let is_master = stat.is_none_or(|stat| stat.st_rdev == makedev(5, 2));
        let is_terminal = fd.is_terminal() && !is_master;
        let reopened = if kind == Some(FileType::Fifo) || is_terminal {
            reopen(fd, access)
        } else {
            None
        };
        let needs_poll = reopened.is_none() && !is_ready;
        let own = reopened.map_or_else(|| fd.try_clone_to_owned(), Ok)?;
        let io = Async::new_nonblocking(own)?;
        Ok(Opened { io, needs_poll })
    }
}

/// Returns `WouldBlock` unless the system reports the file descriptor as ready.
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

/// Copies as much of the buffers as fits into `part`, and returns the number of bytes.
fn gather(bufs: &[IoSlice<'_>], part: &mut [u8]) -> usize {
    let mut length = 0;
    for buf in bufs {
        let n = buf.len().min(part.len() - length);
        part[length..][..n].copy_from_slice(&buf[..n]);
        length += n;
    }
    length
}

/// Opens the same pipe or terminal as another open file, which may be non-blocking without an
/// effect on other processes. Returns `None` if the system refuses, because it belongs to another
/// user or `/proc` is missing.
fn reopen(fd: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
    if !cfg!(target_os = "linux") {
        return None; // on other systems the path duplicates the file descriptor
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
