//! The histogram of the durations of polls, from a sample of them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The number of buckets. Bucket `n` ends at 4^n µs, and the last has no end.
pub(crate) const BUCKETS: usize = 12;

/// How long the sampled polls took.
///
/// # Examples
///
/// ```
/// windlass::inspect::sample_polls(true);
/// windlass::block_on(async {
///     for _ in 0..10_000 {
///         windlass::yield_now().await;
///     }
/// });
/// let times = windlass::inspect::metrics().poll_times;
/// assert!(times.count() > 0);
/// for (end, polls) in times.buckets() {
///     match end {
///         Some(end) => println!("{polls} polls took less than {end:?}"),
///         None => println!("{polls} polls took longer"),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PollTimes {
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) total: Duration,
}

impl PollTimes {
    /// Returns the number of sampled polls.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the time that they took in total.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// Returns the buckets in the order of duration. Each has its exclusive end and its number of
    /// polls. The last bucket has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + use<> {
        self.buckets
            .into_iter()
            .enumerate()
            .map(|(bucket, polls)| (end(bucket), polls))
    }

    #[inline]
    pub(crate) fn add(&mut self, other: &PollTimes) {
        for (bucket, polls) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.wrapping_add(polls);
        }
        self.total = self.total.saturating_add(other.total);
    }

    #[inline]
    pub(crate) fn subtract(&mut self, earlier: &PollTimes) {
        for (bucket, polls) in self.buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.saturating_sub(polls);
        }
        self.total = self.total.saturating_sub(earlier.total);
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn end(bucket: usize) -> Option<Duration> {
    (bucket < BUCKETS - 1).then(|| Duration::from_micros(1 << (2 * bucket)))
}

fn bucket_of(time: Duration) -> usize {
    match nanos(time) / 1000 {
        0 => 0,
        micros => (micros.ilog2() as usize / 2 + 1).min(BUCKETS - 1),
    }
}

/// A histogram with one writer, which any thread may read.
#[derive(Default)]
pub(crate) struct PollTimesCell {
    buckets: [AtomicU64; BUCKETS],
    total: AtomicU64,
}

impl PollTimesCell {
    pub(crate) fn add(&self, time: Duration) {
        let add = |counter: &AtomicU64, number| {
            counter.store(counter.load(Relaxed).wrapping_add(number), Relaxed);
        };
        add(&self.buckets[bucket_of(time)], 1);
        add(&self.total, nanos(time));
    }

    pub(crate) fn read(&self) -> PollTimes {
        PollTimes {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            total: Duration::from_nanos(self.total.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_below_the_end_of_its_bucket() {
        for nanos in [0, 999, 1000, 3999, 4000, 15_999, 16_000, 1 << 29, 1 << 30] {
            let time = Duration::from_nanos(nanos);
            let bucket = bucket_of(time);
            assert!(end(bucket).is_none_or(|end| time < end), "{time:?}");
            assert!(bucket == 0 || time >= end(bucket - 1).unwrap(), "{time:?}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(end(BUCKETS - 2), Some(Duration::from_micros(1_048_576)));
    }
}
