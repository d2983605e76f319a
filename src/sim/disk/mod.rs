//! The disk of a host: files in memory, of which a crash keeps the synced part.
//!
//! Programs see each change at once, as through the page cache of a kernel. A sync of a file makes
//! its bytes durable, and a sync of a directory makes the names in it durable. Then
//! [`Disk::crash`] decides on the other changes:
//!
//! * One choice is among all changes, none, and a choice for each of them. Zero keeps all, because
//!   the run then continues as without the crash. So a shrunk list names the lost changes alone.
//! * Each page of 4 KiB has one of its states since the last sync. It may be torn at each sector of
//!   512 B.
//! * Each change of names is kept or undone. A rename is atomic.
//!
//! The model has no clock, no thread and no system call. Directories list their names in the order
//! of their bytes. The user owns all files, and is no superuser unless [`Faults`] says so.

mod contents;
mod errno;
mod faults;
mod file_data;
mod inode;
mod journal;
mod names;
mod open_file;
mod tree;

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsString;
use std::io::{self, IoSlice, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use errno::Errno;
#[cfg(test)]
pub(crate) use faults::Latency;
pub(crate) use faults::{Faults, Work};
pub(crate) use names::{Kind, Stat};
pub(crate) use open_file::{At, How};

use super::site::Site;
use super::trace::hash_of;
use open_file::OpenFiles;
use tree::Tree;

/// Returns a number below the limit, which is zero in all but one of the `rarity` cases. The
/// arguments are the site, the rarity and the limit.
type Choose<'a> = &'a dyn Fn(Site, u32, u32) -> u32;

/// The disk of a host. It outlives the crashes of the host.
pub(crate) struct Disk {
    /// Identifies the disk within the process. Programs never see it.
    id: u64,
    choose: Box<dyn Fn(Site, u32, u32) -> u32>,
    /// Returns the host's time (ns since the Unix epoch).
    now: Box<dyn Fn() -> u64>,
    /// Records an operation and its result.
    record: Box<dyn Fn(u64, u64)>,
    /// The names of Unix sockets belong to the network.
    unlink_socket: OnceCell<Unlink>,
    crashes: Cell<u64>,
    /// The host is down. Destructors of its tasks can't use the disk.
    is_down: Cell<bool>,
    state: RefCell<State>,
}

/// Removes the name of a Unix socket. Returns false if there is none.
type Unlink = Box<dyn Fn(&Path) -> bool>;

struct State {
    tree: Tree,
    files: OpenFiles,
    faults: Faults,
}

impl Disk {
    /// Returns an empty disk. It has the directories `/` and `/tmp`.
    pub(in crate::sim) fn new(
        choose: impl Fn(Site, u32, u32) -> u32 + 'static,
        now: impl Fn() -> u64 + 'static,
        record: impl Fn(u64, u64) + 'static,
        faults: Faults,
    ) -> Rc<Disk> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mut tree = Tree::new(now(), faults.is_superuser);
        let made = tree.create_dir(Path::new("/tmp"), now());
        made.expect("an empty disk has no `/tmp`");
        tree.sync_names(tree::ROOT);
        Rc::new(Disk {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            choose: Box::new(choose),
            now: Box::new(now),
            record: Box::new(record),
            unlink_socket: OnceCell::new(),
            crashes: Cell::new(0),
            is_down: Cell::new(false),
            state: RefCell::new(State {
                tree,
                files: OpenFiles::default(),
                faults,
            }),
        })
    }

    /// Changes the faults, also for operations in flight.
    pub(in crate::sim) fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        let state = &mut *self.state.borrow_mut();
        change(&mut state.faults);
        state.tree.is_superuser = state.faults.is_superuser;
    }

    /// Sets the function that removes the name of a Unix socket. It returns false if there is none.
    pub(in crate::sim) fn on_unlink(&self, unlink: impl Fn(&Path) -> bool + 'static) {
        let _ = self.unlink_socket.set(Box::new(unlink)); // once per disk
    }

    /// Switches the disk on or off. Operations fail with `EIO` while it is off.
    pub(in crate::sim) fn set_power(&self, is_on: bool) {
        self.is_down.set(!is_on);
    }

    /// Loses the memory of the host. The disk has the synced changes, and a part of the others.
    ///
    /// Operations in flight never happen, and operations on files that are open now fail.
    pub(crate) fn crash(&self) {
        self.crashes.set(self.crashes.get() + 1);
        let mut state = self.state.borrow_mut();
        state.files.clear();
        state.tree.crash(&self.choose);
        drop(state);
        (self.record)(Call::Crash as u64, 0);
    }

    /// Returns how often the disk has crashed. An operation from before a crash must not happen.
    pub(crate) fn crashes(&self) -> u64 {
        self.crashes.get()
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns how long an operation takes that starts now (ns).
    pub(crate) fn latency(&self, work: Work) -> u64 {
        /// The parts of the least duration, and the parts of a second.
        const PARTS: u32 = 64;
        let faults = self.state.borrow().faults.clone();
        let least = faults.latency.of(work);
        let mut latency = least;
        if least > 0 {
            let more = (self.choose)(Site::DiskLatency, 1, PARTS);
            latency += least * u64::from(more) / u64::from(PARTS);
        }
        if faults.slow_operations > 0 {
            let more = (self.choose)(Site::DiskStall, faults.slow_operations, PARTS);
            latency += 1_000_000_000 * u64::from(more) / u64::from(PARTS);
        }
        latency
    }

    /// Returns whether an operation that was cancelled happens nonetheless.
    pub(crate) fn happens_when_cancelled(&self) -> bool {
        (self.choose)(Site::DiskCancel, 1, 2) == 0
    }

    /// Performs an operation, and records it with its error.
    fn with<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State, u64) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let result = match self.is_down.get() {
            true => Err(Errno::Io),
            false => work(&mut self.state.borrow_mut(), (self.now)()),
        };
        let error = result.as_ref().err().map_or(0, |error| 1 + *error as u64);
        (self.record)(call as u64, error);
        Ok(result?)
    }

    /// Performs a read or write, and records it with the number of bytes.
    fn transfer(
        &self,
        call: Call,
        work: impl FnOnce(&mut State, u64) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        let bytes = self.with(call, work)?;
        (self.record)(call as u64, bytes as u64);
        Ok(bytes)
    }
}

