//! Counters of the facade, one set for each thread.

pub(crate) mod poll_times;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use self::poll_times::PollTimesCell;

/// The counters of a thread. The thread writes them, and any thread reads them.
#[derive(Default)]
pub(crate) struct ThreadCounters {
    ring_submits: AtomicU64,
    ring_in_flight: AtomicU64,
    pub(crate) poll_times: PollTimesCell,
}

thread_local!(static COUNTERS: Arc<ThreadCounters> = Arc::default());

/// Returns the counters of this thread.
pub(crate) fn current() -> Arc<ThreadCounters> {
    // While the thread ends, the counters may be gone. Nothing reads the new set.
    COUNTERS.try_with(Arc::clone).unwrap_or_default()
}

/// Passes the counters of this thread to `count`.
pub(crate) fn with(count: impl FnOnce(&ThreadCounters)) {
    let _ = COUNTERS.try_with(|counters| count(counters)); // fails while the thread ends
}

impl ThreadCounters {
    /// Counts a system call that submits operations to the ring.
    #[cfg_attr(any(not(target_os = "linux"), windlass_portable), allow(dead_code))]
    pub(crate) fn add_ring_submit(&self) {
        self.ring_submits.store(self.ring_submits() + 1, Relaxed);
    }

    pub(crate) fn ring_submits(&self) -> u64 {
        self.ring_submits.load(Relaxed)
    }

    #[cfg_attr(any(not(target_os = "linux"), windlass_portable), allow(dead_code))]
    pub(crate) fn set_ring_in_flight(&self, operations: u32) {
        self.ring_in_flight.store(operations.into(), Relaxed);
    }

    pub(crate) fn ring_in_flight(&self) -> u64 {
        self.ring_in_flight.load(Relaxed)
    }
}
