//! How often a fault happens.

use crate::sim::choices::{Choices, Site};

/// How often a decision is other than zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// Zero means never or always. No decision is made then.
    rarity: u32,
    /// For a decision between yes and no, the greatest number that means yes. Without a decision,
    /// zero means never.
    greatest: u32,
}

/// The limit of a decision between yes and no. Numbers other than zero may mean no, so that the
/// probability is fine-grained.
const LIMIT: u32 = 1 << 16;

impl Rate {
    pub(crate) const fn never() -> Rate {
        Rate {
            rarity: 0,
            greatest: 0,
        }
    }

    /// One in `cases`.
    pub(crate) const fn one_in(cases: u32) -> Rate {
        Rate {
            rarity: cases,
            greatest: LIMIT - 1,
        }
    }

    /// A probability from 0 to 1. The error is at most 1/65,536. With 1 it happens always, also if
    /// all decisions are benign.
    ///
    /// [`Choices::choose`] returns one of the numbers other than zero in one of `rarity` cases.
    pub(crate) fn probability(probability: f64) -> Rate {
        if probability.is_nan() || probability <= 0.0 {
            return Rate::never();
        }
        if probability >= 1.0 {
            return Rate {
                rarity: 0,
                greatest: LIMIT - 1,
            };
        }
        let rarity = (1.0 / probability).min(f64::from(u32::MAX)).floor();
        let share = (probability * rarity).min(1.0);
        Rate {
            rarity: rarity as u32,
            greatest: (f64::from(LIMIT - 1) * share).round() as u32,
        }
    }

    /// Decides between yes and no.
    #[inline]
    pub(super) fn happens(self, choices: &Choices, host: u16, site: Site) -> bool {
        match self.rarity {
            0 => self.greatest > 0,
            rarity => (1..=self.greatest).contains(&choices.choose(host, site, rarity, LIMIT)),
        }
    }

    /// Decides on a number below `limit`, mostly zero.
    #[inline]
    pub(super) fn amount(self, choices: &Choices, host: u16, site: Site, limit: u32) -> u32 {
        match self.rarity {
            0 => 0,
            rarity => choices.choose(host, site, rarity, limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::Rate;
    use crate::sim::choices::{Choices, Site};
    use crate::sim::context::Context;
    use crate::sim::explore::Explorer;

    #[test]
    fn a_rate_is_a_probability() {
        let rates = [
            (Rate::never(), 0.0),
            (Rate::one_in(8), 0.125),
            (Rate::probability(-1.0), 0.0),
            (Rate::probability(0.03), 0.03),
            (Rate::probability(0.4), 0.4),
            (Rate::probability(0.9), 0.9),
            (Rate::probability(1.0), 1.0),
        ];
        for (rate, expected) in rates {
            let choices = Choices::new(3);
            let count = (0..100_000)
                .filter(|_| rate.happens(&choices, 1, Site::Loss))
                .count();
            let found = count as f64 / 100_000.0;
            assert!((found - expected).abs() < 0.006, "{rate:?}: {found}");
        }
    }

    #[test]
    fn a_probability_of_one_takes_no_decision() {
        let plain = Choices::explore(0, Explorer::Fifo, Rc::new(Context::new()));
        let happens = |probability| Rate::probability(probability).happens(&plain, 1, Site::Loss);
        assert!(!happens(0.0) && happens(1.0) && happens(f64::INFINITY));
        assert_eq!(plain.count(), 0);
        assert!(!happens(0.99));
        assert_eq!(plain.count(), 1);
    }
}
