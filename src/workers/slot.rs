//! The place of one worker after the other, and when the next one is started.

use std::time::{Duration, Instant};

/// A worker that has served for so long before it died is started again at once...
pub(super) const STABLE: Duration = Duration::from_secs(1);

/// ...and one that has not, after a rest, which doubles each time.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// If a worker dies so many times in a row before it has served for `STABLE`, and no other has
/// served for so long either, then it's the program that is broken.
pub(super) const TRIES: u32 = 5;

#[derive(Default)]
pub(super) struct Seat {
    /// The id of its worker.
    pub(super) worker: Option<u64>,
    /// Has done what it was to do.
    pub(super) is_finished: bool,
    pub(super) restart_at: Option<Instant>,
    pub(super) restarts: u64,
    /// Deaths in a row before it was stable.
    early_deaths: u32,
}

impl Seat {
    /// Its worker has died: after which rest the next one is started. None if that makes no sense.
    pub(super) fn rest(&mut self, was_stable: bool, others_are: bool) -> Option<Duration> {
        self.early_deaths = if was_stable {
            0
        } else {
            self.early_deaths.saturating_add(1)
        };
        if self.early_deaths >= TRIES && !others_are {
            return None;
        }
        Some(match self.early_deaths.checked_sub(1) {
            None => Duration::ZERO,
            Some(doubled) => LONGEST_REST.min(FIRST_REST * 2_u32.pow(doubled.min(10))),
        })
    }

    /// None has died early since the last one that was stable.
    pub(super) fn is_good(&self) -> bool {
        self.early_deaths == 0
    }

    /// A worker of another program takes it over.
    pub(super) fn renew(&mut self) {
        (self.is_finished, self.restart_at, self.early_deaths) = (false, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_the_longest_and_begin_anew_after_a_stable_worker() {
        let mut seat = Seat::default();
        let mut rests = |was_stable, times| -> Vec<_> {
            let rest = |_| seat.rest(was_stable, true).map(|rest| rest.as_millis());
            (0..times).map(rest).collect()
        };
        assert_eq!(rests(true, 2), [Some(0); 2]);
        assert_eq!(
            rests(false, 9),
            [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Some)
        );
        assert_eq!(rests(true, 1), [Some(0)]);
        assert_eq!(rests(false, 1), [Some(50)]);
    }

    #[test]
    fn it_is_given_up_only_if_no_other_worker_is_stable() {
        let mut seat = Seat::default();
        let given_up: Vec<_> = (0..6).map(|_| seat.rest(false, false).is_none()).collect();
        assert_eq!(given_up, [false, false, false, false, true, true]);
        assert!(seat.rest(false, true).is_some());
    }
}
