//! The number by which a waker names its task.

/// How many bits of the number hold the slot's index, the generation, and the executor's id.
///
/// On 64 bits: 16,777,216 tasks per executor and 16,384 executors at once. A stale waker meets its
/// own number again only after its executor has had 67,108,864 tasks, and then causes a spurious
/// wake, which every future has to tolerate anyway. On 32 bits: 16,384 tasks, 256 executors, 1,024
/// generations.
#[cfg(target_pointer_width = "64")]
const BITS: (u32, u32, u32) = (24, 26, 14);
#[cfg(target_pointer_width = "32")]
const BITS: (u32, u32, u32) = (14, 10, 8);

pub(crate) const SLOT_BITS: usize = BITS.0 as usize;
pub(crate) const GENERATION_BITS: usize = BITS.1 as usize;
pub(crate) const MAX_TASKS: usize = 1 << BITS.0;
/// The highest generation is left to the keys below that name no task.
pub(crate) const MAX_GENERATION: u32 = (1 << BITS.1) - 2;
pub(crate) const MAX_EXECUTORS: usize = 1 << BITS.2;

/// Executor id, generation and slot index, packed into one machine word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key(usize);

impl Key {
    /// The current task while no task is polled. A constant instead of an `Option`, since a word is
    /// compared at each wake and stored twice at each poll.
    pub(crate) const NO_TASK: Key = Key(usize::MAX);
    /// The current task once it has woken itself.
    pub(crate) const SELF_WOKEN: Key = Key(usize::MAX - 1);

    #[inline]
    pub(crate) fn new(executor: u16, generation: u32, index: u32) -> Self {
        debug_assert!((executor as usize) < MAX_EXECUTORS);
        debug_assert!(generation <= MAX_GENERATION && (index as usize) < MAX_TASKS);
        let high = (executor as usize) << BITS.1 | generation as usize;
        Key(high << BITS.0 | index as usize)
    }

    #[inline]
    pub(crate) fn executor(self) -> u16 {
        (self.0 >> (BITS.0 + BITS.1)) as u16
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> BITS.0) as u32 & ((1 << BITS.1) - 1)
    }

    #[inline]
    pub(crate) fn index(self) -> u32 {
        (self.0 & (MAX_TASKS - 1)) as u32
    }

    /// False for the two constants above.
    pub(crate) fn names_task(self) -> bool {
        self.generation() <= MAX_GENERATION
    }

    #[inline]
    pub(crate) fn number(self) -> usize {
        self.0
    }

    #[inline]
    pub(crate) fn from_number(number: usize) -> Self {
        Key(number)
    }

    #[inline]
    pub(crate) fn to_ptr(self) -> *const () {
        std::ptr::without_provenance(self.0)
    }

    #[inline]
    pub(crate) fn from_ptr(number: *const ()) -> Self {
        Key(number.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_three_parts() {
        let last = (
            MAX_EXECUTORS as u16 - 1,
            MAX_GENERATION,
            MAX_TASKS as u32 - 1,
        );
        for (executor, generation, index) in [(0, 0, 0), (1, 2, 3), last] {
            let key = Key::from_ptr(Key::new(executor, generation, index).to_ptr());
            assert_eq!(
                (key.executor(), key.generation(), key.index()),
                (executor, generation, index)
            );
        }
    }

    #[test]
    fn the_last_generation_belongs_to_the_sentinels() {
        for sentinel in [Key::NO_TASK, Key::SELF_WOKEN] {
            assert_eq!(sentinel.generation(), MAX_GENERATION + 1);
        }
    }
}
