//! The decisions of a run.
//!
//! Each decision is a number below a limit, and zero is the benign value: the first task, the whole
//! read, no loss. A run is determined by its seed. What a decision yields depends on the seed, its
//! host, its site and how many decisions were made there before. So a change of one decision does
//! not move the others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A kind of decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Site {
    /// The task that is polled next.
    Task,
    /// The order of events of one wait.
    Event,
    /// The host that runs next.
    Host,
    /// The delay of a segment.
    Latency,
    /// Whether a datagram is lost.
    Loss,
    /// How many bytes a read or write transfers.
    Transfer,
}

/// The decisions of one run.
pub(super) struct Choices {
    seed: u64,
    made: RefCell<HashMap<(u16, Site), u64>>,
    count: Cell<u64>,
}

impl Choices {
    pub(super) fn new(seed: u64) -> Choices {
        Choices {
            seed,
            made: RefCell::new(HashMap::new()),
            count: Cell::new(0),
        }
    }

    /// Returns a number below `limit`. Zero is returned in all but one of `rarity` cases; a rarity
    /// of one makes all numbers equally probable.
    pub(super) fn choose(&self, host: u16, site: Site, rarity: u32, limit: u32) -> u32 {
        let mut made = self.made.borrow_mut();
        let number = made.entry((host, site)).or_default();
        let random = mix(
            self.seed ^ u64::from(host) << 48 ^ (site as u64) << 40,
            *number,
        );
        *number += 1;
        self.count.set(self.count.get() + 1);
        if random >> 32 & 0xffff_ffff >= (1 << 32) / u64::from(rarity.max(1)) {
            return 0;
        }
        ((random & 0xffff_ffff) * u64::from(limit.max(1)) >> 32) as u32
    }
}

/// The mixing function of splitmix64.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
