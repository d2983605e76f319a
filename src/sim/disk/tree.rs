//! The tree of a disk: inodes, their names, and paths.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::Choose;
use super::errno::Errno;
use super::file_data::Loss;
use super::inode::{Attributes, Directory, Ino, Inode, Node};
use super::journal::{Change, Edit, Journal};
use crate::sim::site::Site;

/// The inode of `/`.
pub(super) const ROOT: Ino = 2;

/// The number of symbolic links that a path may lead through.
const MAX_LINKS: usize = 40;

/// The longest name (bytes).
const MAX_NAME: usize = 255;

/// The longest path (bytes).
const MAX_PATH: usize = 4095;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const SEARCH: u32 = 1;

/// The inodes and names of a disk.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: BTreeMap<Ino, Inode>,
    last: Ino,
    journal: Journal,
    /// The size of all pages (bytes).
    pub(super) used: u64,
    /// Whether permissions are ignored, as for a superuser.
    pub(super) is_superuser: bool,
}

/// The place that a path leads to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: Ino,
    pub(super) last: Last,
    pub(super) inode: Option<Ino>,
    is_directory: bool,
    /// The path ends with a slash, so only a directory may be there.
    pub(super) must_be_directory: bool,
}

/// The last part of a path.
#[derive(Debug)]
pub(super) enum Last {
    Name(OsString),
    /// It is `.`, or the path is the root.
    Here,
    /// It is `..`.
    Up,
}

impl Place {
    /// Returns the inode that must be there.
    pub(super) fn existing(&self) -> Result<Ino, Errno> {
        match self.inode {
            None => self.check_name().and(Err(Errno::NotFound)),
            Some(_) if self.must_be_directory && !self.is_directory => Err(Errno::NotDirectory),
            Some(ino) => Ok(ino),
        }
    }

    /// Returns the name, which only a path that ends with one has.
    pub(super) fn name(&self) -> Option<&OsString> {
        match &self.last {
            Last::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Checks that a file could have the name.
    pub(super) fn check_name(&self) -> Result<(), Errno> {
        match self.name() {
            Some(name) if name.len() > MAX_NAME => Err(Errno::NameTooLong),
            _ => Ok(()),
        }
    }
}

/// Whether the path leads through a symbolic link at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Follow {
    Always,
    /// Only if the path ends with a slash.
    Slash,
    /// An operation on the name.
    Never,
}

/// A part of a path.
enum Step {
    Here,
    Up,
    Name(OsString),
}

/// Adds the steps of a path, the last one first.
fn push_steps(path: &Path, steps: &mut Vec<Step>) {
    let bytes = path.as_os_str().as_encoded_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/');
    let bytes = end.map_or(bytes, |end| &bytes[..=end]);
    if bytes == b"." || bytes.ends_with(b"/.") {
        steps.push(Step::Here);
    }
    let parts = path.components().rev().filter_map(|part| match part {
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Name(name.to_owned())),
        _ => None,
    });
    steps.extend(parts);
}

/// The way along a path.
struct Walk<'a> {
    tree: &'a Tree,
    directory: Ino,
    /// The steps that are left, the last one first.
    left: Vec<Step>,
    links: usize,
    follow: Follow,
    must_be_directory: bool,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Place, Errno> {
        let mut last = Last::Here;
        while let Some(step) = self.left.pop() {
            self.tree.check(self.directory, SEARCH)?;
            match step {
                Step::Here => last = Last::Here,
                Step::Up => {
                    self.directory = self.tree.directory(self.directory)?.parent;
                    last = Last::Up;
                }
                Step::Name(name) => {
                    if let Some(place) = self.enter(name)? {
                        return Ok(place);
                    }
                }
            }
        }
        Ok(Place {
            directory: self.directory,
            last,
            inode: Some(self.directory),
            is_directory: true,
            must_be_directory: true,
        })
    }

    /// Goes to a name. Returns its place at the end of the path.
    fn enter(&mut self, name: OsString) -> Result<Option<Place>, Errno> {
        let directory = self.tree.directory(self.directory)?;
        let inode = directory.entries.get(&name).copied();
        let is_last = self.left.is_empty();
        let node = inode.map(|it| &self.tree.get(it).node);
        let follows = match self.follow {
            Follow::Always => true,
            Follow::Slash => self.must_be_directory,
            Follow::Never => false,
        };
        match (node, inode) {
            (Some(Node::Link(to)), _) if !is_last || follows => {
                self.follow_link(to, is_last)?;
                return Ok(None);
            }
            (Some(Node::Directory(_)), Some(directory)) if !is_last => {
                self.directory = directory;
                return Ok(None);
            }
            (None, _) if !is_last && name.len() > MAX_NAME => return Err(Errno::NameTooLong),
            (None, _) if !is_last => return Err(Errno::NotFound),
            (Some(Node::File(_)), _) if !is_last => return Err(Errno::NotDirectory),
            _ => {}
        }
        Ok(Some(Place {
            directory: self.directory,
            last: Last::Name(name),
            inode,
            is_directory: matches!(node, Some(Node::Directory(_))),
            must_be_directory: self.must_be_directory,
        }))
    }

    fn follow_link(&mut self, to: &Path, is_last: bool) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::Loop);
        }
        self.must_be_directory |= is_last && ends_with_slash(to);
        if to.has_root() {
            self.directory = ROOT;
        }
        push_steps(to, &mut self.left);
        Ok(())
    }
}

