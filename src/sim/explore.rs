//! The explorers: how a seed becomes decisions.

use std::fmt;
use std::rc::Rc;

use super::site::{Family, Site};

/// The number of decisions among which the deviations of a run are placed, as a power of two.
const PLACES_LOG2: u64 = 17;

/// How the decisions of a run are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Explorer {
    /// Each decision is random, with the rate that its site passes.
    Random,
    /// Each decision is zero.
    Fifo,
    /// At most this many decisions, at random places, are not zero.
    Deviations { most: u32 },
    /// As `Random`, but each family of faults is off with a probability of one half.
    Swarm,
    /// One byte after another determines a decision. Decisions after the last byte are zero.
    Bytes(Rc<[u8]>),
}

impl Explorer {
    /// Returns the explorer of a seed. Seed 0 is the plain run. The other seeds alternate, because
    /// each explorer finds bugs that the others miss.
    pub(super) fn of_seed(seed: u64) -> Explorer {
        match seed % 4 {
            0 if seed == 0 => Explorer::Fifo,
            0 => Explorer::Random,
            1 => Explorer::Swarm,
            2 => Explorer::Deviations { most: 2 },
            _ => Explorer::Deviations { most: 6 },
        }
    }

    /// Returns whether decisions of this site may be other than zero.
    pub(super) fn includes(&self, seed: u64, site: Site) -> bool {
        match self {
            Explorer::Swarm => is_on(seed, site.family()),
            _ => true,
        }
    }
}

/// Returns the numbers of the decisions that deviate, in descending order. The seed alone
/// determines them, and a run may have 50 decisions or 100,000. Therefore each order of magnitude
/// is equally probable.
pub(super) fn deviations(seed: u64, most: u32) -> Vec<u64> {
    let place = |i| {
        let random = mix(seed ^ DEVIATIONS, i);
        let first = 1 << ((random >> 32) % PLACES_LOG2);
        first - 1 + (random & 0xffff_ffff) % first
    };
    let mut places: Vec<u64> = (0..u64::from(most)).map(place).collect();
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.dedup();
    places
}

impl fmt::Display for Explorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explorer::Random => f.write_str("random"),
            Explorer::Fifo => f.write_str("fifo"),
            Explorer::Deviations { most } => write!(f, "deviations {most}"),
            Explorer::Swarm => f.write_str("swarm"),
            Explorer::Bytes(bytes) => write!(f, "bytes {}", bytes.len()),
        }
    }
}

// Uses of a seed beside the decisions of sites.
const DEVIATIONS: u64 = 0x6465_7669_6174_6531;
const FAMILIES: u64 = 0x6661_6d69_6c69_6573;

fn is_on(seed: u64, family: Family) -> bool {
    mix(seed ^ FAMILIES, family as u64) & 1 == 0
}

/// The mixing function of splitmix64.
pub(super) fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
