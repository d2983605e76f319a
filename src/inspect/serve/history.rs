//! The lag of each loop over the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::inspect::loops::{self, Loop};

/// How often the loops are sampled.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// How many samples are combined into their maximum, which covers half a second.
const SAMPLES: u32 = 5;

/// How many maxima are kept, for one minute.
pub(super) const KEPT: usize = 120;

/// The lag of the loops that exist, by their numbers.
#[derive(Default)]
pub(super) struct History {
    loops: HashMap<u64, LagHistory>,
    samples: u32,
}

#[derive(Default)]
struct LagHistory {
    /// The newest value is the last.
    maxima: VecDeque<Duration>,
    /// The number of timers that had fired at the last sample, and their total lateness.
    fired: u64,
    lateness: Duration,
}

impl History {
    /// Samples all loops.
    pub(super) fn sample(&mut self) {
        let starts_maximum = self.samples % SAMPLES == 0;
        self.samples = self.samples.wrapping_add(1);
        let loops = loops::lock();
        for it in loops.iter() {
            let lag = self.loops.entry(it.id).or_default();
            let now = lag.measure(it);
            match lag.maxima.back_mut() {
                Some(last) if !starts_maximum => *last = now.max(*last),
                _ => lag.maxima.push_back(now),
            }
            if lag.maxima.len() > KEPT {
                lag.maxima.pop_front();
            }
        }
        if starts_maximum {
            self.loops
                .retain(|id, _| loops.iter().any(|it| it.id == *id));
        }
    }

    /// Returns the values of a loop, the oldest first.
    pub(super) fn of(&self, id: u64) -> impl Iterator<Item = Duration> {
        let known = self.loops.get(&id).into_iter();
        known.flat_map(|lag| lag.maxima.iter().copied())
    }
}

impl LagHistory {
    /// Returns for how long the loop has been in one poll, or the mean lateness of the timers that
    /// have fired since the last sample if that is more.
    fn measure(&mut self, it: &Loop) -> Duration {
        let reading = it.thread.reactor.read();
        let fired = reading.timers_fired.saturating_sub(self.fired);
        let lateness = reading.total_lateness.saturating_sub(self.lateness);
        let is_first = self.maxima.is_empty();
        (self.fired, self.lateness) = (reading.timers_fired, reading.total_lateness);
        let fired = u32::try_from(fired).unwrap_or(u32::MAX);
        match lateness.checked_div(fired) {
            Some(mean) if !is_first => mean.max(it.lag()),
            _ => it.lag(),
        }
    }
}
