//! Open files.

use std::collections::BTreeMap;
use std::path::Path;

use super::Choose;
use super::contents::PAGE;
use super::errno::Errno;
use super::faults::Faults;
use super::inode::{File, Ino, Node};
use super::names::UMASK;
use super::tree::{Follow, Place, READ, Tree, WRITE};
use crate::sim::site::Site;

/// The largest length of a file.
const MAX_LEN: u64 = i64::MAX as u64;

/// How to open a file.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct How {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
    pub(crate) truncate: bool,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) mode: u32,
    /// Only a directory may be opened.
    pub(crate) directory: bool,
    /// A symbolic link at the end of the path is an error.
    pub(crate) no_follow: bool,
    /// Each write is synced.
    pub(crate) sync: bool,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// The position of the open file, which moves.
    Position,
    Offset(u64),
}

/// An open file. Its number is never used twice.
#[derive(Debug)]
struct OpenFile {
    ino: Ino,
    how: How,
    position: u64,
    /// The number of failed syncs that this open file has reported or was opened after.
    reported: u64,
}

/// The open files of a disk.
#[derive(Default, Debug)]
pub(super) struct OpenFiles {
    files: BTreeMap<u64, OpenFile>,
    last: u64,
}

impl OpenFiles {
    fn get(&self, number: u64) -> Result<&OpenFile, Errno> {
        self.files.get(&number).ok_or(Errno::BadDescriptor)
    }

    fn get_mut(&mut self, number: u64) -> Result<&mut OpenFile, Errno> {
        self.files.get_mut(&number).ok_or(Errno::BadDescriptor)
    }

    pub(super) fn ino(&self, number: u64) -> Result<Ino, Errno> {
        Ok(self.get(number)?.ino)
    }

    /// Closes all files after a crash.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }

    pub(super) fn open(
        &mut self,
        tree: &mut Tree,
        path: &Path,
        how: How,
        now: u64,
    ) -> Result<u64, Errno> {
        let creates = how.create || how.create_new;
        if creates && how.directory {
            return Err(Errno::Invalid);
        }
        let follow = match (how.create_new, how.no_follow) {
            (true, _) => Follow::Never,
            (_, true) => Follow::Slash,
            _ => Follow::Always,
        };
        let place = tree.resolve(path, follow)?;
        let ino = match place.inode {
            _ if creates && place.must_be_directory => return Err(Errno::IsDirectory),
            Some(_) if how.create_new => return Err(Errno::Exists),
            Some(_) => open_existing(tree, place.existing()?, how, now)?,
            None => create(tree, &place, how, now)?,
        };
        let inode = tree.get_mut(ino);
        inode.opens += 1;
        let reported = inode.file_mut().map_or(0, |file| file.reported);
        self.last += 1;
        let file = OpenFile {
            ino,
            how,
            position: 0,
            reported,
        };
        self.files.insert(self.last, file);
        Ok(self.last)
    }

    pub(super) fn close(&mut self, tree: &mut Tree, number: u64) {
        if let Some(file) = self.files.remove(&number) {
            tree.get_mut(file.ino).opens -= 1;
            tree.lost_user(file.ino);
        }
    }

