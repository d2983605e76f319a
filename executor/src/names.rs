//! The names of an executor's tasks.

use std::collections::HashMap;
use std::sync::Arc;

use crate::key::Key;

/// Names by key. The entries are in one list, where readers outside of the process find them.
#[derive(Default)]
pub(crate) struct Names {
    entries: Vec<NameEntry>,
    positions: HashMap<Key, usize>,
}

pub(crate) struct NameEntry {
    pub(crate) key: Key,
    name: Arc<str>,
    /// The address and the length of the text, for readers that know nothing of `Arc`.
    pub(crate) text: usize,
    pub(crate) len: usize,
}

impl Names {
    pub(crate) fn get(&self, key: Key) -> Option<Arc<str>> {
        let &position = self.positions.get(&key)?;
        Some(self.entries[position].name.clone())
    }

    pub(crate) fn set(&mut self, key: Key, name: Arc<str>) {
        let entry = NameEntry {
            key,
            text: name.as_ptr().expose_provenance(),
            len: name.len(),
            name,
        };
        match self.positions.get(&key) {
            Some(&position) => self.entries[position] = entry,
            None => {
                self.positions.insert(key, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: Key) {
        let Some(position) = self.positions.remove(&key) else {
            return;
        };
        self.entries.swap_remove(position);
        if let Some(moved) = self.entries.get(position) {
            self.positions.insert(moved.key, position);
        }
        if self.positions.capacity() > 256 && self.entries.len() <= self.positions.capacity() / 4 {
            let kept = (2 * self.entries.len()).max(256);
            self.positions.shrink_to(kept);
            self.entries.shrink_to(kept);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Names::default();
    }

    /// The list, for readers outside of the process.
    pub(crate) fn entries(&self) -> &Vec<NameEntry> {
        &self.entries
    }
}

#[cfg(all(test, not(windlass_loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_after_others_were_removed() {
        let key = |slot| Key::new(3, slot + 7, slot);
        let name = |slot: u32| Arc::from(format!("task {slot}"));
        let mut names = Names::default();
        (0..1000).for_each(|slot| names.set(key(slot), name(slot)));
        names.set(key(1), Arc::from("renamed"));
        for slot in (0..1000).filter(|slot| slot % 10 != 1) {
            names.remove(key(slot));
            names.remove(key(slot));
            assert_eq!(names.get(key(slot)), None);
        }
        assert_eq!(names.get(key(1)).as_deref(), Some("renamed"));
        for slot in (11..1000).step_by(10) {
            assert_eq!(names.get(key(slot)), Some(name(slot)));
        }
        assert_eq!(names.entries().len(), 100);
        assert!(names.entries().capacity() <= 512);
        for entry in names.entries() {
            let (text, len) = (entry.name.as_ptr().addr(), entry.name.len());
            assert_eq!((entry.text, entry.len), (text, len));
        }
    }
}
