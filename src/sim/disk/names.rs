//! Operations on names and metadata.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::errno::Errno;
use super::inode::{Attributes, Directory, Ino, Node};
use super::journal::Edit;
use super::tree::{Follow, Last, Place, READ, ROOT, Tree, WRITE};

/// The permissions that a new file or directory lacks.
pub(super) const UMASK: u32 = 0o022;

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
}

/// The metadata of an inode.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    pub(crate) permissions: u32,
    pub(crate) names: u64,
    pub(crate) len: u64,
    pub(crate) allocated: u64,
    /// Whether the disk belongs to a superuser.
    pub(crate) is_superuser: bool,
    /// Nanoseconds since the Unix epoch.
    pub(crate) created: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
    pub(crate) changed: u64,
}

impl Tree {
    pub(super) fn stat(&self, ino: Ino) -> Stat {
        let inode = self.get(ino);
        let (kind, names, len) = match &inode.node {
            Node::File(file) => (Kind::File, u64::from(inode.names), file.data.live().len()),
            Node::Directory(directory) => {
                let below = directory.entries.values();
                let directories = below.filter(|it| self.get(**it).is_directory()).count();
                // The size in tmpfs.
                let len = 20 * (2 + directory.entries.len() as u64);
                (Kind::Directory, 2 + directories as u64, len)
            }
            Node::Link(to) => (
                Kind::Link,
                u64::from(inode.names),
                to.as_os_str().len() as u64,
            ),
        };
        let Attributes {
            permissions,
            created,
            accessed,
            modified,
            changed,
        } = inode.attributes;
        Stat {
            ino,
            kind,
            permissions,
            names,
            len,
            allocated: inode.allocated(),
            is_superuser: self.is_superuser,
            created,
            accessed,
            modified,
            changed,
        }
    }

    /// Checks that a name can be created at a place.
    pub(super) fn check_new(&self, place: &Place) -> Result<(), Errno> {
        match place.inode {
            Some(_) => Err(Errno::Exists),
            // A directory that was removed is empty for good.
            None if self.get(place.directory).names == 0 => Err(Errno::NotFound),
            None => place.check_name().and(self.check(place.directory, WRITE)),
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path, now: u64) -> Result<(), Errno> {
        let place = self.resolve(path, Follow::Never)?;
        self.check_new(&place)?;
        let directory = Node::Directory(Directory::default());
        self.create(&place, directory, 0o777 & !UMASK, now);
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path, now: u64) -> Result<(), Errno> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match (self.create_dir(path, now), path.parent()) {
            (Err(Errno::NotFound), Some(parent)) => self.create_dir_all(parent, now)?,
            (created, _) => return created.or_else(|error| self.or_directory(path, error)),
        }
        let created = self.create_dir(path, now);
        created.or_else(|error| self.or_directory(path, error))
    }

    fn or_directory(&self, path: &Path, error: Errno) -> Result<(), Errno> {
        let found = self.find(path, true);
        match found.is_ok_and(|it| self.get(it).is_directory()) {
            true => Ok(()),
            false => Err(error),
        }
    }

    pub(super) fn remove_file(&mut self, path: &Path, now: u64) -> Result<(), Errno> {
        let place = self.resolve(path, Follow::Never)?;
        let ino = place.existing()?;
        if self.get(ino).is_directory() {
            return Err(Errno::IsDirectory);
        }
        self.check(place.directory, WRITE)?;
        self.edit(&place, None, now);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path, now: u64) -> Result<(), Errno> {
        let place = self.resolve(path, Follow::Never)?;
        let directory = self.directory(place.existing()?)?;
        match place.last {
            _ if place.inode == Some(ROOT) => return Err(Errno::Busy),
            Last::Here => return Err(Errno::Invalid),
            Last::Up => return Err(Errno::NotEmpty),
            Last::Name(_) if !directory.entries.is_empty() => return Err(Errno::NotEmpty),
            Last::Name(_) => {}
        }
        self.check(place.directory, WRITE)?;
        self.edit(&place, None, now);
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path, now: u64) -> Result<(), Errno> {
        let place = self.resolve(path, Follow::Never)?;
        let ino = place.existing()?;
        if let Node::Link(_) = self.get(ino).node {
            return self.remove_file(path, now);
        }
        self.check(ino, READ)?;
        let names: Vec<OsString> = self.directory(ino)?.entries.keys().cloned().collect();
        for name in names {
            let below = path.join(name);
            let is_directory = self.get(self.find(&below, false)?).is_directory();
            match is_directory {
                true => self.remove_dir_all(&below, now)?,
                false => self.remove_file(&below, now)?,
            }
        }
        self.remove_dir(path, now)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, now: u64) -> Result<(), Errno> {
        let from = self.resolve(from, Follow::Never)?;
        let to = self.resolve(to, Follow::Never)?;
        let (Some(old_name), Some(new_name)) = (from.name(), to.name()) else {
            return Err(Errno::Busy);
        };
        let ino = from.inode.ok_or(Errno::NotFound)?;
        to.check_name()?;
        let is_directory = self.get(ino).is_directory();
        if !is_directory && (from.must_be_directory || to.must_be_directory) {
            return Err(Errno::NotDirectory);
        }
        if is_directory && self.is_within(to.directory, ino) {
            return Err(Errno::Invalid);
        }
        if to.inode == Some(ino) {
            return Ok(()); // two names of one file, or the same name
        }
        self.check(from.directory, WRITE)?;
        self.check(to.directory, WRITE)?;
        if self.get(to.directory).names == 0 {
            return Err(Errno::NotFound);
        }
        self.check_move(ino, from.directory, &to)?;
        let edit = |directory, name, to| Edit {
            directory,
            name,
            to,
        };
        // The new name first, so that the inode always has one.
        let edits = vec![
            edit(to.directory, new_name.clone(), Some(ino)),
            edit(from.directory, old_name.clone(), None),
        ];
        self.change(edits, now);
        Ok(())
    }

