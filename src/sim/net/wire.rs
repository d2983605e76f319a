//! Packets on their way between hosts.

use std::net::SocketAddr;
use std::rc::Rc;

use super::address::HostId;
use super::connection::Segment;
use super::faults::Faults;
use super::link::Link;
use super::rate::Rate;
use super::readiness::Edge;
use super::schedule::Schedule;
use super::slab::Key;
use crate::sim::choices::{Choices, Site};

/// A packet with its way.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) from: HostId,
    pub(super) to: HostId,
    pub(super) content: Content,
}

/// The sockets of an established connection find each other by their keys. The keys stand for the
/// addresses and ports. A port that is used again has another key, so a late segment never gets
/// into another connection.
#[derive(Debug)]
pub(super) enum Content {
    Syn {
        sender: Key,
        source: SocketAddr,
        destination: SocketAddr,
        window_end: u64,
    },
    Segment {
        sender: Key,
        receiver: Key,
        segment: Segment,
    },
    Reset {
        receiver: Key,
    },
    Datagram {
        sender: Key,
        source: SocketAddr,
        destination: SocketAddr,
        data: Vec<u8>,
    },
    /// The ICMP message that answers a datagram to a closed port.
    Unreachable {
        receiver: Key,
    },
}

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Due {
    Arrival(Packet),
    /// The deadline of a connection may have come.
    Check(Key),
    Spurious(Key, Edge),
    Partition {
        from: HostId,
        to: HostId,
        begins: bool,
        /// The partition was not healed since.
        heals: u32,
    },
}

/// When a packet arrives.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Arrivals {
    pub(super) first: Option<u64>,
    pub(super) second: Option<u64>,
}

/// The levels of latency between the least and the greatest.
const LEVELS: u32 = 64;

pub(super) struct Wire {
    pub(super) choices: Rc<Choices>,
    pub(super) faults: Faults,
    /// By sender and receiver.
    links: Vec<Vec<Link>>,
    pub(super) schedule: Schedule<Due>,
    pub(super) now: u64,
    pub(super) heals: u32,
    /// Empty buffers for packets.
    spare: Vec<Vec<u8>>,
}

/// Decides on the latency of one packet.
fn latency(link: &Link, jitter: Rate, choices: &Choices, host: u16) -> u64 {
    let (least, greatest) = link.latency;
    if least == greatest {
        return least;
    }
    let rate = match link.always_varies {
        true => Rate::one_in(1),
        false => jitter,
    };
    let level = rate.amount(choices, host, Site::Latency, LEVELS);
    let more = u128::from(greatest - least) * u128::from(level) / u128::from(LEVELS - 1);
    least + more as u64
}

impl Wire {
    pub(super) fn new(choices: Rc<Choices>) -> Wire {
        Wire {
            choices,
            faults: Faults::default(),
            links: Vec::new(),
            schedule: Schedule::new(),
            now: 0,
            heals: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn add_host(&mut self) {
        let number = self.links.len();
        for links in &mut self.links {
            links.push(Link::new(false));
        }
        let links = (0..=number).map(|other| Link::new(other == number));
        self.links.push(links.collect());
    }

    pub(super) fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        &mut self.links[usize::from(from.0)][usize::from(to.0)]
    }

    pub(super) fn heal(&mut self) {
        self.heals += 1;
        self.links.iter_mut().flatten().for_each(Link::heal);
    }

    /// The most bytes of a segment, with headers of 40 bytes and time stamps of 12.
    pub(super) fn max_segment(from: HostId, to: HostId) -> usize {
        if from == to { 65_483 } else { 1_448 }
    }

    /// Decides when a packet arrives. `flow` is when the packet before it arrives.
    pub(super) fn fate(
        &mut self,
        from: HostId,
        to: HostId,
        bytes: usize,
        is_datagram: bool,
        flow: &mut u64,
    ) -> Arrivals {
        let (choices, host) = (&*self.choices, from.0);
        let link = &mut self.links[usize::from(from.0)][usize::from(to.0)];
        if link.is_partitioned() {
            return Arrivals::default();
        }
        let start = link.transfer(self.now, bytes);
        let happens = |own, common, site| {
            Rate::happens(own, choices, host, site)
                || is_datagram && from != to && Rate::happens(common, choices, host, site)
        };
        if happens(link.loss, self.faults.datagram_loss, Site::Loss) {
            return Arrivals::default();
        }
        let greatest = link.latency.1;
        let jitter = self.faults.jitter;
        let mut at = start.saturating_add(latency(link, jitter, choices, host));
        if happens(link.reorder, self.faults.datagram_reorder, Site::Reorder) {
            at = at.max(*flow).saturating_add(greatest); // later packets overtake it
        } else {
            at = at.max(*flow);
            *flow = at;
        }
        let twice = happens(
            link.duplication,
            self.faults.datagram_duplicate,
            Site::Duplicate,
        );
        Arrivals {
            first: Some(at),
            second: twice.then_some(at.saturating_add(greatest)),
        }
    }

    /// Sends a packet without bytes.
    pub(super) fn send(&mut self, from: HostId, to: HostId, flow: &mut u64, content: Content) {
        const HEADERS: usize = 40;
        if let Some(at) = self.fate(from, to, HEADERS, false, flow).first {
            self.deliver(at, from, to, content);
        }
    }

    pub(super) fn deliver(&mut self, at: u64, from: HostId, to: HostId, content: Content) {
        let packet = Packet { from, to, content };
        self.schedule.add(at, Due::Arrival(packet));
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back the buffer of a packet that has arrived.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        const MOST: usize = 64;
        if buffer.capacity() > 0 && self.spare.len() < MOST {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
