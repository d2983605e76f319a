//! The link from one host to another.

use std::ops::RangeInclusive;

use super::rate::Rate;

/// The link from one host to another. The way back is another link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The least and the greatest latency in nanoseconds.
    pub(super) latency: (u64, u64),
    /// Each packet has a latency of its own. Otherwise the latency is the least one, except for
    /// the faults of [`Faults::jitter`](super::Faults::jitter).
    pub(super) always_varies: bool,
    /// Packets that are lost, segments of TCP included.
    pub(crate) loss: Rate,
    /// Packets that arrive twice.
    pub(crate) duplication: Rate,
    /// Packets that later ones overtake.
    pub(crate) reorder: Rate,
    /// In bytes per second. Without it, the transfer takes no time.
    pub(crate) bandwidth: Option<u64>,
    /// Until when the bandwidth is in use.
    pub(super) busy_until: u64,
    pub(super) is_cut: bool,
    /// How many partitions for a time are in effect.
    pub(super) partitions: u32,
}

/// Within a host.
const LOOPBACK: (u64, u64) = (10_000, 10_000);
/// Between hosts.
const REMOTE: (u64, u64) = (500_000, 5_000_000);

impl Link {
    pub(super) fn new(is_loopback: bool) -> Link {
        Link {
            latency: if is_loopback { LOOPBACK } else { REMOTE },
            always_varies: false,
            loss: Rate::never(),
            duplication: Rate::never(),
            reorder: Rate::never(),
            bandwidth: None,
            busy_until: 0,
            is_cut: false,
            partitions: 0,
        }
    }

    /// Sets the least and the greatest latency in nanoseconds. Each packet has one of its own in
    /// between. The segments of a connection stay in order, and so do the datagrams of a socket.
    pub(crate) fn set_latency(&mut self, latency: RangeInclusive<u64>) {
        let (least, greatest) = latency.into_inner();
        self.latency = (least, greatest.max(least));
        self.always_varies = true;
    }

    pub(crate) fn is_partitioned(&self) -> bool {
        self.is_cut || self.partitions > 0
    }

    /// Puts bytes on the link behind the bytes before. Returns when the last one is on it.
    pub(super) fn transfer(&mut self, now: u64, bytes: usize) -> u64 {
        let Some(bandwidth) = self.bandwidth else {
            return now;
        };
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(bandwidth.max(1));
        self.busy_until = self.busy_until.max(now) + nanos as u64;
        self.busy_until
    }

    /// Ends all partitions.
    pub(super) fn heal(&mut self) {
        self.is_cut = false;
        self.partitions = 0;
    }
}