fn ends_with_slash(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

impl Tree {
    pub(super) fn new(now: u64, is_superuser: bool) -> Tree {
        let directory = Directory {
            parent: ROOT,
            ..Directory::default()
        };
        let mut root = Inode::new(Node::Directory(directory), 0o755, now);
        root.names = 1;
        Tree {
            inodes: BTreeMap::from([(ROOT, root)]),
            last: ROOT,
            journal: Journal::default(),
            used: 0,
            is_superuser,
        }
    }

    pub(super) fn get(&self, ino: Ino) -> &Inode {
        self.inodes.get(&ino).expect("a used inode is present")
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("a used inode is present")
    }

    pub(super) fn directory(&self, ino: Ino) -> Result<&Directory, Errno> {
        self.get(ino).directory().ok_or(Errno::NotDirectory)
    }

    /// Checks the permissions of the owner.
    pub(super) fn check(&self, ino: Ino, access: u32) -> Result<(), Errno> {
        let permissions = self.get(ino).attributes.permissions >> 6;
        match self.is_superuser || permissions & access == access {
            true => Ok(()),
            false => Err(Errno::Denied),
        }
    }

    /// Finds the place of a path. Relative paths begin at the root.
    pub(super) fn resolve(&self, path: &Path, follow: Follow) -> Result<Place, Errno> {
        check_path(path)?;
        let mut walk = Walk {
            tree: self,
            directory: ROOT,
            left: Vec::new(),
            links: 0,
            follow,
            must_be_directory: ends_with_slash(path),
        };
        push_steps(path, &mut walk.left);
        walk.run()
    }

    /// Finds the inode of a path. `follows` is for a symbolic link at the end.
    pub(super) fn find(&self, path: &Path, follows: bool) -> Result<Ino, Errno> {
        let follow = match follows {
            true => Follow::Always,
            false => Follow::Slash,
        };
        self.resolve(path, follow)?.existing()
    }

    /// Returns the path of a directory or an entry, without links.
    pub(super) fn path_of(&self, place: &Place) -> PathBuf {
        let mut names: Vec<&OsStr> = Vec::new();
        names.extend(place.name().map(OsString::as_os_str));
        let mut directory = place.directory;
        while directory != ROOT {
            let Some(parent) = self.get(directory).directory().map(|it| it.parent) else {
                break;
            };
            let entries = &self
                .get(parent)
                .directory()
                .expect("a parent is a directory")
                .entries;
            names.extend(
                entries
                    .iter()
                    .find(|it| *it.1 == directory)
                    .map(|it| it.0.as_os_str()),
            );
            directory = parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().rev());
        path
    }

    /// Creates an inode with a name.
    pub(super) fn create(&mut self, place: &Place, node: Node, mode: u32, now: u64) -> Ino {
        self.last += 1;
        let ino = self.last;
        let mut inode = Inode::new(node, mode, now);
        if let Some(directory) = inode.directory_mut() {
            directory.parent = place.directory;
        }
        self.inodes.insert(ino, inode);
        self.edit(place, Some(ino), now);
        ino
    }

    /// Changes the inode of one name.
    pub(super) fn edit(&mut self, place: &Place, to: Option<Ino>, now: u64) {
        let name = place
            .name()
            .cloned()
            .expect("the caller has checked the name");
        let edit = Edit {
            directory: place.directory,
            name,
            to,
        };
        self.change(vec![edit], now);
    }

    /// Changes names atomically.
    pub(super) fn change(&mut self, edits: Vec<Edit>, now: u64) {
        let moves_directory = edits.len() > 1
            && edits
                .iter()
                .any(|it| it.to.is_some_and(|to| self.get(to).is_directory()));
        for edit in &edits {
            let directory = self.get_mut(edit.directory);
            directory.touch(now);
            let entries = &mut directory.directory_mut().expect("it was resolved").entries;
            let old = match edit.to {
                Some(to) => entries.insert(edit.name.clone(), to),
                None => entries.remove(&edit.name),
            };
            if let Some(to) = edit.to {
                let inode = self.get_mut(to);
                inode.names += 1;
                inode.durable_names += 1; // in the journal
                inode.attributes.changed = now;
                if let Some(moved) = inode.directory_mut() {
                    moved.parent = edit.directory;
                }
            }
            if let Some(old) = old {
                let inode = self.get_mut(old);
                inode.names -= 1;
                inode.attributes.changed = now;
                self.lost_user(old);
            }
        }
        let change = Change {
            edits,
            moves_directory,
        };
        if let Some(oldest) = self.journal.add(change) {
            self.commit(oldest);
        }
    }

    /// Writes a change of names to the disk.
    fn commit(&mut self, change: Change) {
        for edit in change.edits {
            let directory = self.inodes.get_mut(&edit.directory);
            let Some(directory) = directory.and_then(Inode::directory_mut) else {
                self.forget(edit.to); // the directory is gone from the disk, too
                continue;
            };
            let old = match edit.to {
                Some(to) => directory.durable.insert(edit.name, to),
                None => directory.durable.remove(&edit.name),
            };
            self.forget(old);
        }
    }

    /// Counts one name less on the disk.
    fn forget(&mut self, ino: Option<Ino>) {
        if let Some(ino) = ino {
            self.get_mut(ino).durable_names -= 1;
            self.release(ino);
        }
    }

    /// Called when an inode has lost a name or an open file. Data that only a crash could bring
    /// back takes no space.
    pub(super) fn lost_user(&mut self, ino: Ino) {
        let inode = self.get(ino);
        if inode.names + inode.opens == 0 {
            self.used -= inode.allocated();
        }
        self.release(ino);
    }

    /// Frees the inode if nothing uses it.
    fn release(&mut self, ino: Ino) {
        if self.get(ino).is_used() {
            return;
        }
        let inode = self.inodes.remove(&ino).expect("it was found");
        if let Node::Directory(directory) = inode.node {
            for below in directory.durable.into_values() {
                self.forget(Some(below));
            }
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_names(&mut self, directory: Ino) {
        for change in self.journal.sync(directory) {
            self.commit(change);
        }
    }

    /// Loses the memory. The disk has the synced changes, and a part of the others.
    pub(super) fn crash(&mut self, choose: Choose<'_>) {
        let loss = match choose(Site::DiskCrash, 1, 3) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Some,
        };
        for change in self.journal.crash(loss, choose) {
            self.commit(change);
        }
        self.load();
        for inode in self.inodes.values_mut() {
            let attributes = inode.attributes;
            if keeps(loss, &attributes, &inode.durable_attributes, choose) {
                inode.durable_attributes = attributes;
            }
            inode.attributes = inode.durable_attributes;
            if let Some(file) = inode.file_mut() {
                file.data.crash(loss, choose);
                file.failed_syncs = 0;
                file.reported = 0;
            }
        }
        self.used = self.inodes.values().map(Inode::allocated).sum();
    }

    /// Reads the names from the disk, and frees the inodes that have none.
    fn load(&mut self) {
        let (mut old, mut left) = (std::mem::take(&mut self.inodes), vec![(ROOT, ROOT)]);
        while let Some((ino, parent)) = left.pop() {
            if let Some(known) = self.inodes.get_mut(&ino) {
                known.names += 1;
                known.durable_names += 1;
                continue;
            }
            let Some(mut inode) = old.remove(&ino) else {
                continue;
            };
            (inode.names, inode.durable_names, inode.opens) = (1, u32::from(ino != ROOT), 0);
            if let Some(directory) = inode.directory_mut() {
                directory.parent = parent;
                directory.entries.clone_from(&directory.durable);
                left.extend(directory.entries.values().map(|below| (*below, ino)));
            }
            self.inodes.insert(ino, inode);
        }
    }
}

fn keeps(loss: Loss, live: &Attributes, durable: &Attributes, choose: Choose<'_>) -> bool {
    match loss {
        Loss::Nothing => true,
        Loss::Everything => false,
        Loss::Some => live != durable && choose(Site::DiskLoss, 1, 2) == 0,
    }
}

fn check_path(path: &Path) -> Result<(), Errno> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Errno::Argument);
    }
    match path.as_os_str().len() {
        0 => Err(Errno::NotFound),
        1..=MAX_PATH => Ok(()),
        _ => Err(Errno::NameTooLong),
    }
}
