//! Maps with tasks as keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use windlass_executor::TaskId;

/// Finds values by tasks. It doesn't resist chosen keys, which no peer can choose.
pub(crate) type IdMap<V> = HashMap<TaskId, V, BuildHasherDefault<IdHasher>>;

/// Hashes the numbers of tasks in a few instructions.
///
/// A number has the slot of the task in its lowest bits, and the executor in its highest. Tasks in
/// neighboring slots get neighboring places in the map. So a pass over 100,000 tasks reads the map
/// from its start to its end.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

/// How many of the highest bits of a number are the executor.
const EXECUTOR_BITS: u32 = if usize::BITS == 64 { 14 } else { 8 };

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte.into()));
    }

    fn write_usize(&mut self, number: usize) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        /// The map compares these bits before it compares keys.
        const TAG: u64 = 0x7f << 57;
        let executor = (number >> (usize::BITS - EXECUTOR_BITS)) as u64;
        let place = (self.0 ^ number as u64).wrapping_add(executor.wrapping_mul(ODD));
        let tag = (number as u64).wrapping_mul(ODD);
        self.0 = (place & !TAG) | (tag & TAG);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::{Runtime, block_on};

    fn hash(task: TaskId) -> u64 {
        BuildHasherDefault::<IdHasher>::default().hash_one(task)
    }

    #[test]
    fn neighbors_stay_neighbors_and_executors_are_spread() {
        let runtimes: Vec<_> = (0..100).map(|_| Runtime::new().unwrap()).collect();
        let first_tasks = runtimes.iter().map(|it| it.spawn(async {}));
        let first_tasks: Vec<_> = first_tasks.collect();
        let bucket = |hash: u64| hash & 0xfff;
        let buckets = first_tasks.iter().map(|it| bucket(hash(it.id().unwrap())));
        let buckets: std::collections::HashSet<_> = buckets.collect();
        assert!(buckets.len() > 80, "{buckets:?}");

        block_on(async {
            let tasks: Vec<_> = (0..1000).map(|_| crate::spawn(async {})).collect();
            let hashes = tasks.iter().map(|task| hash(task.id().unwrap()));
            let hashes: Vec<_> = hashes.collect();
            let steps = hashes
                .windows(2)
                .map(|two| bucket(two[1].wrapping_sub(two[0])));
            assert!(steps.filter(|&step| step == 1).count() > 900);
            let tags: std::collections::HashSet<_> = hashes.iter().map(|it| it >> 57).collect();
            assert!(tags.len() > 100, "{tags:?}");
        });
    }
}
