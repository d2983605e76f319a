//! The further entries of a source that several reactors have registered.

use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use crate::entry::{EntryRef, OwnedEntry};

/// A list of entries, each once, that only grows. Any thread may add to it without a lock.
#[derive(Debug)]
pub(crate) struct OtherEntries {
    /// `ManuallyDrop`, so that the drop of an empty list is one load.
    first: ManuallyDrop<OnceLock<Box<OtherEntry>>>,
}

/// An entry in the list.
#[derive(Debug)]
pub(crate) struct OtherEntry {
    entry: OwnedEntry,
    /// Only for listeners that several pollers share.
    pub(crate) waits: ExclusiveWaits,
    next: OtherEntries,
}

/// The waits of one reactor for a listener that other pollers share. Changes in single steps.
#[derive(Debug, Default)]
pub(crate) struct ExclusiveWaits {
    /// A connection was accepted since the last wait.
    pub(crate) has_accepted: AtomicBool,
    /// How many futures wait for an event.
    pub(crate) waiting: AtomicUsize,
    /// The tick of the last event after which an accept returned a connection or found none.
    pub(crate) answered: AtomicU32,
}

impl OtherEntries {
    pub(crate) const fn new() -> OtherEntries {
        OtherEntries {
            first: ManuallyDrop::new(OnceLock::new()),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &OtherEntry> {
        let mut list = self;
        std::iter::from_fn(move || {
            let other = list.first.get()?;
            list = &other.next;
            Some(&**other)
        })
    }

    pub(crate) fn contains(&self, entry: EntryRef<'_>) -> bool {
        self.iter().any(|other| other.entry() == entry)
    }

    /// Returns the position of the entry in the list, and adds it if it is missing.
    #[cold]
    pub(crate) fn get_or_insert(&self, entry: EntryRef<'_>) -> &OtherEntry {
        let new = || {
            Box::new(OtherEntry {
                entry: entry.to_owned(),
                waits: ExclusiveWaits::default(),
                next: OtherEntries::new(),
            })
        };
        let mut list = self;
        loop {
            let other = list.first.get_or_init(new);
            if other.entry() == entry {
                return other;
            }
            list = &other.next;
        }
    }

    /// Drops one entry after the other, because the list may be longer than the stack is deep.
    #[cold]
    fn clear(&mut self) {
        let mut next = self.first.take();
        while let Some(mut other) = next {
            next = other.next.first.take();
        }
    }
}

impl Drop for OtherEntries {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.clear();
        }
    }
}

impl OtherEntry {
    #[inline]
    pub(crate) fn entry(&self) -> EntryRef<'_> {
        self.entry.as_ref()
    }
}

#[cfg(all(test, not(windlass_loom)))] // a reactor needs a model
mod tests {
    use super::*;
    use crate::inner::ReactorInner;

    #[test]
    fn a_long_list_is_dropped() {
        let reactor = ReactorInner::new().unwrap();
        let list = OtherEntries::new();
        let mut last = &list;
        for _ in 0..100_000 {
            let entry = reactor.insert_source().unwrap();
            last = &last.get_or_insert(entry.as_ref()).next;
        }
        assert!(last.is_empty());
        drop(list);
    }
}
