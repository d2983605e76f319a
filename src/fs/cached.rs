//! Reads of cached data, and opens of cached paths. They complete at once, and are tried before the
//! ring or a thread.
//!
//! Each attempt completes in the poll that makes it. So it charges the budget of the task, and a
//! turn allows only so many bytes, since a task may be known by many wakers.

use std::io;

pub(super) use platform::{open, poll_read_cursor, read_at};

/// The result of a read of cached data.
#[derive(Clone, Copy, Default)]
pub(super) struct Cached {
    pub(super) bytes: usize,
    /// Whether the buffer is full, the file has ended, or an error followed some bytes. Otherwise
    /// the ring or a thread reads the rest, or returns the error.
    pub(super) is_complete: bool,
}

impl Cached {
    /// Adds the result of reading the rest. An error after some bytes is left to the next read, as
    /// after a short read of std.
    pub(super) fn and(self, rest: io::Result<usize>) -> io::Result<usize> {
        match rest {
            Ok(more) => Ok(self.bytes + more),
            Err(_) if self.bytes > 0 => Ok(self.bytes),
            error => error,
        }
    }
}

/// The destination of a read at an offset.
pub(super) enum Target<'a> {
    Slice(&'a mut [u8]),
    /// This number of bytes of the spare capacity.
    Spare(&'a mut Vec<u8>, usize),
}

impl Target<'_> {
    /// Makes room for the bytes, and returns their number.
    #[inline]
    pub(super) fn reserve(&mut self) -> usize {
        match self {
            Target::Slice(buf) => buf.len(),
            Target::Spare(buffer, wanted) => {
                buffer.reserve(*wanted);
                *wanted
            }
        }
    }
}

/// The result of a lookup of a path in the system's cache.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only Linux can open cached paths")
)]
pub(super) enum Known {
    /// The path leads to a file or directory, which was opened.
    Opened(std::fs::File),
    /// The path leads to a file or directory, or is missing. So opening it needs no peer.
    Regular,
    Unknown,
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::task::{Context, Poll, ready};

