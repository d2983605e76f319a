//! The system calls of files that differ between Unix and Windows.

#[cfg(unix)]
pub(super) use unix::*;
#[cfg(windows)]
pub(super) use windows::*;

/// The properties of a file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FileSystem {
    /// It is known to need no server to close a file and to read its metadata.
    pub(super) is_local: bool,
    /// A read of data in memory waits for no lock that a writer may hold while it waits for the
    /// disk.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "`sendfile` is used on Linux alone")
    )]
    pub(super) reads_without_lock: bool,
}

/// How a file was opened, as far as the system reports it.
pub(super) struct FileFlags {
    pub(super) is_stream: bool,
    pub(super) is_nonblocking: bool,
    pub(super) is_direct: bool,
    pub(super) appends: bool,
    pub(super) writes: bool,
}

#[cfg(unix)]
mod unix {
    use std::ffi::{CString, OsStr};
    use std::fs::{File, FileType};
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileExt, FileTypeExt};
    use std::path::Path;

    #[cfg(target_os = "linux")]
    use rustix::fs::{AtFlags, StatxFlags, statx};
    use rustix::fs::{OFlags, fcntl_getfl};

    use super::{FileFlags, FileSystem};
    use crate::fs::position::Position;

    /// A path in the form that system calls take.
    pub(crate) type SystemPath = CString;

    /// Returns `None` if the path contains a zero byte.
    pub(crate) fn system_path(path: &Path) -> Option<SystemPath> {
        CString::new(path.as_os_str().as_bytes()).ok()
    }

    pub(crate) fn path(path: &SystemPath) -> &Path {
        Path::new(OsStr::from_bytes(path.to_bytes()))
    }

    /// The file descriptor, where files have one.
    pub(crate) fn raw_fd(file: &File) -> Option<i32> {
        Some(file.as_raw_fd())
    }

    pub(crate) fn file_flags(file: &File) -> FileFlags {
        let flags = fcntl_getfl(file).unwrap_or(OFlags::empty());
        FileFlags {
            is_stream: file.metadata().is_ok_and(|it| is_stream(it.file_type())),
            is_nonblocking: flags.contains(OFlags::NONBLOCK),
            is_direct: is_direct(flags),
            appends: flags.contains(OFlags::APPEND),
            writes: flags.intersects(OFlags::RDWR | OFlags::WRONLY),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub(crate) fn is_direct(flags: OFlags) -> bool {
        flags.contains(OFlags::DIRECT)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(crate) fn is_direct(_: OFlags) -> bool {
        false
    }

    fn is_stream(kind: FileType) -> bool {
        kind.is_fifo() || kind.is_socket() || kind.is_char_device()
    }

    /// Returns whether opening the path may wait for a peer.
    pub(crate) fn may_wait(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|it| is_stream(it.file_type()))
    }

    /// Returns the properties of the file's file system. May have to query a server.
    ///
    /// The listed file systems close files and read metadata locally. Network file systems and FUSE
    /// send a message, and others are unknown. XFS locks a file for reads, and overlays may be of
    /// XFS.
    #[cfg(target_os = "linux")]
    pub(crate) fn file_system(file: impl AsFd) -> FileSystem {
        const EXT: u64 = 0xEF53;
        const XFS: u64 = 0x5846_5342;
        const BTRFS: u64 = 0x9123_683E;
        const F2FS: u64 = 0xF2F5_2010;
        const TMPFS: u64 = 0x0102_1994;
        const OVERLAY: u64 = 0x794C_7630;
        let kind = rustix::fs::fstatfs(file).map_or(0, |it| u64::from(it.f_type as u32));
        let reads_without_lock = [EXT, BTRFS, F2FS].contains(&kind);
        FileSystem {
            is_local: reads_without_lock || [XFS, TMPFS, OVERLAY].contains(&kind),
            reads_without_lock,
        }
    }

    /// Returns the properties if the file system has a block device. Others may have to query a
    /// server even for their type.
    #[cfg(target_os = "linux")]
    pub(crate) fn file_system_now(file: impl AsFd) -> FileSystem {
        let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        match statx(&file, "", how, StatxFlags::TYPE) {
            Ok(found) if found.stx_dev_major != 0 => file_system(file),
            _ => FileSystem::default(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn file_system_now(_: impl AsFd) -> FileSystem {
        FileSystem::default()
    }

    /// Closes the file and returns the error.
    pub(crate) fn close(file: File) -> io::Result<()> {
        // SAFETY: `file` owned the file descriptor and is consumed, so nothing else closes it.
        unsafe { rustix::io::try_close(file.into_raw_fd()) }.map_err(io::Error::from)
    }

    pub(crate) fn read(mut file: &File, buffer: &mut [u8], at: Position) -> io::Result<usize> {
        match at {
            Position::Cursor => file.read(buffer),
            Position::Offset(offset) => file.read_at(buffer, offset),
        }
    }

    pub(crate) fn write(mut file: &File, buffer: &[u8], at: Position) -> io::Result<usize> {
        match at {
            Position::Cursor => file.write(buffer),
            Position::Offset(offset) => file.write_at(buffer, offset),
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::fs::File;
    use std::io::{self, Read, Seek, SeekFrom, Write};
    use std::os::windows::fs::FileExt;
    use std::path::{Path, PathBuf};

    use super::{FileFlags, FileSystem};
    use crate::fs::position::Position;

    pub(crate) type SystemPath = PathBuf;

    pub(crate) fn system_path(path: &Path) -> Option<SystemPath> {
        Some(path.to_owned())
    }

    pub(crate) fn path(path: &SystemPath) -> &Path {
        path
    }

    /// Windows can't report how a file was opened. It writes to the end of a file that was opened
    /// to append, whatever the offset.
    pub(crate) fn raw_fd(_: &File) -> Option<i32> {
        None
    }

    pub(crate) fn file_flags(_: &File) -> FileFlags {
        FileFlags {
            is_stream: false,
            is_nonblocking: false,
            is_direct: false,
            appends: false,
            writes: true,
        }
    }

    pub(crate) fn may_wait(_: &Path) -> bool {
        false
    }

    pub(crate) fn file_system_now(_: &File) -> FileSystem {
        FileSystem::default()
    }

    pub(crate) fn close(file: File) -> io::Result<()> {
        drop(file);
        Ok(())
    }

    pub(crate) fn read(mut file: &File, buffer: &mut [u8], at: Position) -> io::Result<usize> {
        match at {
            Position::Cursor => file.read(buffer),
            Position::Offset(offset) => keep_position(file, || file.seek_read(buffer, offset)),
        }
    }

    pub(crate) fn write(mut file: &File, buffer: &[u8], at: Position) -> io::Result<usize> {
        match at {
            Position::Cursor => file.write(buffer),
            Position::Offset(offset) => keep_position(file, || file.seek_write(buffer, offset)),
        }
    }

    /// Restores the position, which an operation at an offset moves. Operations of a handle run one
    /// at a time on Windows.
    fn keep_position<T>(mut file: &File, work: impl FnOnce() -> T) -> T {
        let position = file.stream_position();
        let output = work();
        if let Ok(position) = position {
            let _ = file.seek(SeekFrom::Start(position));
        }
        output
    }
}
