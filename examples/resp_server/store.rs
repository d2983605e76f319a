//! The keys and their values, within a bound of memory.

use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

use super::options::Policy;

/// Memory per key besides the bytes of the key and the value. The tables double their capacity, so
/// this is an upper estimate.
const ENTRY_BYTES: usize = 200;
/// A value that is replaced keeps its memory, up to this number of unused bytes.
const SPARE_BYTES: usize = 64;

/// A point of the wall clock in milliseconds since 1970. Deadlines outlive the process in the log.
pub(crate) type UnixMillis = u64;

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

struct Entry {
    value: Vec<u8>,
    deadline: Option<UnixMillis>,
    /// Set by each use, and cleared when the hand passes.
    is_used: bool,
}

impl Entry {
    fn is_expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now())
    }

    fn bytes(&self, key: &[u8]) -> usize {
        ENTRY_BYTES + key.len() + self.value.capacity()
    }
}

/// The write needs more memory than the limit.
#[derive(Debug)]
pub(crate) struct Full;

/// A map from keys to values.
///
/// Expired keys are removed when they are accessed, and by [`Store::expire_some`].
///
/// Above the limit of the memory, the policy `Evict` removes keys by the second-chance algorithm.
/// A hand goes round the keys. It skips a key that was used since the last round, and evicts the
/// first one that was not.
pub(crate) struct Store {
    entries: IndexMap<Box<[u8]>, Entry>,
    bytes: usize,
    limit: usize,
    policy: Policy,
    /// Index of the key that is examined next for eviction.
    hand: usize,
    /// Index of the key that is examined next for its deadline.
    expiry_hand: usize,
    /// Number of keys with a deadline.
    deadlines: usize,
    /// Evicted keys that the log lacks.
    evicted: Vec<Box<[u8]>>,
    /// Number of evictions.
    pub(crate) evictions: u64,
    /// Number of keys that were removed at their deadline.
    pub(crate) expirations: u64,
}

impl Store {
    pub(crate) fn new(limit: usize, policy: Policy) -> Store {
        Store {
            entries: IndexMap::new(),
            bytes: 0,
            limit,
            policy,
            hand: 0,
            expiry_hand: 0,
            deadlines: 0,
            evicted: Vec::new(),
            evictions: 0,
            expirations: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn deadlines(&self) -> usize {
        self.deadlines
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let index = self.entries.get_index_of(key)?;
        if self.entries[index].is_expired() {
            self.expire_at(index);
            return None;
        }
        let (_, entry) = self.entries.get_index_mut(index)?;
        entry.is_used = true;
        Some(&entry.value)
    }

    pub(crate) fn contains(&mut self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// The deadline of a key: `None` without the key, `Some(None)` without a deadline.
    pub(crate) fn deadline(&mut self, key: &[u8]) -> Option<Option<UnixMillis>> {
        self.remove_if_expired(key);
        Some(self.entries.get(key)?.deadline)
    }

    /// Sets or replaces a value. A previous value keeps its memory if it is about as large.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        deadline: Option<UnixMillis>,
    ) -> Result<(), Full> {
        let Some(entry) = self.entries.get_mut(key) else {
            return self.insert(key, value, deadline);
        };
        let fits = (value.len()..=value.len() + SPARE_BYTES).contains(&entry.value.capacity());
        if !fits {
            let old = entry.bytes(key);
            let new = ENTRY_BYTES + key.len() + value.len();
            // A refused write keeps the old value.
            let others = self.bytes - old;
            let is_over = self.policy == Policy::Refuse && others + new > self.limit;
            if is_over || new > self.limit {
                return Err(Full);
            }
            self.remove(key);
            return self.insert(key, value, deadline);
        }
        self.deadlines -= usize::from(entry.deadline.is_some());
        self.deadlines += usize::from(deadline.is_some());
        entry.value.clear();
        entry.value.extend_from_slice(value);
        entry.deadline = deadline;
        entry.is_used = true;
        Ok(())
    }

    fn insert(
        &mut self,
        key: &[u8],
        value: &[u8],
        deadline: Option<UnixMillis>,
    ) -> Result<(), Full> {
        let entry = Entry {
            value: value.to_vec(),
            deadline,
            // A new key waits for its first use, so that a scan evicts itself.
            is_used: false,
        };
        self.make_room(entry.bytes(key))?;
        self.bytes += entry.bytes(key);
        self.deadlines += usize::from(deadline.is_some());
        self.entries.insert(key.into(), entry);
        Ok(())
    }

    /// Sets or removes the deadline. Returns false without the key.
    pub(crate) fn set_deadline(&mut self, key: &[u8], deadline: Option<UnixMillis>) -> bool {
        self.remove_if_expired(key);
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        self.deadlines -= usize::from(entry.deadline.is_some());
        self.deadlines += usize::from(deadline.is_some());
        entry.deadline = deadline;
        true
    }

    /// Returns false without the key.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(index) = self.entries.get_index_of(key) else {
            return false;
        };
        let (_, entry) = self.remove_at(index);
        !entry.is_expired()
    }

