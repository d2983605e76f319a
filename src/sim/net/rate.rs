//! How often a fault happens.

use crate::sim::choices::{Choices, Site};

/// How often a decision is other than zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// Zero means never. The decision is not made then.
    rarity: u32,
    /// For a decision between yes and no, the limit that gives the probability.
    limit: u32,
}

/// A limit at which all numbers but zero have a probability near one.
const MANY: u32 = 1 << 16;

impl Rate {
    pub(crate) const fn never() -> Rate {
        Rate {
            rarity: 0,
            limit: 1,
        }
    }

    /// One in `cases`.
    pub(crate) const fn one_in(cases: u32) -> Rate {
        Rate {
            rarity: cases,
            limit: MANY,
        }
    }

    /// A probability from 0 to 1.
    ///
    /// [`Choices::choose`] returns a number other than zero with the probability
    /// `(limit - 1) / limit / rarity`.
    pub(crate) fn probability(probability: f64) -> Rate {
        if probability.is_nan() || probability <= 0.0 {
            return Rate::never();
        }
        let probability = probability.min(1.0);
        let rarity = (1.0 / probability).min(f64::from(u32::MAX)).floor();
        let rest = 1.0 - probability * rarity;
        let limit = (1.0 / rest.max(1.0 / f64::from(MANY))).round();
        Rate {
            rarity: rarity as u32,
            limit: limit.max(2.0) as u32,
        }
    }

    /// Decides between yes and no.
    #[inline]
    pub(super) fn happens(self, choices: &Choices, host: u16, site: Site) -> bool {
        self.rarity != 0 && choices.choose(host, site, self.rarity, self.limit) != 0
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
