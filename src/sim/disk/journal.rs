//! Changes of names that have not reached the disk, and what a crash leaves of them.
//!
//! A change is atomic: a crash keeps or undoes a whole rename. Changes of the same name keep their
//! order. Changes of different names are independent, as POSIX allows. The sync of a directory
//! makes its changes durable, and all earlier ones that they build on.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::Choose;
use super::file_data::Loss;
use super::inode::Ino;
use crate::sim::site::Site;

/// The number of changes that may wait for a sync. The system writes older ones to the disk.
const MAX_WAITING: usize = 1024;

/// A change of one or several names at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) edits: Vec<Edit>,
    /// A directory gets another parent. Such changes keep their order, so that no crash makes a
    /// circle of directories.
    pub(super) moves_directory: bool,
}

/// The new inode of a name, or `None` if the name is removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Edit {
    pub(super) directory: Ino,
    pub(super) name: OsString,
    pub(super) to: Option<Ino>,
}

/// The changes that have not reached the disk, in their order.
#[derive(Default, Debug)]
pub(super) struct Journal {
    waiting: Vec<Change>,
}

/// The names that some changes concern.
#[derive(Default)]
struct Names {
    names: BTreeSet<(Ino, OsString)>,
    moves_directory: bool,
}

impl Names {
    fn add(&mut self, change: &Change) {
        let edits = change.edits.iter();
        self.names
            .extend(edits.map(|it| (it.directory, it.name.clone())));
        self.moves_directory |= change.moves_directory;
    }

    fn overlap(&self, change: &Change) -> bool {
        let mut edits = change.edits.iter();
        (self.moves_directory && change.moves_directory)
            || edits.any(|it| self.names.contains(&(it.directory, it.name.clone())))
    }
}

impl Journal {
    /// Adds a change. Returns the one that the system writes to the disk, if there are too many.
    pub(super) fn add(&mut self, change: Change) -> Option<Change> {
        self.waiting.push(change);
        (self.waiting.len() > MAX_WAITING).then(|| self.waiting.remove(0))
    }

    /// Returns the changes that the sync of a directory writes to the disk, in their order.
    pub(super) fn sync(&mut self, directory: Ino) -> Vec<Change> {
        let mut names = Names::default();
        let mut is_synced = vec![false; self.waiting.len()];
        for (change, is_synced) in self.waiting.iter().zip(&mut is_synced).rev() {
            let is_in = change.edits.iter().any(|it| it.directory == directory);
            if is_in || names.overlap(change) {
                names.add(change);
                *is_synced = true;
            }
        }
        let (synced, waiting): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).zip(is_synced).partition(|it| it.1);
        self.waiting = waiting.into_iter().map(|it| it.0).collect();
        synced.into_iter().map(|it| it.0).collect()
    }

    /// Empties the journal. Returns the changes that have reached the disk.
    pub(super) fn crash(&mut self, loss: Loss, choose: Choose<'_>) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.waiting);
        let mut undone = Names::default();
        changes.retain(|change| {
            let keeps = match loss {
                Loss::Nothing => true,
                Loss::Everything => false,
                Loss::Some => !undone.overlap(change) && choose(Site::DiskLoss, 1, 2) == 0,
            };
            if !keeps {
                undone.add(change);
            }
            keeps
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(edits: &[(Ino, &str, Option<Ino>)]) -> Change {
        let edit = |&(directory, name, to): &(Ino, &str, Option<Ino>)| Edit {
            directory,
            name: name.into(),
            to,
        };
        Change {
            edits: edits.iter().map(edit).collect(),
            moves_directory: false,
        }
    }

    fn journal(changes: &[Change]) -> Journal {
        Journal {
            waiting: changes.to_vec(),
        }
    }

    #[test]
    fn a_sync_takes_the_changes_that_others_build_on() {
        let create = change(&[(2, "new", Some(7))]);
        let other = change(&[(2, "other", Some(8))]);
        let rename = change(&[(2, "new", None), (3, "old", Some(7))]);
        let mut all = journal(&[create.clone(), other.clone(), rename.clone()]);
        assert_eq!(all.sync(3), [create, rename]);
        assert_eq!(all.sync(3), []);
        assert_eq!(all.sync(2), [other]);
    }

    #[test]
    fn a_crash_undoes_the_changes_that_build_on_an_undone_one() {
        let create = change(&[(2, "new", Some(7))]);
        let rename = change(&[(2, "new", None), (2, "old", Some(7))]);
        let other = change(&[(2, "other", Some(8))]);
        let all = [create, rename, other.clone()];
        let made = std::cell::Cell::new(0);
        // Only the first decision undoes.
        let choose = |_: Site, _: u32, _: u32| u32::from(made.replace(made.get() + 1) == 0);
        assert_eq!(journal(&all).crash(Loss::Some, &choose), [other]);
        assert_eq!(made.get(), 2);
        assert_eq!(journal(&all).crash(Loss::Some, &|_, _, _| 0), all);
        assert_eq!(journal(&all).crash(Loss::Everything, &|_, _, _| 0), []);
    }

    #[test]
    fn moves_of_directories_keep_their_order() {
        let mut moves = [
            change(&[(1, "a", None), (2, "a", Some(5))]),
            change(&[(3, "b", None), (4, "b", Some(6))]),
        ];
        moves.iter_mut().for_each(|it| it.moves_directory = true);
        let made = std::cell::Cell::new(0);
        let choose = |_: Site, _: u32, _: u32| u32::from(made.replace(made.get() + 1) == 0);
        assert_eq!(journal(&moves).crash(Loss::Some, &choose), []);
        assert_eq!(journal(&moves).sync(4), moves);
    }
}