    /// Checks that a rename may move an inode to a place, and replace the inode there.
    fn check_move(&self, ino: Ino, from: Ino, to: &Place) -> Result<(), Errno> {
        let is_directory = self.get(ino).is_directory();
        let mut is_empty = true;
        if let Some(replaced) = to.inode {
            if self.is_within(from, replaced) {
                return Err(Errno::NotEmpty);
            }
            match (is_directory, self.get(replaced).directory()) {
                (true, None) => return Err(Errno::NotDirectory),
                (false, Some(_)) => return Err(Errno::IsDirectory),
                (_, directory) => is_empty = directory.is_none_or(|it| it.entries.is_empty()),
            }
        }
        // The entry `..` of a directory changes.
        if is_directory && from != to.directory {
            self.check(ino, WRITE)?;
        }
        is_empty.then_some(()).ok_or(Errno::NotEmpty)
    }

    /// Returns whether a directory is another one, or below it.
    fn is_within(&self, mut directory: Ino, above: Ino) -> bool {
        while directory != above {
            match self.get(directory).directory() {
                Some(it) if directory != ROOT => directory = it.parent,
                _ => return false,
            }
        }
        true
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path, now: u64) -> Result<(), Errno> {
        let ino = self.find(from, false)?;
        let to = self.resolve(to, Follow::Never)?;
        self.check_new(&to)?;
        if to.must_be_directory {
            return Err(Errno::NotFound);
        }
        if self.get(ino).is_directory() {
            return Err(Errno::NotPermitted);
        }
        self.edit(&to, Some(ino), now);
        Ok(())
    }

    pub(super) fn symlink(&mut self, target: &Path, at: &Path, now: u64) -> Result<(), Errno> {
        if target.as_os_str().is_empty() {
            return Err(Errno::NotFound);
        }
        let place = self.resolve(at, Follow::Never)?;
        self.check_new(&place)?;
        if place.must_be_directory {
            return Err(Errno::NotFound);
        }
        self.create(&place, Node::Link(target.to_owned()), 0o777, now);
        Ok(())
    }

    pub(super) fn read_link(&self, path: &Path) -> Result<PathBuf, Errno> {
        match &self.get(self.find(path, false)?).node {
            Node::Link(to) => Ok(to.clone()),
            _ => Err(Errno::Invalid),
        }
    }

    pub(super) fn canonicalize(&self, path: &Path) -> Result<PathBuf, Errno> {
        let place = self.resolve(path, Follow::Always)?;
        place.existing()?;
        Ok(self.path_of(&place))
    }

    pub(super) fn set_permissions(&mut self, ino: Ino, permissions: u32, now: u64) {
        let attributes = &mut self.get_mut(ino).attributes;
        attributes.permissions = permissions & 0o7777;
        attributes.changed = now;
    }

    /// Returns the names in a directory, with their kinds.
    pub(super) fn read_dir(&self, path: &Path) -> Result<Vec<(OsString, Kind)>, Errno> {
        let ino = self.find(path, true)?;
        self.check(ino, READ)?;
        let entries = self.directory(ino)?.entries.iter();
        Ok(entries
            .map(|(name, ino)| (name.clone(), self.kind(*ino)))
            .collect())
    }

    pub(super) fn kind(&self, ino: Ino) -> Kind {
        match &self.get(ino).node {
            Node::File(_) => Kind::File,
            Node::Directory(_) => Kind::Directory,
            Node::Link(_) => Kind::Link,
        }
    }
}
