//! The slot of a worker holds its current worker and the backoff of restarts.

use std::time::{Duration, Instant};

/// A worker that has served for this long is stable. If it dies, it is restarted immediately.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Backoff before the restart of a worker that was not stable. It doubles with each such death.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Deaths in a row, each before `STABLE_AFTER`, after which the program counts as broken, unless
/// another worker is stable.
pub(super) const MAX_EARLY_DEATHS: u32 = 5;

#[derive(Default)]
pub(super) struct Slot {
    /// The id of its current worker.
    pub(super) worker: Option<u64>,
    /// Its worker has returned `Ok`.
    pub(super) is_finished: bool,
    pub(super) restart_at: Option<Instant>,
    pub(super) restarts: u64,
    /// Consecutive deaths of workers that were not stable.
    early_deaths: u32,
}

impl Slot {
    /// Returns the backoff before the restart of a worker that has died, or `None` if the program
    /// counts as broken.
    pub(super) fn next_backoff(&mut self, was_stable: bool, others_are: bool) -> Option<Duration> {
        self.early_deaths = if was_stable {
            0
        } else {
            self.early_deaths.saturating_add(1)
        };
        if self.early_deaths >= MAX_EARLY_DEATHS && !others_are {
            return None;
        }
        Some(match self.early_deaths.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => MAX_BACKOFF.min(FIRST_BACKOFF * 2_u32.pow(doublings.min(10))),
        })
    }

    /// Returns true if no worker has died early since the last stable one.
    pub(super) fn is_healthy(&self) -> bool {
        self.early_deaths == 0
    }

    /// Prepares the slot for a worker of the new program.
    pub(super) fn reset(&mut self) {
        (self.is_finished, self.restart_at, self.early_deaths) = (false, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_maximum_and_restarts_when_stable() {
        let mut slot = Slot::default();
        let mut backoffs = |was_stable, times| -> Vec<_> {
            let backoff = |_| slot.next_backoff(was_stable, true).map(|it| it.as_millis());
            (0..times).map(backoff).collect()
        };
        assert_eq!(backoffs(true, 2), [Some(0); 2]);
        assert_eq!(
            backoffs(false, 9),
            [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Some)
        );
        assert_eq!(backoffs(true, 1), [Some(0)]);
        assert_eq!(backoffs(false, 1), [Some(50)]);
    }

    #[test]
    fn restarts_end_only_if_no_worker_is_stable() {
        let mut slot = Slot::default();
        let has_ended: Vec<_> = (0..6)
            .map(|_| slot.next_backoff(false, false).is_none())
            .collect();
        assert_eq!(has_ended, [false, false, false, false, true, true]);
        assert!(slot.next_backoff(false, true).is_some());
    }
}
