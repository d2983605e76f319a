//! The links between the hosts of a world.

use std::fmt;
use std::ops::RangeInclusive;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::net::{self, HostId, Rate};
use super::world::{WorldState, nanos};

/// The link from one host of a [`World`](super::World) to another. The way back is another link.
///
/// Changes apply to later packets. TCP sends lost segments again.
#[derive(Clone)]
pub struct Link {
    world: Weak<WorldState>,
    from: HostId,
    to: HostId,
}

impl Link {
    pub(super) fn new(world: &Rc<WorldState>, from: HostId, to: HostId) -> Link {
        let world = Rc::downgrade(world);
        Link { world, from, to }
    }

    /// Sets the least and the greatest latency. Each packet has one in between.
    pub fn latency(&self, latency: RangeInclusive<Duration>) -> &Link {
        let latency = nanos(*latency.start())..=nanos(*latency.end());
        self.change(|link| link.set_latency(latency))
    }

    /// Sets the share of packets that are lost, from 0 to 1.
    ///
    /// The plain run loses none, and shrinking removes losses, unless the probability is 1.
    pub fn loss(&self, probability: f64) -> &Link {
        self.change(|link| link.loss = Rate::probability(probability))
    }

    /// Sets the share of packets that arrive twice, from 0 to 1.
    ///
    /// The plain run duplicates none, and shrinking removes duplicates, unless the probability is
    /// 1.
    pub fn duplication(&self, probability: f64) -> &Link {
        self.change(|link| link.duplication = Rate::probability(probability))
    }

    /// Sets the share of packets that later ones overtake, from 0 to 1.
    ///
    /// The plain run reorders none, and shrinking removes reorderings, unless the probability is 1.
    pub fn reorder(&self, probability: f64) -> &Link {
        self.change(|link| link.reorder = Rate::probability(probability))
    }

    /// Sets the bandwidth in bytes per second. `None` is no limit.
    pub fn bandwidth(&self, bytes_per_second: Option<u64>) -> &Link {
        self.change(|link| link.bandwidth = bytes_per_second)
    }

    /// Cuts the link, or joins it again. A link that is cut loses all packets, in this direction.
    pub fn cut(&self, is_cut: bool) -> &Link {
        if let Some(world) = self.world.upgrade() {
            world.network().set_partition(self.from, self.to, is_cut);
        }
        self
    }

    fn change(&self, change: impl FnOnce(&mut net::Link)) -> &Link {
        if let Some(world) = self.world.upgrade() {
            change(world.network().link_mut(self.from, self.to));
        }
        self
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
