//! Files, directories and symbolic links, by number.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::file_data::FileData;

/// The number of an inode.
pub(crate) type Ino = u64;

/// The entries of a directory. Their order is the order in which they are listed.
pub(super) type Entries = BTreeMap<OsString, Ino>;

/// A file, a directory or a symbolic link.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) attributes: Attributes,
    /// What the disk has of the attributes.
    pub(super) durable_attributes: Attributes,
    /// The number of its names.
    pub(super) names: u32,
    /// The number of its open files.
    pub(super) opens: u32,
    /// The number of its names on the disk, and in changes that have not reached the disk.
    pub(super) durable_names: u32,
}

#[derive(Debug)]
pub(super) enum Node {
    File(File),
    Directory(Directory),
    Link(PathBuf),
}

#[derive(Default, Debug)]
pub(super) struct File {
    pub(super) data: FileData,
    /// The number of syncs that failed. Each open file reports each of them once.
    pub(super) failed_syncs: u64,
    /// How many of them were reported to some open file. A file that is opened later skips these.
    pub(super) reported: u64,
}

#[derive(Default, Debug)]
pub(super) struct Directory {
    pub(super) entries: Entries,
    /// What the disk has of the entries.
    pub(super) durable: Entries,
    pub(super) parent: Ino,
}

/// The permissions and times of an inode. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attributes {
    pub(super) permissions: u32,
    pub(super) created: u64,
    pub(super) accessed: u64,
    pub(super) modified: u64,
    pub(super) changed: u64,
}

impl Inode {
    pub(super) fn new(node: Node, permissions: u32, now: u64) -> Inode {
        let attributes = Attributes {
            permissions,
            created: now,
            accessed: now,
            modified: now,
            changed: now,
        };
        Inode {
            node,
            attributes,
            durable_attributes: attributes,
            names: 0,
            opens: 0,
            durable_names: 0,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.node {
            Node::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(super) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.node {
            Node::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(super) fn file_mut(&mut self) -> Option<&mut File> {
        match &mut self.node {
            Node::File(file) => Some(file),
            _ => None,
        }
    }

    /// Returns the size of the pages of a file (bytes).
    pub(super) fn allocated(&self) -> u64 {
        match &self.node {
            Node::File(file) => file.data.live().allocated(),
            _ => 0,
        }
    }

    /// Returns whether a program, the disk or a crash can still reach the inode.
    pub(super) fn is_used(&self) -> bool {
        self.names + self.opens + self.durable_names > 0
    }

    pub(super) fn touch(&mut self, now: u64) {
        self.attributes.modified = now;
        self.attributes.changed = now;
    }
}