/// The operations, as they are recorded. A new one goes to the end.
#[derive(Clone, Copy, Debug)]
enum Call {
    CreateDir,
    CreateDirAll,
    RemoveFile,
    RemoveDir,
    RemoveDirAll,
    Rename,
    HardLink,
    Symlink,
    ReadLink,
    Canonicalize,
    Stat,
    SetPermissions,
    ReadDir,
    Open,
    Close,
    Read,
    Write,
    Seek,
    SetLen,
    Sync,
    Crash,
}

/// Operations on names.
impl Disk {
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.with(Call::CreateDir, |it, now| it.tree.create_dir(path, now))
    }

    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(Call::CreateDirAll, |it, now| {
            it.tree.create_dir_all(path, now)
        })
    }

    /// Removes a file, or the name of a Unix socket.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let removed = self.with(Call::RemoveFile, |it, now| it.tree.remove_file(path, now));
        let unlinks = |path| self.unlink_socket.get().is_some_and(|unlink| unlink(path));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound && unlinks(path) => Ok(()),
            removed => removed,
        }
    }

    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.with(Call::RemoveDir, |it, now| it.tree.remove_dir(path, now))
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(Call::RemoveDirAll, |it, now| {
            it.tree.remove_dir_all(path, now)
        })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(Call::Rename, |it, now| it.tree.rename(from, to, now))
    }

    pub(crate) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(Call::HardLink, |it, now| it.tree.hard_link(from, to, now))
    }

    pub(crate) fn symlink(&self, target: &Path, at: &Path) -> io::Result<()> {
        self.with(Call::Symlink, |it, now| it.tree.symlink(target, at, now))
    }

    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.with(Call::ReadLink, |it, _| it.tree.read_link(path))
    }

    pub(crate) fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.with(Call::Canonicalize, |it, _| it.tree.canonicalize(path))
    }

    /// Returns metadata. `follows` is for a symbolic link at the end of the path.
    pub(crate) fn stat(&self, path: &Path, follows: bool) -> io::Result<Stat> {
        self.with(Call::Stat, |it, _| {
            Ok(it.tree.stat(it.tree.find(path, follows)?))
        })
    }

    pub(crate) fn set_permissions(&self, path: &Path, permissions: u32) -> io::Result<()> {
        self.with(Call::SetPermissions, |it, now| {
            let ino = it.tree.find(path, true)?;
            it.tree.set_permissions(ino, permissions, now);
            Ok(())
        })
    }

    /// Returns the names in a directory.
    pub(crate) fn read_dir(&self, path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
        self.with(Call::ReadDir, |it, _| it.tree.read_dir(path))
    }
}

