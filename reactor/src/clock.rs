//! The clock of deadlines.
//!
//! An [`Instant`] consists of seconds and nanoseconds. Comparing two of them, or adding a duration,
//! takes some dozens of instructions, as many as all other work for a timer. So a deadline is one
//! number.

#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

#[cfg(all(target_os = "linux", not(windlass_portable)))]
use crate::entered;

/// A point in time, in nanoseconds of the clock of [`Instant`] since an epoch before the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MonotonicNanos(u64);

/// The same point in time on both clocks.
static ANCHOR: LazyLock<(Instant, MonotonicNanos)> = LazyLock::new(anchor);

#[cfg(target_os = "linux")]
fn anchor() -> (Instant, MonotonicNanos) {
    // An interruption between the two reads puts them far apart, so this takes the closest of some
    // pairs. The instant is read first, so that a timer never fires before its instant.
    let pair = || {
        let instant = Instant::now();
        (instant, MonotonicNanos::read(), instant.elapsed())
    };
    let pairs = (0..6).map(|_| pair());
    let (instant, moment, _) = pairs.min_by_key(|pair| pair.2).unwrap_or_else(pair);
    (instant, moment)
}

#[cfg(not(target_os = "linux"))]
fn anchor() -> (Instant, MonotonicNanos) {
    // In the middle of the range, to leave room for the past.
    (Instant::now(), MonotonicNanos(1 << 62))
}

impl MonotonicNanos {
    /// The deadline of a timer that never fires, in the year 2554 or 584 years after the machine's
    /// start.
    pub(crate) const MAX: MonotonicNanos = MonotonicNanos(u64::MAX);

    /// The time now. In a simulated host it is that of its world.
    #[inline]
    pub(crate) fn now() -> MonotonicNanos {
        #[cfg(all(target_os = "linux", not(windlass_portable)))]
        if entered::is_simulated() {
            return entered::now().map_or_else(MonotonicNanos::read, MonotonicNanos);
        }
        MonotonicNanos::read()
    }

    #[cfg(target_os = "linux")]
    #[inline]
    fn read() -> MonotonicNanos {
        let mut now = MaybeUninit::<libc::timespec>::zeroed();
        // The clock of `Instant`, which starts with the machine. Called directly, because rustix
        // reads it through the vDSO, which valgrind hides.
        // SAFETY: the call writes to a valid `timespec`, and all zeroes is a valid `timespec`.
        let now = unsafe {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
            now.assume_init()
        };
        MonotonicNanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> MonotonicNanos {
        Instant::now().into()
    }

    pub(crate) fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn from_u64(nanos: u64) -> MonotonicNanos {
        MonotonicNanos(nanos)
    }

    /// Saturates at `MAX`.
    #[inline]
    pub(crate) fn after(self, duration: Duration) -> MonotonicNanos {
        MonotonicNanos(self.0.saturating_add(nanos(duration)))
    }

    /// The nanoseconds since `earlier`, or zero if `earlier` is later.
    #[inline]
    pub(crate) fn since(self, earlier: MonotonicNanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `None` for `MAX`, and outside of the range of `Instant`.
    pub(crate) fn instant(self) -> Option<Instant> {
        if self == MonotonicNanos::MAX {
            return None;
        }
        let (instant, moment) = *ANCHOR;
        match self.0.checked_sub(moment.0) {
            Some(after) => instant.checked_add(Duration::from_nanos(after)),
            None => instant.checked_sub(Duration::from_nanos(moment.since(self))),
        }
    }
}

/// Maps the far future to `MAX`, and the far past to the start of the clock.
impl From<Instant> for MonotonicNanos {
    fn from(at: Instant) -> MonotonicNanos {
        let (instant, moment) = *ANCHOR;
        match at.checked_duration_since(instant) {
            Some(after) => moment.after(after),
            None => MonotonicNanos(moment.0.saturating_sub(nanos(instant.duration_since(at)))),
        }
    }
}

/// The time now, as an `Instant`. With `MonotonicNanos::now`, the only reader of the clock.
pub(crate) fn now() -> Instant {
    MonotonicNanos::now().instant().unwrap_or_else(Instant::now)
}

/// Saturates, at 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().checked_mul(1_000_000_000);
    let nanos = seconds.and_then(|it| it.checked_add(duration.subsec_nanos().into()));
    nanos.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_round_trip() {
        let now = Instant::now();
        for nanos in [0, 1, 999_999_999, 3_600_000_000_000, 1 << 60] {
            let duration = Duration::from_nanos(nanos);
            let both = [now.checked_add(duration), now.checked_sub(duration)];
            for instant in both.into_iter().flatten() {
                let moment = MonotonicNanos::from(instant);
                assert!(moment.instant() == Some(instant) || moment == MonotonicNanos(0));
            }
        }
        assert_eq!(MonotonicNanos::MAX.instant(), None);
        assert_eq!(
            MonotonicNanos::now().after(Duration::MAX),
            MonotonicNanos::MAX
        );
    }

    #[test]
    fn a_deadline_from_an_instant_is_never_early() {
        for _ in 0..1000 {
            let moment = MonotonicNanos::now();
            assert!(moment <= MonotonicNanos::from(Instant::now()));
        }
    }
}
