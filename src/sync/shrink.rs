//! Returns memory to the allocator after a burst.
//!
//! A queue or slab shrinks once at most a quarter of its capacity is in use, to twice of that. It
//! reallocates again only after its length has doubled or halved. So a load that is steady within a
//! factor of two never reallocates, and any other load pays a constant number of moves per value.
//! Some KiB are always kept, so that small queues never pay more than one comparison.

use std::collections::VecDeque;

/// The number of values that stay allocated: 8 KiB of them, and at least 32.
const fn kept<T>() -> usize {
    match 8192_usize.checked_div(size_of::<T>()) {
        Some(fit) if fit > 32 => fit,
        Some(_) => 32,
        None => usize::MAX, // values without a size take no memory
    }
}

#[inline(always)]
fn is_sparse<T>(len: usize, capacity: usize) -> bool {
    capacity > kept::<T>() && len <= capacity / 4
}

/// True if [`shrink_queue`] would shrink. Hot paths check this first and leave the call to a slow
/// path, because the call would cost them registers.
#[inline(always)]
pub(crate) fn may_shrink<T>(queue: &VecDeque<T>) -> bool {
    is_sparse::<T>(queue.len(), queue.capacity())
}

/// Shrinks a queue that is mostly unused. Called wherever values are taken out.
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
    if is_sparse::<T>(vec.len(), vec.capacity()) {
        vec.shrink_to((2 * vec.len()).max(kept::<T>()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_load_never_reallocates_and_a_burst_shrinks() {
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
    fn zero_sized_values_never_shrink() {
        let mut queue = VecDeque::from([(), ()]);
        shrink_queue(&mut queue);
        assert_eq!(queue.len(), 2);
    }
}
