//! The network: hosts, links and time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;

use super::address::HostId;
use super::faults::Faults;
use super::host::Host;
use super::link::Link;
use super::slab::{Key, Slab};
use super::socket::{BUFFER, Socket};
use super::wire::{Content, Due, Packet, Wire};
use crate::sim::choices::Choices;

/// The network of a world.
///
/// All calls take place at the time of the last [`advance`](Network::advance). A call for a socket
/// that is not open fails with `EBADF`. The other errors are as on Linux.
pub(crate) struct Network {
    pub(super) wire: Wire,
    pub(super) hosts: Vec<Host>,
    pub(super) sockets: Slab<Socket>,
    /// The answering ends of TCP connections by the sockets that connected.
    pub(super) answering: BTreeMap<Key, u32>,
    pub(super) buffers: (usize, usize),
}

impl Network {
    pub(crate) fn new(choices: Rc<Choices>) -> Network {
        Network {
            wire: Wire::new(choices),
            hosts: Vec::new(),
            sockets: Slab::new(),
            answering: BTreeMap::new(),
            buffers: (BUFFER, BUFFER),
        }
    }

    // Hosts and links.

    /// Adds a host. Its addresses are 10.0.x.y and fd00::n.
    pub(crate) fn add_host(&mut self, name: &str) -> (HostId, Ipv4Addr) {
        let host = HostId(self.hosts.len() as u16);
        self.hosts.push(Host::new(name));
        self.wire.add_host();
        (host, host.v4())
    }

