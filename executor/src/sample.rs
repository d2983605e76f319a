//! Samples of polls, for all executors of the process.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Instant;

use crate::cell::Ref;
use crate::inner::ExecutorInner;
use crate::pulse::{SAMPLE, samples_polls, set_report};
use crate::report::Report;
use crate::task_id::TaskId;

/// Measures a sample of the polls, see [`sample_polls`]. The functions must not panic.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use std::time::Instant;
/// use windlass_executor::{Executor, PollSampler, block_on, sample_polls, spawn};
///
/// static SAMPLES: AtomicU64 = AtomicU64::new(0);
/// static SAMPLER: PollSampler = PollSampler {
///     start: Instant::now,
///     end: |start| {
///         let _time = start.elapsed();
///         SAMPLES.fetch_add(1, Relaxed);
///     },
/// };
///
/// sample_polls(Some(&SAMPLER));
/// let executor = Executor::new();
/// block_on(executor.run(async {
///     for _ in 0..10_000 {
///         spawn(async {}).await;
///     }
/// }));
/// assert!((100..1000).contains(&SAMPLES.load(Relaxed)));
/// ```
#[derive(Debug)]
pub struct PollSampler {
    /// Is called before the poll.
    pub start: fn() -> Instant,
    /// Is called after the poll with the result of `start`, unless the poll was that of the main
    /// future and has completed it.
    pub end: fn(Instant),
}

static SAMPLER: OnceLock<&'static PollSampler> = OnceLock::new();

/// Samples 1 of 64 polls of all executors of the process from their next turns on, or stops that.
/// All calls share the first sampler.
///
/// While it is on, each poll costs a few instructions more. The gaps between the sampled polls
/// vary, so tasks that take turns in a fixed order are sampled alike.
pub fn sample_polls(sampler: Option<&'static PollSampler>) {
    if let Some(sampler) = sampler {
        SAMPLER.get_or_init(|| sampler);
    }
    set_report(SAMPLE, sampler.is_some());
}

pub(crate) fn sampler() -> Option<&'static PollSampler> {
    SAMPLER.get().filter(|_| samples_polls()).copied()
}

/// Measures some of the polls, and passes all of them on.
pub(crate) struct Sampled<R> {
    sampler: &'static PollSampler,
    start: Cell<Option<Instant>>,
    report: R,
}

impl<R> Sampled<R> {
    pub(crate) fn new(sampler: &'static PollSampler, report: R) -> Self {
        Sampled {
            sampler,
            start: Cell::new(None),
            report,
        }
    }
}

impl<R: Report> Report for Sampled<R> {
    #[inline(always)]
    fn polling(&self, inner: &ExecutorInner, cell: &Ref) {
        self.report.polling(inner, cell);
        // A hash of the number of the poll. Its upper six bits are zero for 1 of 64 polls.
        let hash = (inner.pulse.polls.get() as u32).wrapping_mul(0x9e37_79b9);
        self.start
            .set((hash >> 26 == 0).then(|| (self.sampler.start)()));
    }

    #[inline(always)]
    fn polled(&self, task: Option<TaskId>) {
        if let Some(start) = self.start.take() {
            (self.sampler.end)(start);
        }
        self.report.polled(task);
    }
}
