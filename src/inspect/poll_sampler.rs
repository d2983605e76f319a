//! Samples of polls, which fill the histogram of their durations.

use std::time::Instant;

use windlass_executor::PollSampler;

use crate::counters;

/// Switches the histogram of the durations of polls on or off, for all loops of the process.
///
/// It is off at first. While it is on, the loops measure 1 of 64 polls. A measurement reads the
/// clock twice, which takes about 50 ns. The polls of tasks and of main futures count, except for
/// the poll that completes a main future.
///
/// # Examples
///
/// ```
/// windlass::inspect::sample_polls(true);
/// // The load to measure runs here.
/// windlass::inspect::sample_polls(false);
/// println!("{:?}", windlass::inspect::metrics().poll_times);
/// ```
pub fn sample_polls(is_on: bool) {
    static SAMPLER: PollSampler = PollSampler {
        start: Instant::now,
        end: |start| {
            let time = start.elapsed();
            counters::with(|counters| counters.poll_times.add(time));
        },
    };
    windlass_executor::sample_polls(is_on.then_some(&SAMPLER));
}