/// Copies.
impl Disk {
    /// Copies the contents and permissions of a file, as std does.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let metadata = self.stat(from, true)?;
        let read = How {
            read: true,
            ..How::default()
        };
        let from = self.open(from, read)?;
        let copied = match metadata.kind {
            Kind::File => self.copy_to(from, to, metadata.permissions),
            _ => {
                let text =
                    "the source path is neither a regular file nor a symlink to a regular file";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        };
        self.close(from);
        copied
    }

    fn copy_to(&self, from: u64, to: &Path, permissions: u32) -> io::Result<u64> {
        let write = How {
            write: true,
            create: true,
            truncate: true,
            mode: permissions,
            ..How::default()
        };
        let to = self.open(to, write)?;
        let permitted = self.set_permissions_open(to, permissions);
        let copied = permitted.and_then(|()| self.copy_all(from, to));
        self.close(to);
        copied
    }

    fn copy_all(&self, from: u64, to: u64) -> io::Result<u64> {
        const PART: usize = 64 * 1024;
        let (mut buffer, mut copied) = (vec![0; PART], 0);
        loop {
            let read = self.read(from, &mut buffer, At::Position)?;
            if read == 0 {
                return Ok(copied);
            }
            let mut left = &buffer[..read];
            while !left.is_empty() {
                left = &left[self.write(to, left, At::Position)?..];
            }
            copied += read as u64;
        }
    }
}

/// Operations on open files, which are known by number.
impl Disk {
    pub(crate) fn open(&self, path: &Path, how: How) -> io::Result<u64> {
        self.with(Call::Open, |it, now| {
            it.files.open(&mut it.tree, path, how, now)
        })
    }

    pub(crate) fn close(&self, file: u64) {
        let closed = self.with(Call::Close, |it, _| {
            it.files.close(&mut it.tree, file);
            Ok(())
        });
        debug_assert!(closed.is_ok() || self.is_down.get());
    }

    pub(crate) fn read(&self, file: u64, buffer: &mut [u8], at: At) -> io::Result<usize> {
        self.transfer(Call::Read, |it, _| {
            let faults = (&it.faults, &*self.choose as Choose<'_>);
            it.files.read(&it.tree, file, buffer, at, faults)
        })
    }

    pub(crate) fn write(&self, file: u64, data: &[u8], at: At) -> io::Result<usize> {
        let written = self.transfer(Call::Write, |it, now| {
            let faults = (&it.faults, &*self.choose as Choose<'_>, now);
            it.files.write(&mut it.tree, file, data, at, faults)
        })?;
        let hash = hash_of(&[IoSlice::new(data)], written);
        (self.record)(Call::Write as u64, hash);
        Ok(written)
    }

    pub(crate) fn seek(&self, file: u64, to: SeekFrom) -> io::Result<u64> {
        self.with(Call::Seek, |it, _| it.files.seek(&it.tree, file, to))
    }

    pub(crate) fn set_len(&self, file: u64, len: u64) -> io::Result<()> {
        self.with(Call::SetLen, |it, now| {
            it.files.set_len(&mut it.tree, file, len, now)
        })
    }

    pub(crate) fn sync(&self, file: u64, data_only: bool) -> io::Result<()> {
        self.with(Call::Sync, |it, _| {
            let faults = (&it.faults, &*self.choose as Choose<'_>);
            it.files.sync(&mut it.tree, file, data_only, faults)
        })
    }

    pub(crate) fn stat_open(&self, file: u64) -> io::Result<Stat> {
        self.with(Call::Stat, |it, _| Ok(it.tree.stat(it.files.ino(file)?)))
    }

    pub(crate) fn set_permissions_open(&self, file: u64, permissions: u32) -> io::Result<()> {
        self.with(Call::SetPermissions, |it, now| {
            let ino = it.files.ino(file)?;
            it.tree.set_permissions(ino, permissions, now);
            Ok(())
        })
    }
}

/// Returns a disk whose choices are zero, and its clock (ns).
#[cfg(test)]
pub(crate) fn disk_for_tests(faults: Faults) -> (Rc<Disk>, Rc<Cell<u64>>) {
    let now = Rc::new(Cell::new(0));
    let clock = now.clone();
    let tick = move || clock.replace(clock.get() + 1);
    (Disk::new(|_, _, _| 0, tick, |_, _| {}, faults), now)
}

#[cfg(test)]
mod tests;
