//! Gives memory back after a burst.
//!
//! A queue or slab keeps memory for twice what is in use, once that is no more than a quarter. To
//! grow again, the use has to double first, and to shrink again it has to halve: so a load that is
//! steady within a factor of two doesn't reallocate, and any other pays a constant number of moves
//! per value. Some KiB are always kept, so small queues never pay more than one comparison.

use std::collections::VecDeque;

/// How many values are kept room for: 8 KiB, and at least 32.
const fn kept<T>() -> usize {
    match 8192_usize.checked_div(size_of::<T>()) {
        Some(fit) if fit > 32 => fit,
        Some(_) => 32,
        None => usize::MAX, // values without a size take no memory
    }
}

/// The capacity to shrink to, if this many values leave too much of it unused.
fn target<T>(len: usize, capacity: usize) -> Option<usize> {
    if capacity > kept::<T>() && len <= capacity / 4 {
        return Some((2 * len).max(kept::<T>()));
    }
    None
}

/// True if [`shrink_queue`] would do something. For hot paths, which then leave it to a slow path:
/// a call would cost them registers.
#[inline(always)]
pub(crate) fn may_shrink<T>(queue: &VecDeque<T>) -> bool {
    queue.capacity() > kept::<T>() && queue.len() <= queue.capacity() / 4
}

/// To be called before values are taken out, or after that.
#[inline]
pub(crate) fn shrink_queue<T>(queue: &mut VecDeque<T>) {
    #[cold]
    fn shrink<T>(queue: &mut VecDeque<T>) {
        queue.shrink_to((2 * queue.len()).max(kept::<T>()));
    }
    if may_shrink(queue) {
        shrink(queue);
    }
}

/// As [`shrink_queue`].
pub(crate) fn shrink_vec<T>(vec: &mut Vec<T>) {
    if let Some(capacity) = target::<T>(vec.len(), vec.capacity()) {
        vec.shrink_to(capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_does_not_reallocate_and_a_burst_is_given_back() {
        let mut queue: VecDeque<u64> = (0..100_000).collect();
        let mut capacities = Vec::new();
        while queue.pop_front().is_some() {
            shrink_queue(&mut queue);
            capacities.push(queue.capacity());
        }
        capacities.dedup();
        assert!(capacities.len() < 12, "{capacities:?}");
        assert!(queue.capacity() <= kept::<u64>());

        let mut queue: VecDeque<u64> = (0..30_000).collect();
        let capacity = queue.capacity();
        for n in 0..100_000 {
            if n / 10_000 % 2 == 0 {
                queue.pop_front();
            } else {
                queue.push_back(n);
            }
            shrink_queue(&mut queue);
            assert_eq!(queue.capacity(), capacity);
        }
    }

    #[test]
    fn values_without_a_size_are_left_alone() {
        let mut queue = VecDeque::from([(), ()]);
        shrink_queue(&mut queue);
        assert_eq!(queue.len(), 2);
    }
}
