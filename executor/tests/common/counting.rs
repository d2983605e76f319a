//! An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread allocates, so that tests can run side by side.
struct Counting;

thread_local! {
    pub(crate) static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    pub(crate) static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: it passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations the code makes on this thread, and how many more bytes are allocated after
/// it.
pub(crate) fn count<T>(code: impl FnOnce() -> T) -> (usize, isize, T) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let output = code();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1, output)
}

/// What is left of a burst, at most.
pub(crate) const LEFT: isize = 20 * 1024;