    /// Resolves a name as the hosts of the world do.
    ///
    /// # Errors
    ///
    /// Fails for an unknown name with the error that std returns for `EAI_NONAME`.
    pub(crate) fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addrs = |ips: [IpAddr; 2]| Ok(ips.map(|ip| SocketAddr::new(ip, port)).to_vec());
        if let Ok(ip) = name.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if name.eq_ignore_ascii_case("localhost") {
            return addrs([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let is_named = |host: &Host| host.name.eq_ignore_ascii_case(name);
        match self.hosts.iter().position(is_named) {
            // IPv4 is first, as RFC 6724 sorts unique local addresses of IPv6.
            Some(number) => {
                let host = HostId(number as u16);
                addrs([host.v4().into(), host.v6().into()])
            }
            None => {
                // No stable name exists for this kind.
                let kind = io::Error::from_raw_os_error(i32::MAX).kind();
                let text = "failed to lookup address information: Name or service not known";
                Err(io::Error::new(kind, text))
            }
        }
    }

    /// Stops a host. Its sockets vanish, and the peers are not notified. Packets that are on their
    /// way from the host still arrive. The paths of its Unix sockets remain.
    pub(crate) fn crash(&mut self, host: HostId) {
        for slot in self.sockets.numbers() {
            if self
                .sockets
                .get(slot)
                .is_some_and(|socket| socket.host == host)
            {
                self.remove(slot);
            }
        }
        let host = &mut self.hosts[usize::from(host.0)];
        host.is_up = false;
        host.pending.clear();
        host.open = 0;
    }

    /// Starts a host again. It answers segments of its former connections with a reset.
    pub(crate) fn restart(&mut self, host: HostId) {
        self.hosts[usize::from(host.0)].is_up = true;
    }

    /// Returns whether a host waits for peers. It has a listener, or a UDP socket with a port of
    /// its choice.
    pub(crate) fn listens(&self, host: HostId) -> bool {
        let mut sockets = self
            .sockets
            .numbers()
            .into_iter()
            .filter_map(|slot| self.sockets.get(slot));
        sockets.any(|socket| socket.host == host && socket.listens())
    }

    /// Returns the link from one host to another, or from a host to itself.
    pub(crate) fn link_mut(&mut self, from: HostId, to: HostId) -> &mut Link {
        self.wire.link(from, to)
    }

    /// Begins or ends a partition of one direction. Packets that are on their way still arrive.
    pub(crate) fn set_partition(&mut self, from: HostId, to: HostId, is_partitioned: bool) {
        self.wire.link(from, to).is_cut = is_partitioned;
    }

    /// Partitions one direction during a time. If the time has begun, the partition starts at once.
    pub(crate) fn partition_during(&mut self, from: HostId, to: HostId, time: Range<u64>) {
        if time.is_empty() || time.end <= self.wire.now {
            return;
        }
        let heals = self.wire.heals;
        let due = |begins| Due::Partition {
            from,
            to,
            begins,
            heals,
        };
        if time.start <= self.wire.now {
            self.wire.link(from, to).partitions += 1;
        } else {
            self.wire.schedule.add(time.start, due(true));
        }
        self.wire.schedule.add(time.end, due(false));
    }

    /// Ends all partitions, and cancels those that are scheduled.
    pub(crate) fn heal(&mut self) {
        self.wire.heal();
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.wire.faults = faults;
    }

    /// Sets the size of the send buffer and of the receive buffer of new sockets, at least one byte
    /// each.
    #[cfg(test)]
    pub(crate) fn set_buffers(&mut self, send: usize, receive: usize) {
        self.buffers = (send.max(1), receive.max(1));
    }

    /// Limits how many sockets a host may have open.
    pub(crate) fn set_descriptor_limit(&mut self, host: HostId, limit: usize) {
        self.hosts[usize::from(host.0)].limit = limit;
    }

    /// Removes the name of a Unix socket, as unlink(2) does. Returns false if no socket has it.
    pub(crate) fn unlink(&mut self, host: HostId, path: &[u8]) -> bool {
        self.hosts[usize::from(host.0)].paths.remove(path).is_some()
    }

    /// Returns whether a Unix socket has this path. It may be closed already.
    #[cfg(test)]
    pub(crate) fn has_path(&self, host: HostId, path: &[u8]) -> bool {
        self.hosts[usize::from(host.0)].paths.contains_key(path)
    }

    // Time.

    /// Returns the time of the next packet, timer or partition.
    pub(crate) fn next_event(&mut self) -> Option<u64> {
        self.remove_pointless_checks();
        self.wire.schedule.peek().map(|(at, _)| at)
    }

    /// Moves the time to `now`. Everything due until then happens in its order, each at its time.
    pub(crate) fn advance(&mut self, now: u64) {
        while let Some((at, due)) = self.wire.schedule.take_due(now) {
            self.wire.now = self.wire.now.max(at);
            match due {
                Due::Arrival(packet) => self.arrive(packet),
                Due::Check(key) => self.check_connection(key, at),
                Due::Spurious(key, edge) => self.report_spurious(key, edge),
                Due::Partition {
                    from,
                    to,
                    begins,
                    heals,
                } if heals == self.wire.heals => {
                    let partitions = &mut self.wire.link(from, to).partitions;
                    *partitions = if begins {
                        *partitions + 1
                    } else {
                        *partitions - 1
                    };
                }
                Due::Partition { .. } => {}
            }
        }
        self.wire.now = self.wire.now.max(now);
    }

    fn arrive(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        if !self.hosts[usize::from(to.0)].is_up {
            return;
        }
        match packet.content {
            Content::Syn {
                sender,
                source,
                destination,
                window_end,
            } => self.receive_syn(from, to, sender, (source, destination), window_end),
            Content::Segment {
                sender,
                receiver,
                segment,
            } => self.receive_segment(from, to, (sender, receiver), segment),
            Content::Reset { receiver } => self.receive_reset(receiver),
            Content::Datagram {
                sender,
                source,
                destination,
                data,
            } => self.receive_datagram(from, to, sender, (source, destination), data),
            Content::Unreachable { receiver } => self.receive_unreachable(receiver),
        }
    }

    /// Returns how many sockets exist, closed ones that still send included.
    #[cfg(test)]
    pub(super) fn sockets_in_use(&self) -> usize {
        self.sockets.numbers().len()
    }
}
