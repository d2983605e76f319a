//! Reads of cached data, and opens of cached paths. They complete at once, and are tried before the
//! ring or a thread.
//!
//! Each attempt completes in the poll that makes it. So it charges the budget of the task, and a
//! turn allows only so many bytes, since a task may be known by many wakers. Beyond that, an
//! attempt waits for the next turn, which costs less than an operation of the ring or of a thread.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::Poll;

pub(super) use platform::{Attempt, metadata, open, poll_admit, poll_read_cursor};
#[cfg(target_os = "linux")]
pub(super) use platform::{look_up, metadata_of, open_below, settle, touch};
pub(super) use platform::{read_at, try_admit};
use windlass_reactor::is_driven;

use super::absolute::from_here;

/// Waits until an attempt to look up the path is admitted. Returns the path, which is absolute if
/// the current directory may have changed meanwhile. Returns `None` if threads must look it up.
pub(super) async fn admit_lookup(path: &Path) -> Option<Cow<'_, Path>> {
    if !is_driven() {
        return None;
    }
    match poll_fn(|cx| Poll::Ready(try_admit(cx, 0))).await {
        true => Some(Cow::Borrowed(path)),
        false => {
            let path = from_here(path);
            let mut attempt = Attempt::default();
            let is_admitted = poll_fn(|cx| poll_admit(cx, &mut attempt, 0)).await;
            is_admitted.then_some(Cow::Owned(path))
        }
    }
}

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

/// The error of a root for a pipe, a socket or a device.
#[cfg(unix)]
#[cold]
pub(super) fn special() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "neither a file nor a directory",
    )
}

/// The result of a lookup of a path in the system's cache.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only Linux can open cached paths")
)]
pub(super) enum Known {
    /// The path leads to a file or directory, which was opened.
    Opened(std::fs::File),
    /// The lookup has failed, as it would without the cache.
    Failed(io::Error),
    /// The path leads to a file or directory, or is missing. So opening it needs no peer.
    Regular,
    Unknown,
}

