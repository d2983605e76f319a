//! Maps with tasks as keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use windlass_executor::TaskId;

/// Finds values by tasks. It doesn't resist chosen keys, which no peer can choose.
pub(crate) type IdMap<V> = HashMap<TaskId, V, BuildHasherDefault<IdHasher>>;

/// Hashes the numbers of tasks, which differ in the lower bits, in a few instructions.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte.into()));
    }

    fn write_usize(&mut self, number: usize) {
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
