//! An allocator that counts allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts the allocations of each thread separately, so that tests can run in parallel.
struct Counting;

thread_local! {
    pub(crate) static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    pub(crate) static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Returns the number of allocations that the closure makes on this thread, and the bytes that it
/// leaves allocated.
pub(crate) fn count<T>(code: impl FnOnce() -> T) -> (usize, isize, T) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let output = code();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1, output)
}

/// Upper bound of the memory that stays allocated after a burst, in bytes.
pub(crate) const LEFT: isize = 20 * 1024;
