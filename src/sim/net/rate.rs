//! How often a fault happens.

use crate::sim::choices::{Choices, Site};

/// How often a decision is other than zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// Zero means never. The decision is not made then.
    rarity: u32,
    /// A decision between yes and no is a number below [`LIMIT`], and yes from this one on.
    first_yes: u32,
}

const LIMIT: u32 = 1 << 16;

impl Rate {
    pub(crate) const fn never() -> Rate {
        Rate::one_in(0)
    }

    /// One in `cases`. Zero means never.
    pub(crate) const fn one_in(cases: u32) -> Rate {
        Rate {
            rarity: cases,
            first_yes: 1,
        }
    }

    /// A probability from 0 to 1.
    pub(crate) fn probability(probability: f64) -> Rate {
        if probability.is_nan() || probability <= 0.0 {
            return Rate::never();
        }
        let probability = probability.min(1.0);
        let rarity = (1.0 / probability).min(f64::from(u32::MAX)).floor();
        let no = (1.0 - probability * rarity) * f64::from(LIMIT);
        Rate {
            rarity: rarity as u32,
            first_yes: (no.round() as u32).max(1),
        }
    }

    /// Decides between yes and no.
    #[inline]
    pub(super) fn happens(self, choices: &Choices, host: u16, site: Site) -> bool {
        self.rarity != 0 && choices.choose(host, site, self.rarity, LIMIT) >= self.first_yes
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