    pub(super) fn read(
        &mut self,
        tree: &Tree,
        number: u64,
        buffer: &mut [u8],
        at: At,
        faults: (&Faults, Choose<'_>),
    ) -> Result<usize, Errno> {
        let file = self.get_mut(number)?;
        let offset = file.offset(at)?;
        if !file.how.read {
            return Err(Errno::BadDescriptor);
        }
        let contents = match &tree.get(file.ino).node {
            Node::File(file) => file.data.live(),
            _ => return Err(Errno::IsDirectory),
        };
        let left = contents
            .len()
            .saturating_sub(offset)
            .min(buffer.len() as u64);
        let (faults, choose) = faults;
        if left > 0 && happens(faults.read_errors, Site::DiskRead, choose) {
            return Err(Errno::Io);
        }
        let bytes = contents.read(&mut buffer[..left as usize], offset);
        if let At::Position = at {
            file.position += bytes as u64;
        }
        Ok(bytes)
    }

    pub(super) fn write(
        &mut self,
        tree: &mut Tree,
        number: u64,
        data: &[u8],
        at: At,
        (faults, choose, now): (&Faults, Choose<'_>, u64),
    ) -> Result<usize, Errno> {
        let open = self.get_mut(number)?;
        let mut offset = open.offset(at)?;
        open.how.write.then_some(()).ok_or(Errno::BadDescriptor)?;
        let free = faults
            .capacity
            .map_or(u64::MAX, |most| most.saturating_sub(tree.used));
        let mut room = free;
        let file = tree
            .get_mut(open.ino)
            .file_mut()
            .ok_or(Errno::BadDescriptor)?;
        if data.is_empty() {
            return Ok(0); // the position stays, even of a file that appends
        }
        if open.how.append {
            offset = file.data.live().len();
        }
        let most = most_bytes(offset)?.min(data.len());
        let bytes_written = file.data.write(&data[..most], offset, &mut room);
        (bytes_written > 0).then_some(()).ok_or(Errno::Full)?;
        tree.get_mut(open.ino).touch(now);
        tree.used += free - room;
        if let At::Position = at {
            open.position = offset + bytes_written as u64;
        }
        if open.how.sync {
            self.sync(tree, number, true, (faults, choose))?;
        }
        Ok(bytes_written)
    }

    /// Returns the new position.
    pub(super) fn seek(
        &mut self,
        tree: &Tree,
        number: u64,
        to: std::io::SeekFrom,
    ) -> Result<u64, Errno> {
        use std::io::SeekFrom;
        let file = self.get_mut(number)?;
        let (base, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (file.position, by),
            // As in tmpfs. The end of a directory differs between file systems.
            SeekFrom::End(_) if tree.get(file.ino).is_directory() => return Err(Errno::Invalid),
            SeekFrom::End(by) => (tree.stat(file.ino).len, by),
        };
        let position = base.checked_add_signed(by).filter(|it| *it <= MAX_LEN);
        file.position = position.ok_or(Errno::Invalid)?;
        Ok(file.position)
    }

    pub(super) fn set_len(
        &mut self,
        tree: &mut Tree,
        number: u64,
        len: u64,
        now: u64,
    ) -> Result<(), Errno> {
        let open = self.get(number)?;
        if len > MAX_LEN {
            return Err(Errno::Argument);
        }
        if !open.how.write {
            return Err(Errno::Invalid);
        }
        set_len(tree, open.ino, len, now);
        Ok(())
    }

    /// Makes a file or the names in a directory durable.
    pub(super) fn sync(
        &mut self,
        tree: &mut Tree,
        number: u64,
        data_only: bool,
        (faults, choose): (&Faults, Choose<'_>),
    ) -> Result<(), Errno> {
        let open = self.get_mut(number)?;
        let fails = happens(faults.sync_errors, Site::DiskSync, choose);
        let inode = tree.get_mut(open.ino);
        let before = inode.allocated();
        let Some(file) = inode.file_mut() else {
            if fails {
                return Err(Errno::Io); // the names stay undecided
            }
            inode.durable_attributes = inode.attributes;
            tree.sync_names(open.ino);
            return Ok(());
        };
        if fails && file.data.fail_to_sync(choose) {
            file.failed_syncs += 1;
        }
        file.data.sync();
        let is_reported = open.reported == file.failed_syncs;
        if !is_reported {
            file.reported = file.failed_syncs;
            open.reported = file.failed_syncs;
        }
        if !data_only {
            inode.durable_attributes = inode.attributes;
        }
        let after = inode.allocated();
        tree.used = tree.used - before + after;
        match is_reported {
            true => Ok(()),
            false => Err(Errno::Io),
        }
    }
}

impl OpenFile {
    fn offset(&self, at: At) -> Result<u64, Errno> {
        match at {
            At::Position => Ok(self.position),
            At::Offset(offset) if offset > MAX_LEN => Err(Errno::Invalid),
            At::Offset(offset) => Ok(offset),
        }
    }
}

/// Returns whether a fault of this rarity happens.
fn happens(rarity: u32, site: Site, choose: Choose<'_>) -> bool {
    rarity > 0 && choose(site, rarity, 2) != 0
}

fn open_existing(tree: &mut Tree, ino: Ino, how: How, now: u64) -> Result<Ino, Errno> {
    match &tree.get(ino).node {
        Node::Link(_) => return Err(Errno::Loop), // it was not followed
        Node::Directory(_) if how.write || how.create => return Err(Errno::IsDirectory),
        Node::File(_) if how.directory => return Err(Errno::NotDirectory),
        _ => {}
    }
    let read = if how.read { READ } else { 0 };
    let write = if how.write { WRITE } else { 0 };
    tree.check(ino, read | write)?;
    if how.truncate {
        set_len(tree, ino, 0, now);
    }
    Ok(ino)
}

fn create(tree: &mut Tree, place: &Place, how: How, now: u64) -> Result<Ino, Errno> {
    if !how.create && !how.create_new {
        return place.check_name().and(Err(Errno::NotFound));
    }
    tree.check_new(place)?;
    let permissions = how.mode & 0o7777 & !UMASK;
    Ok(tree.create(place, Node::File(File::default()), permissions, now))
}

/// Changes the length of a file.
fn set_len(tree: &mut Tree, ino: Ino, len: u64, now: u64) {
    let inode = tree.get_mut(ino);
    let before = inode.allocated();
    if let Some(file) = inode.file_mut() {
        file.data.set_len(len);
        inode.touch(now);
    }
    let after = inode.allocated();
    debug_assert_eq!(after % PAGE as u64, 0);
    tree.used = tree.used - before + after;
}

/// How many bytes a file may have beyond an offset.
fn most_bytes(offset: u64) -> Result<usize, Errno> {
    match MAX_LEN.saturating_sub(offset) {
        0 => Err(Errno::TooBig),
        most => Ok(usize::try_from(most).unwrap_or(usize::MAX)),
    }
}
