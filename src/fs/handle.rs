//! An open file, as its operations share it.

use std::fs::{FileTimes, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::metadata::Metadata;
use super::order::OrderQueue;
use super::platform::{self, FileSystem};
use super::position::Position;
use super::simulation::{self, SimulatedFile};

/// An open file. Operations in flight share it, so its file descriptor stays open until the last of
/// them completes.
#[derive(Debug)]
pub(crate) struct Handle {
    /// A placeholder if the file is simulated. Reads and writes of it fail.
    pub(super) file: std::fs::File,
    /// The file of a simulated disk.
    pub(super) simulated: Option<SimulatedFile>,
    /// The queue of its operations.
    pub(super) order: Arc<OrderQueue>,
    /// Whether it is a pipe, a socket, a terminal or another device, which may wait for a peer.
    pub(crate) is_stream: bool,
    /// Whether it was opened with `O_NONBLOCK`, which means something else to io_uring.
    pub(crate) is_nonblocking: bool,
    /// Whether it was opened with `O_DIRECT`, which needs aligned memory.
    pub(crate) is_direct: bool,
    /// Whether writes go to the end.
    pub(crate) appends: bool,
    /// Whether it was opened for writing, as far as is known.
    pub(crate) writes: bool,
    pub(super) file_system: OnceLock<FileSystem>,
}

/// Performs an operation of a simulated file, or one of the system.
macro_rules! either {
    ($handle:ident, $simulated:ident => $in_simulation:expr, $real:expr) => {
        match &$handle.simulated {
            Some($simulated) => $in_simulation,
            None => $real,
        }
    };
}

impl Handle {
    pub(crate) fn new(file: std::fs::File) -> Handle {
        let flags = platform::file_flags(&file);
        Handle {
            // A simulated program can use no file of the system.
            simulated: simulation::current().map(|host| host.foreign_file()),
            file,
            order: Arc::default(),
            is_stream: flags.is_stream,
            is_nonblocking: flags.is_nonblocking,
            is_direct: flags.is_direct,
            appends: flags.appends,
            writes: flags.writes,
            file_system: OnceLock::new(),
        }
    }

    pub(crate) fn into_file(self) -> std::fs::File {
        self.file
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Returns whether closing the file and reading its metadata are known to need no server.
    pub(crate) fn is_local(&self) -> bool {
        self.is_simulated() || self.file_system().is_local
    }

    /// Returns whether a read of data in memory waits for no lock that a writer may hold.
    #[cfg(target_os = "linux")]
    pub(super) fn reads_without_lock(&self) -> bool {
        !self.is_simulated() && self.file_system().reads_without_lock
    }

    fn file_system(&self) -> FileSystem {
        let query = || platform::file_system_now(&self.file);
        *self.file_system.get_or_init(query)
    }

    pub(crate) fn read(&self, buffer: &mut [u8], at: Position) -> io::Result<usize> {
        either!(self, it => it.read(buffer, at), platform::read(&self.file, buffer, at))
    }

    pub(crate) fn write(&self, buffer: &[u8], at: Position) -> io::Result<usize> {
        either!(self, it => it.write(buffer, at), platform::write(&self.file, buffer, at))
    }

    /// Reads at the position, as std does. One buffer makes a system call even if it is empty.
    pub(crate) fn read_now(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match bufs {
            [buf] => self.read(buf, Position::Cursor),
            _ => either!(self, it => it.read(&mut [], Position::Cursor),
                (&self.file).read_vectored(bufs)),
        }
    }

    /// Writes at the position, as std does.
    pub(crate) fn write_now(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            [buf] => self.write(buf, Position::Cursor),
            _ => either!(self, it => it.write(&[], Position::Cursor),
                (&self.file).write_vectored(bufs)),
        }
    }

    pub(crate) fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        either!(self, it => it.seek(to), (&self.file).seek(to))
    }

    pub(crate) fn sync(&self, data_only: bool) -> io::Result<()> {
        either!(self, it => it.sync(data_only), match data_only {
            true => self.file.sync_data(),
            false => self.file.sync_all(),
        })
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        either!(self, it => it.set_len(len), self.file.set_len(len))
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        either!(self, it => it.metadata(), self.file.metadata().map(Metadata::from))
    }

    pub(crate) fn set_times(&self, times: FileTimes) -> io::Result<()> {
        either!(self, _it => Err(io::ErrorKind::Unsupported.into()), self.file.set_times(times))
    }

    pub(crate) fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        either!(self, it => it.set_permissions(permissions), self.file.set_permissions(permissions))
    }
}

impl Deref for Handle {
    type Target = std::fs::File;

    fn deref(&self) -> &std::fs::File {
        &self.file
    }
}