    use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fcntl_setfl, fstat, openat2};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::{Cached, Known, Target};
    use crate::fs::OpenOptions;
    use crate::fs::files::try_take_cached;
    use crate::fs::handle::Handle;
    use crate::fs::operation::MAX_BYTES;
    use windlass_reactor::{budget, is_driven};

    /// This number of bytes counts as one operation of the budget. The copy takes about 5 µs.
    const PER_CHARGE: usize = 32 * 1024;

    /// The least that a read or an open counts against the limit per turn (bytes).
    const LEAST: usize = 4096;

    /// Charges for a read of this number of bytes. Returns false if it must wait.
    #[inline]
    fn try_charge(cx: &mut Context<'_>, bytes: usize) -> bool {
        try_take_cached(bytes.max(LEAST)) && budget::try_charge(cx)
    }

    /// Reads at the position of the open file description, as `read` does. It waits for the next
    /// turn if the budget of the task is exhausted.
    ///
    /// A poll copies 1 to 3 MiB at most. `can` becomes false where the system or the file system
    /// lacks such reads.
    pub(crate) fn poll_read_cursor(
        cx: &mut Context<'_>,
        handle: &Handle,
        bufs: &mut [IoSliceMut<'_>],
        can: &mut bool,
    ) -> Poll<Cached> {
        if !is_driven() {
            return Poll::Ready(Cached::default());
        }
        ready!(budget::poll_charge(cx));
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let part = |done| read_part(handle, bufs, done);
        Poll::Ready(read(wanted.min(MAX_BYTES), can, part))
    }

    /// Reads at an offset, into the room that was reserved. Returns zero bytes if the budget of the
    /// task is exhausted.
    #[inline]
    pub(crate) fn read_at(
        cx: &mut Context<'_>,
        handle: &Handle,
        target: &mut Target<'_>,
        wanted: usize,
        offset: u64,
        can: &mut bool,
    ) -> Cached {
        if !try_charge(cx, wanted) {
            return Cached::default();
        }
        read(wanted, can, |done| {
            let offset = offset + done as u64;
            match target {
                Target::Slice(buf) => {
                    let bufs = &mut [IoSliceMut::new(&mut buf[done..])];
                    preadv2(&**handle, bufs, offset, ReadWriteFlags::NOWAIT)
                }
                Target::Spare(buffer, wanted) => read_spare(handle, buffer, *wanted - done, offset),
            }
        })
    }

    #[inline]
    fn read(
        wanted: usize,
        can: &mut bool,
        mut part: impl FnMut(usize) -> rustix::io::Result<usize>,
    ) -> Cached {
        let mut bytes = 0;
        let is_complete = loop {
            match part(bytes) {
                // A short read ends at the end of the file, or where the page cache has a gap.
                Ok(more) if more > 0 && bytes + more < wanted => bytes += more,
                Ok(more) => {
                    bytes += more;
                    break true;
                }
                Err(error) if bytes == 0 => {
                    budget::refund();
                    *can = error == Errno::AGAIN; // some file systems lack it
                    break false;
                }
                Err(error) => break error != Errno::AGAIN, // the next read returns the error
            }
        };
        budget::charge(bytes / PER_CHARGE);
        Cached { bytes, is_complete }
    }

    /// Reads at the position, behind the first `done` bytes of the buffers.
    fn read_part(
        handle: &Handle,
        bufs: &mut [IoSliceMut<'_>],
        mut done: usize,
    ) -> rustix::io::Result<usize> {
        /// Makes `preadv2` read at the position, which it moves.
        const CURSOR: u64 = u64::MAX;

        let mut room = MAX_BYTES - done;
        let mut rest = |buf: &mut IoSliceMut<'_>| {
            let start = buf.len().min(done);
            let most = (buf.len() - start).min(room);
            done -= start;
            room -= most;
            start..start + most
        };
        if let [buf] = bufs {
            let range = rest(buf);
            let bufs = &mut [IoSliceMut::new(&mut buf[range])];
            return preadv2(&**handle, bufs, CURSOR, ReadWriteFlags::NOWAIT);
        }
        let mut parts = Vec::with_capacity(bufs.len());
        for buf in bufs {
            let range = rest(buf);
            parts.push(IoSliceMut::new(&mut buf[range]));
        }
        preadv2(&**handle, &mut parts, CURSOR, ReadWriteFlags::NOWAIT)
    }

    /// Appends to the buffer. Zeroing the memory first would cost as much as the read.
    #[inline]
    fn read_spare(
        handle: &Handle,
        buffer: &mut Vec<u8>,
        wanted: usize,
        offset: u64,
    ) -> rustix::io::Result<usize> {
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
        let room = &mut buffer.spare_capacity_mut()[..wanted];
        let part = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: room.len(),
        };
        // SAFETY: `part` is spare capacity of the buffer, which is borrowed during the call. The
        // kernel writes only there.
        let read = unsafe { libc::preadv2(handle.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) };
        let Ok(read) = usize::try_from(read) else {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        };
        // SAFETY: the kernel has written `read` bytes behind the end, within the capacity.
        unsafe { buffer.set_len(buffer.len() + read) };
        Ok(read)
    }

    /// Opens an existing file or directory. Pipes and devices are left to threads, because opening
    /// one may have effects and may wait for a peer.
    pub(crate) fn open(cx: &mut Context<'_>, options: &OpenOptions, path: &Path) -> Known {
        if !is_driven() {
            return Known::Unknown;
        }
        let known = OFlags::PATH | OFlags::CLOEXEC;
        match openat2(CWD, path, known, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) if fstat(&file).is_ok_and(|it| is_file_or_directory(it.st_mode)) => {}
            Ok(_) => return Known::Unknown,
            // The path is uncached, or the system lacks the call.
            Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::MFILE) => {
                return Known::Unknown;
            }
            Err(_) => return Known::Regular, // the ring gets the same error, or creates the file
        }
        if options.may_create() || !try_charge(cx, 0) {
            return Known::Regular;
        }
        match open_regular(options, path) {
            Ok(file) => Known::Opened(file),
            Err(_) => {
                budget::refund();
                Known::Regular
            }
        }
    }

    fn is_file_or_directory(mode: rustix::fs::RawMode) -> bool {
        let kind = FileType::from_raw_mode(mode);
        matches!(kind, FileType::RegularFile | FileType::Directory)
    }

    fn open_regular(options: &OpenOptions, path: &Path) -> rustix::io::Result<std::fs::File> {
        let flags = options.flags();
        // Keeps the open from waiting if the path has become a pipe, or another process has a
        // lease.
        let now = flags | OFlags::NONBLOCK;
        let file = openat2(CWD, path, now, Mode::empty(), ResolveFlags::CACHED)?;
        if now != flags {
            fcntl_setfl(&file, flags)?;
        }
        Ok(file.into())
    }
}

/// Only Linux has calls that read and open from the cache.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io::IoSliceMut;
    use std::path::Path;
    use std::task::{Context, Poll};

    use super::{Cached, Known, Target};
    use crate::fs::OpenOptions;
    use crate::fs::handle::Handle;

    pub(crate) fn poll_read_cursor(
        _: &mut Context<'_>,
        _: &Handle,
        _: &mut [IoSliceMut<'_>],
        can: &mut bool,
    ) -> Poll<Cached> {
        *can = false;
        Poll::Ready(Cached::default())
    }

    pub(crate) fn read_at(
        _: &mut Context<'_>,
        _: &Handle,
        _: &mut Target<'_>,
        _: usize,
        _: u64,
        can: &mut bool,
    ) -> Cached {
        *can = false;
        Cached::default()
    }

    pub(crate) fn open(_: &mut Context<'_>, _: &OpenOptions, _: &Path) -> Known {
        Known::Unknown
    }
}
