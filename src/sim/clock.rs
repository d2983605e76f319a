//! The clock of a host, which may be fast or slow.

/// Relates the time of a host to the time of the world.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// The same moment on both clocks (ns).
    world: u64,
    host: u64,
    /// How much faster the host's clock is, in parts per million.
    drift: i32,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// The clock of a host that starts now.
    pub(super) fn new(now: u64) -> Clock {
        Clock {
            world: now,
            host: now,
            drift: 0,
        }
    }

    /// The same clock, which has another speed from now on.
    pub(super) fn with_drift(self, now: u64, drift: i32) -> Clock {
        Clock {
            world: now,
            host: self.of_host(now),
            drift,
        }
    }

    /// Converts a time of the world to one of the host, rounded down.
    #[inline]
    pub(super) fn of_host(self, now: u64) -> u64 {
        if self.drift == 0 {
            return now - self.world + self.host;
        }
        let passed = i128::from(now - self.world);
        self.host + (passed * (MILLION + i128::from(self.drift)) / MILLION) as u64
    }

    /// Converts a time of the host to one of the world, at which the host's clock shows at least
    /// that time.
    #[inline]
    pub(super) fn of_world(self, at: u64) -> u64 {
        let passed = at.saturating_sub(self.host);
        if self.drift == 0 {
            return self.world.saturating_add(passed);
        }
        let speed = MILLION + i128::from(self.drift);
        let passed = (i128::from(passed) * MILLION + speed - 1) / speed;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.world.saturating_add(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_with_drift_is_monotonic_and_reaches_each_deadline() {
        for drift in [-500_000, -100, -1, 0, 1, 333, 900_000] {
            let clock = Clock::new(7).with_drift(1_000, drift);
            let mut last = 0;
            for at in (1_000..2_000_000_000).step_by(7_919_317) {
                let host = clock.of_host(at);
                assert!(host >= last);
                last = host;
                let reached = clock.of_world(host + 5);
                assert!(clock.of_host(reached) >= host + 5);
                assert!(clock.of_host(reached - 1) < host + 5);
            }
        }
    }
}