#[cfg(target_os = "linux")]
mod platform {
    use std::io::{self, IoSliceMut};
    use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
    use std::path::Path;
    use std::task::{Context, Poll, ready};

    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, StatxFlags};
    use rustix::fs::{fcntl_setfl, openat2, statx};
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::{Cached, Known, Target, special};
    pub(crate) use crate::fs::cached_queue::Attempt;
    use crate::fs::files::{Files, return_cached, try_take_cached};
    use crate::fs::handle::Handle;
    use crate::fs::operation::MAX_BYTES;
    use crate::fs::platform::{FileSystem, file_system_now};
    use crate::fs::{Metadata, OpenOptions};
    use windlass_reactor::{budget, is_driven};

    /// This number of bytes counts as one operation of the budget. The copy takes about 5 µs.
    const PER_CHARGE: usize = 32 * 1024;

    /// The least that a read or an open counts against the limit per turn (bytes).
    const LEAST: usize = 4096;

    /// Charges the task and the turn for an attempt that copies up to this number of bytes. Returns
    /// false beyond either limit.
    #[inline]
    pub(crate) fn try_admit(cx: &mut Context<'_>, bytes: usize) -> bool {
        if !budget::try_charge(cx) {
            return false;
        }
        let is_admitted = try_take_cached(bytes.max(LEAST));
        if !is_admitted {
            budget::refund();
        }
        is_admitted
    }

    /// Charges as [`try_admit`] does. Beyond the limits, it waits for the next turn. Returns false
    /// if no turn would come.
    pub(crate) fn poll_admit(
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
        bytes: usize,
    ) -> Poll<bool> {
        let Some(files) = Files::driven() else {
            return Poll::Ready(false);
        };
        match attempt.poll_admitted(cx.waker()) {
            None if try_admit(cx, bytes) => Poll::Ready(true),
            None => {
                Files::wait_for_turn(&files, attempt, bytes.max(LEAST), cx.waker().clone());
                Poll::Pending
            }
            Some(Poll::Ready(())) => {
                budget::charge(1);
                Poll::Ready(true)
            }
            Some(Poll::Pending) => Poll::Pending,
        }
    }

    /// Takes back the charge of an attempt, except for the bytes that it has copied.
    #[inline]
    pub(crate) fn settle(admitted: usize, copied: usize) {
        return_cached(admitted.max(LEAST) - copied.max(LEAST));
        budget::charge(copied / PER_CHARGE);
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
        let cached = read(wanted.min(MAX_BYTES), can, part);
        budget::charge(cached.bytes / PER_CHARGE);
        Poll::Ready(cached)
    }

    /// Reads at an offset, into the room that was reserved. The read was admitted.
    #[inline]
    pub(crate) fn read_at(
        handle: &Handle,
        target: &mut Target<'_>,
        wanted: usize,
        offset: u64,
        can: &mut bool,
    ) -> Cached {
        let cached = read(wanted, can, |done| {
            let offset = offset + done as u64;
            match target {
                Target::Slice(buf) => {
                    let bufs = &mut [IoSliceMut::new(&mut buf[done..])];
                    preadv2(&**handle, bufs, offset, ReadWriteFlags::NOWAIT)
                }
                Target::Spare(buffer, wanted) => read_spare(handle, buffer, *wanted - done, offset),
            }
        });
        settle(wanted, cached.bytes);
        cached
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

    /// Reads cached data and discards it. Returns the number of bytes up to the first page that is
    /// not in memory.
    pub(crate) fn touch(handle: &Handle, offset: u64, wanted: usize) -> usize {
        /// Fits into the cache of the first level.
        const ROOM: usize = 16 * 1024;

        let Ok(offset) = libc::off_t::try_from(offset) else {
            return 0;
        };
        let wanted = wanted.min(MAX_BYTES);
        let mut room = std::mem::MaybeUninit::<[u8; ROOM]>::uninit();
        let part = libc::iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: ROOM,
        };
        let mut parts = [part; MAX_BYTES / ROOM];
        let count = wanted.div_ceil(ROOM);
        if let Some(last) = parts[..count].last_mut() {
            last.iov_len = wanted - (count - 1) * ROOM;
        }
        // SAFETY: each of the `count` parts is a first part of `room`, which outlives the call. The
        // kernel writes only there, one part after the other.
        let read = unsafe {
            let fd = handle.as_raw_fd();
            libc::preadv2(fd, parts.as_ptr(), count as i32, offset, libc::RWF_NOWAIT)
        };
        usize::try_from(read).unwrap_or(0)
    }

    /// Opens an existing file or directory. Pipes and devices are left to threads, because opening
    /// one may have effects and may wait for a peer. The lookup was admitted.
    pub(crate) fn open(options: &OpenOptions, path: &Path) -> Known {
        match look_up(CWD, ResolveFlags::CACHED, OFlags::empty(), path) {
            Ok((_, mode, _)) if !is_file_or_directory(mode) => {
                budget::refund();
                return Known::Unknown;
            }
            Ok(_) => {}
            Err(error) => {
                return match failed(error) {
                    // The open may create the file, or fail otherwise.
                    Known::Failed(_) if !options.only_opens() => Known::Regular,
                    known => known,
                };
            }
        }
        match open_regular(options, path) {
            Ok(file) => Known::Opened(file),
            Err(_) => {
                budget::refund();
                Known::Regular
            }
        }
    }

    /// Opens a file or directory below another directory for reading. Returns it with its device.
    /// Returns `None` if a thread must open it, and an error for pipes and devices. Those are
    /// opened for a moment, as nginx does. A lookup before would cost as much as the open.
    pub(crate) fn open_below(dir: BorrowedFd<'_>, path: &Path) -> Option<io::Result<Below>> {
        let opened = try_open_below(dir, path);
        match opened {
            Ok((_, mode, _)) if !is_file_or_directory(mode) => Some(Err(special())),
            Ok((file, _, device)) => Some(Ok((file, device))),
            Err(error) => match failed(error) {
                Known::Failed(error) => Some(Err(error)),
                _ => None,
            },
        }
    }

    /// A file, and the number of its device.
    type Below = (std::fs::File, u64);

    fn try_open_below(
        dir: BorrowedFd<'_>,
        path: &Path,
    ) -> rustix::io::Result<(std::fs::File, RawMode, u64)> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::CACHED;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let now = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = openat2(dir, path, now, Mode::empty(), resolve)?;
        let (mode, device) = type_of(&fd)?;
        fcntl_setfl(&fd, flags)?;
        Ok((fd.into(), mode, device))
    }

    /// Returns the metadata of a path. Returns `None` if a thread must read it.
    pub(crate) fn metadata(path: &Path, follows_link: bool) -> Option<io::Result<Metadata>> {
        let flags = match follows_link {
            true => OFlags::empty(),
            false => OFlags::NOFOLLOW,
        };
        metadata_of(look_up(CWD, ResolveFlags::CACHED, flags, path), None)
    }

    /// Returns the metadata of a path that was looked up, if its file system is local. The file
    /// system of one device is known.
    pub(crate) fn metadata_of(
        found: LookedUp,
        known: Option<(u64, FileSystem)>,
    ) -> Option<io::Result<Metadata>> {
        match found {
            Ok((fd, _, device)) => {
                let file_system = match known {
                    Some((known, file_system)) if known == device => file_system,
                    _ => file_system_now(&fd),
                };
                let file = std::fs::File::from(fd);
                (file_system.is_local).then(|| file.metadata().map(Metadata::from))
            }
            Err(error) => match failed(error) {
                Known::Failed(error) => Some(Err(error)),
                _ => None,
            },
        }
    }

    /// A descriptor that only names the file, the type of the file, and its device.
    type LookedUp = rustix::io::Result<(OwnedFd, RawMode, u64)>;

    /// Looks up a path without an effect on the file.
    pub(crate) fn look_up(
        dir: BorrowedFd<'_>,
        resolve: ResolveFlags,
        flags: OFlags,
        path: &Path,
    ) -> LookedUp {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let fd = openat2(dir, path, flags, Mode::empty(), resolve)?;
        let (mode, device) = type_of(&fd)?;
        Ok((fd, mode, device))
    }

    /// Returns the type of a file, and its device. Network file systems would query the server for
    /// anything but the cached type.
    fn type_of(fd: &OwnedFd) -> rustix::io::Result<(RawMode, u64)> {
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(fd, "", how, StatxFlags::TYPE)?;
        let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
        Ok((found.stx_mode.into(), device))
    }

    /// The result of a lookup that has failed, which takes back its charge. It is unknown if the
    /// path is uncached, or if the system lacks the call.
    fn failed(error: Errno) -> Known {
        budget::refund();
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NAMETOOLONG => {
                Known::Failed(error.into())
            }
            _ => Known::Unknown,
        }
    }

    fn is_file_or_directory(mode: RawMode) -> bool {
        let kind = FileType::from_raw_mode(mode);
        matches!(kind, FileType::RegularFile | FileType::Directory)
    }

    fn open_regular(options: &OpenOptions, path: &Path) -> rustix::io::Result<std::fs::File> {
        if options.may_create() {
            return Err(Errno::AGAIN);
        }
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
    use std::io::{self, IoSliceMut};
    use std::path::Path;
    use std::task::{Context, Poll};

    use super::{Cached, Known, Target};
    use crate::fs::handle::Handle;
    use crate::fs::{Metadata, OpenOptions};

    pub(crate) fn poll_read_cursor(
        _: &mut Context<'_>,
        _: &Handle,
        _: &mut [IoSliceMut<'_>],
        can: &mut bool,
    ) -> Poll<Cached> {
        *can = false;
        Poll::Ready(Cached::default())
    }

    pub(crate) fn try_admit(_: &mut Context<'_>, _: usize) -> bool {
        false
    }

    #[derive(Default)]
    pub(crate) struct Attempt;

    pub(crate) fn poll_admit(_: &mut Context<'_>, _: &mut Attempt, _: usize) -> Poll<bool> {
        Poll::Ready(false)
    }

    pub(crate) fn read_at(
        _: &Handle,
        _: &mut Target<'_>,
        _: usize,
        _: u64,
        can: &mut bool,
    ) -> Cached {
        *can = false;
        Cached::default()
    }

    pub(crate) fn open(_: &OpenOptions, _: &Path) -> Known {
        Known::Unknown
    }

    pub(crate) fn metadata(_: &Path, _: bool) -> Option<io::Result<Metadata>> {
        None
    }
}