    pub(crate) fn clear(&mut self) {
        self.entries = IndexMap::new();
        self.bytes = 0;
        self.deadlines = 0;
    }

    /// Removes the expired keys of a hundredth of all keys. Calls visit all keys in turn.
    pub(crate) fn expire_some(&mut self) {
        if self.deadlines == 0 {
            return;
        }
        let now = now();
        for _ in 0..self.len() / 100 + 20 {
            if self.expiry_hand >= self.len() {
                self.expiry_hand = 0;
            }
            let Some((_, entry)) = self.entries.get_index(self.expiry_hand) else {
                return;
            };
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                // The last key moves to this index, and is examined next.
                self.expire_at(self.expiry_hand);
            } else {
                self.expiry_hand += 1;
            }
        }
    }

    /// Takes one of the keys that were evicted since the last call.
    pub(crate) fn pop_evicted(&mut self) -> Option<Box<[u8]>> {
        self.evicted.pop()
    }

    /// All keys with their values and deadlines, without the expired ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<UnixMillis>)> {
        let now = now();
        self.entries.iter().filter_map(move |(key, entry)| {
            let is_expired = entry.deadline.is_some_and(|deadline| deadline <= now);
            (!is_expired).then_some((&**key, &*entry.value, entry.deadline))
        })
    }

    fn remove_if_expired(&mut self, key: &[u8]) {
        let found = self.entries.get_full(key);
        if let Some((index, ..)) = found.filter(|(.., entry)| entry.is_expired()) {
            self.expire_at(index);
        }
    }

    fn expire_at(&mut self, index: usize) {
        self.remove_at(index);
        self.expirations += 1;
    }

    fn remove_at(&mut self, index: usize) -> (Box<[u8]>, Entry) {
        let removed = self.entries.swap_remove_index(index);
        let (key, entry) = removed.expect("the index is of an entry");
        self.bytes -= entry.bytes(&key);
        self.deadlines -= usize::from(entry.deadline.is_some());
        (key, entry)
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes > self.limit {
            return Err(Full);
        }
        while self.bytes + bytes > self.limit {
            if self.policy == Policy::Refuse {
                return Err(Full);
            }
            self.evict_one();
        }
        Ok(())
    }

    /// Takes at most two rounds, because the first one clears all marks.
    fn evict_one(&mut self) {
        loop {
            if self.hand >= self.len() {
                self.hand = 0;
            }
            let (_, entry) = self
                .entries
                .get_index_mut(self.hand)
                .expect("a key is left");
            if !mem::take(&mut entry.is_used) {
                break;
            }
            self.hand += 1;
        }
        let (key, _) = self.remove_at(self.hand);
        self.evicted.push(key);
        self.evictions += 1;
    }
}
