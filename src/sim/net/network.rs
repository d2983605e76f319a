//! The network: hosts, links and sockets.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::ops::Range;
use std::rc::Rc;

use rustix::io::Errno;

use super::address::{
    self, Address, Family, HostId, Kind, UnixName, covers, is_routed, unspecified,
};
use super::connection::Phase;
use super::faults::Faults;
use super::host::{Host, Port, Ports};
use super::link::Link;
use super::readiness::{Edge, Event, Readiness, Registration};
use super::slab::{Key, Slab};
use super::socket::{
    BUFFER, Options, PortUse, Protocol, Socket, SocketId, Udp, UnixDatagram, UnixStream,
};
use super::wire::{Content, Due, Packet, Wire};
use crate::sim::choices::{Choices, Site};

/// The network of a world.
///
/// All calls take place at the time of the last [`advance`](Network::advance). A call for a socket
/// that is not open fails with `EBADF`. The other errors are those of Linux.
pub(crate) struct Network {
    pub(super) wire: Wire,
    pub(super) hosts: Vec<Host>,
    pub(super) sockets: Slab<Socket>,
    /// The answering ends of TCP connections by the sockets that connected.
    pub(super) answering: BTreeMap<Key, u32>,
    buffers: (usize, usize),
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

    /// Whether a host waits for peers: it has a listener, or a UDP socket with a port of its choice.
    pub(crate) fn listens(&self, host: HostId) -> bool {
        let mut sockets = self
            .sockets
            .numbers()
            .into_iter()
            .filter_map(|slot| self.sockets.get(slot));
        sockets.any(|socket| socket.host == host && socket.listens())
    }

    /// The way from one host to another, or from a host to itself.
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

    pub(crate) fn faults(&self) -> Faults {
        self.wire.faults
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.wire.faults = faults;
    }

    /// Sets the size of the send buffer and of the receive buffer of new sockets, at least one byte
    /// each.
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

    /// Whether a Unix socket has this path. It may be closed already.
    pub(crate) fn has_path(&self, host: HostId, path: &[u8]) -> bool {
        self.hosts[usize::from(host.0)].paths.contains_key(path)
    }

    // Time.

    /// Returns the time of the next packet, timer or partition.
    pub(crate) fn next_event(&self) -> Option<u64> {
        self.wire.schedule.first()
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
        self.remove_pointless_checks();
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

    /// How many sockets exist, closed ones that still send included.
    #[cfg(test)]
    pub(super) fn sockets_in_use(&self) -> usize {
        self.sockets.numbers().len()
    }

    // Events.

    /// Registers a socket with its host's poller, for reading and perhaps for writing. If the socket
    /// is ready, that is an event.
    ///
    /// # Errors
    ///
    /// Fails with `EEXIST` if the socket is registered.
    pub(crate) fn register(
        &mut self,
        id: SocketId,
        key: u64,
        write: bool,
        exclusive: bool,
    ) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        if socket.registration.is_some() {
            return Err(Errno::EXIST.into());
        }
        socket.registration = Some(Registration {
            key,
            write,
            exclusive,
            is_pending: false,
            spurious: None,
        });
        self.mark_if_ready(id.0);
        Ok(())
    }

    /// Changes a registration. If the socket is ready, that is an event.
    ///
    /// # Errors
    ///
    /// Fails with `ENOENT` if the socket is not registered.
    pub(crate) fn change(&mut self, id: SocketId, key: u64, write: bool) -> io::Result<()> {
        let registration = self.open_mut(id)?.registration.as_mut();
        let registration = registration.ok_or(Errno::NOENT)?;
        registration.key = key;
        registration.write = write;
        self.mark_if_ready(id.0);
        Ok(())
    }

    /// Removes a registration with its pending event.
    ///
    /// # Errors
    ///
    /// Fails with `ENOENT` if the socket is not registered.
    pub(crate) fn deregister(&mut self, id: SocketId) -> io::Result<()> {
        let registration = self.open_mut(id)?.registration.take();
        Ok(registration.map(drop).ok_or(Errno::NOENT)?)
    }

    /// Whether [`take_events`](Self::take_events) may return an event.
    pub(crate) fn has_events(&self, host: HostId) -> bool {
        let mut pending = self.hosts[usize::from(host.0)].pending.iter();
        pending.any(|slot| {
            let socket = self.sockets.get(*slot).filter(|socket| socket.host == host);
            let registration = socket.and_then(|socket| socket.registration.as_ref());
            registration.is_some_and(|registration| registration.is_pending)
        })
    }

    /// Appends the pending events of a host. Each reports the present state.
    pub(crate) fn take_events(&mut self, host: HostId, events: &mut Vec<Event>) {
        let number = usize::from(host.0);
        let mut pending = std::mem::take(&mut self.hosts[number].pending);
        let (rate, count) = (self.wire.faults.event_order, pending.len());
        for i in 0..count.saturating_sub(1) {
            let left = (count - i).min(1024) as u32;
            let skipped = rate.amount(&self.wire.choices, host.0, Site::Event, left);
            pending.swap(i, i + skipped as usize);
        }
        for slot in pending.drain(..) {
            let Some(socket) = self.sockets.get(slot) else {
                continue;
            };
            let registration = socket.registration.as_ref();
            if socket.host != host || !registration.is_some_and(|entry| entry.is_pending) {
                continue;
            }
            let readiness = self.check_readiness(slot);
            let socket = self.sockets.get_mut(slot);
            let registration = socket.and_then(|socket| socket.registration.as_mut());
            events.extend(registration.and_then(|entry| entry.take_event(readiness)));
        }
        self.hosts[number].pending = pending;
    }

    /// Returns the present state of a socket, as poll(2) does.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn readiness(&mut self, id: SocketId) -> io::Result<Readiness> {
        self.open(id)?;
        let readiness = self.check_readiness(id.0);
        if !readiness.readable {
            self.would_block(id.0, Edge::Read); // perhaps a spurious event
        }
        Ok(readiness)
    }

    /// Returns the state of a socket. If there is no room to write, the next room is an event.
    fn check_readiness(&mut self, slot: u32) -> Readiness {
        let unix_writable = self.is_unix_writable(slot);
        let Some(socket) = self.sockets.get_mut(slot) else {
            return Readiness::default();
        };
        let readiness = socket.readiness(unix_writable);
        if !readiness.writable {
            match &mut socket.protocol {
                Protocol::Tcp(connection) => connection.no_space = true,
                Protocol::UnixDatagram(_) => self.wait_for_room(slot),
                _ => {}
            }
        }
        readiness
    }

    fn mark_if_ready(&mut self, slot: u32) {
        let readiness = self.check_readiness(slot);
        let registration = self.sockets.get(slot).and_then(|s| s.registration.as_ref());
        if registration.is_some_and(|entry| entry.filter(readiness).is_some()) {
            self.mark(slot, Edge::State);
        }
    }

    /// Makes an event pending, if the socket is registered for this edge.
    pub(super) fn mark(&mut self, slot: u32, edge: Edge) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        let registration = socket.registration.as_mut();
        if let Some(entry) = registration.filter(|entry| entry.is_interested(edge)) {
            if !entry.is_pending {
                entry.is_pending = true;
                self.hosts[usize::from(socket.host.0)]
                    .pending
                    .push_back(slot);
            }
        }
    }

    /// After a call has found a socket not ready, a spurious event may follow.
    pub(super) fn would_block(&mut self, slot: u32, edge: Edge) -> Errno {
        const LEVELS: u32 = 16;
        const LEVEL: u64 = 50_000;
        if let Some(socket) = self.sockets.get(slot) {
            let (rate, host) = (self.wire.faults.spurious_event, socket.host.0);
            let level = rate.amount(&self.wire.choices, host, Site::Spurious, LEVELS);
            if level > 0 {
                let at = self.wire.now + u64::from(level) * LEVEL;
                let due = Due::Spurious(self.sockets.key(slot), edge);
                self.wire.schedule.add(at, due);
            }
        }
        Errno::AGAIN
    }

    fn report_spurious(&mut self, key: Key, edge: Edge) {
        if !self.sockets.contains(key) {
            return;
        }
        let socket = self.sockets.get_mut(key.slot);
        if let Some(entry) = socket.and_then(|socket| socket.registration.as_mut()) {
            entry.spurious = entry.is_interested(edge).then_some(edge);
            self.mark(key.slot, edge);
        }
    }

    // Sockets.

    /// Creates a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EMFILE` if the host has too many sockets, or by choice.
    pub(crate) fn socket(
        &mut self,
        host: HostId,
        family: Family,
        kind: Kind,
    ) -> io::Result<SocketId> {
        self.check_descriptors(host, 1)?;
        self.hosts[usize::from(host.0)].open += 1;
        Ok(SocketId(self.insert(host, family, kind)))
    }

    /// Creates two Unix sockets that are connected with each other.
    ///
    /// # Errors
    ///
    /// Fails with `EMFILE` if the host has too many sockets, or by choice.
    pub(crate) fn pair(&mut self, host: HostId, kind: Kind) -> io::Result<(SocketId, SocketId)> {
        self.check_descriptors(host, 2)?;
        self.hosts[usize::from(host.0)].open += 2;
        let first = self.insert(host, Family::Unix, kind);
        let second = self.insert(host, Family::Unix, kind);
        self.join_unix(first, second);
        Ok((SocketId(first), SocketId(second)))
    }

    pub(super) fn check_descriptors(&mut self, host: HostId, count: usize) -> Result<(), Errno> {
        let Host { open, limit, .. } = self.hosts[usize::from(host.0)];
        let rate = self.wire.faults.refused_descriptor;
        let (choices, site) = (&self.wire.choices, Site::Descriptor);
        if open + count > limit || rate.happens(choices, host.0, site) {
            return Err(Errno::MFILE);
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, host: HostId, family: Family, kind: Kind) -> u32 {
        // The smallest buffers have 2^-7 of the size. A datagram must fit in as a whole.
        let (rate, choices) = (self.wire.faults.small_buffers, &self.wire.choices);
        let smaller = match kind {
            Kind::Stream => rate.amount(choices, host.0, Site::Buffer, 8),
            Kind::Datagram => 0,
        };
        let (send, receive) = self.buffers;
        self.sockets.insert(Socket {
            host,
            family,
            kind,
            local: None,
            remote: None,
            port: PortUse::Nothing,
            error: None,
            options: Options::default(),
            registration: None,
            buffers: ((send >> smaller).max(1), (receive >> smaller).max(1)),
            is_hidden: false,
            is_orphan: false,
            protocol: match (family, kind) {
                (Family::Unix, Kind::Stream) => Protocol::UnixStream(UnixStream::default()),
                (Family::Unix, Kind::Datagram) => Protocol::UnixDatagram(UnixDatagram::default()),
                (_, Kind::Stream) => Protocol::TcpIdle,
                (_, Kind::Datagram) => Protocol::Udp(Udp::default()),
            },
        })
    }

    pub(super) fn open(&self, id: SocketId) -> Result<&Socket, Errno> {
        let socket = self.sockets.get(id.0).filter(|socket| !socket.is_hidden);
        socket.ok_or(Errno::BADF)
    }

    pub(super) fn open_mut(&mut self, id: SocketId) -> Result<&mut Socket, Errno> {
        let socket = self
            .sockets
            .get_mut(id.0)
            .filter(|socket| !socket.is_hidden);
        socket.ok_or(Errno::BADF)
    }

    /// Removes a socket, and sends nothing.
    pub(super) fn remove(&mut self, slot: u32) {
        self.leave_unix(slot);
        let key = self.sockets.key(slot);
        let Some(mut socket) = self.sockets.remove(slot) else {
            return;
        };
        let host = &mut self.hosts[usize::from(socket.host.0)];
        if let Some(peer) = socket.connection().and_then(|connection| connection.peer) {
            if self.answering.get(&peer) == Some(&slot) {
                self.answering.remove(&peer);
            }
        }
        if let Some(local) = socket.local {
            let ports = match socket.kind {
                Kind::Stream => &mut host.tcp,
                Kind::Datagram => &mut host.udp,
            };
            match socket.port {
                PortUse::Nothing => {}
                PortUse::Bound => ports.unbind(local.port(), slot),
                PortUse::Accepted => ports.remove_accepted(local.port()),
            }
        }
        for name in host.paths.values_mut().filter(|name| **name == Some(key)) {
            *name = None;
        }
        host.abstract_names.retain(|_, socket| *socket != key);
    }

    /// Closes a socket. A connection sends the rest of its bytes and `FIN`, or a reset if bytes were
    /// not read or the socket lingers for no time.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn close(&mut self, id: SocketId) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        socket.is_hidden = true;
        socket.is_orphan = true;
        socket.registration = None;
        let host = socket.host;
        self.hosts[usize::from(host.0)].open -= 1;
        if let Some(socket) = self.sockets.get(id.0) {
            match socket.protocol {
                Protocol::TcpListener(_) => {
                    self.stop_listening(id.0);
                    self.remove(id.0);
                }
                Protocol::Tcp(_) => self.close_connection(id.0),
                _ => self.remove(id.0),
            }
        }
        Ok(())
    }

    /// Binds a socket to an address. Port 0 stands for a free port.
    ///
    /// # Errors
    ///
    /// Fails with `EINVAL` if the socket is bound, with `EADDRINUSE`, or with `EADDRNOTAVAIL` if
    /// the host does not have the address.
    pub(crate) fn bind(&mut self, id: SocketId, addr: &Address) -> io::Result<()> {
        let socket = self.open(id)?;
        match addr {
            Address::Unix(name) if socket.family == Family::Unix => Ok(self.bind_unix(id.0, name)?),
            Address::Inet(addr) if socket.family != Family::Unix => {
                let addr = canonical(socket, *addr)?;
                Ok(self.bind_inet(id.0, addr)?)
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn bind_inet(&mut self, slot: u32, addr: SocketAddr) -> Result<(), Errno> {
        let socket = self.sockets.get(slot).ok_or(Errno::BADF)?;
        if socket.local.is_some() {
            return Err(Errno::INVAL);
        }
        let (host, ip) = (socket.host, addr.ip());
        let is_own = HostId::with_ip(ip, self.hosts.len()) == Some(host);
        if !(ip.is_unspecified() || ip.is_loopback() || is_own) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let kind = socket.kind;
        let port = match addr.port() {
            0 => self.ports(host, kind).find_free().ok_or(Errno::ADDRINUSE)?,
            port if self.conflicts(slot, SocketAddr::new(ip, port)) => {
                return Err(Errno::ADDRINUSE);
            }
            port => port,
        };
        self.ports(host, kind).bind(port, slot);
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.local = Some(SocketAddr::new(ip, port));
            socket.port = PortUse::Bound;
            socket.options.only_v6 |= ip.is_ipv6() && !ip.is_unspecified();
        }
        Ok(())
    }

    /// Binds a socket to a free port, if it is not bound.
    pub(super) fn bind_free(&mut self, slot: u32) -> Result<(), Errno> {
        let socket = self.sockets.get(slot).ok_or(Errno::BADF)?;
        if socket.local.is_some() {
            return Ok(());
        }
        let addr = SocketAddr::new(unspecified(socket.family), 0);
        self.bind_inet(slot, addr)
    }

    fn ports(&mut self, host: HostId, kind: Kind) -> &mut Ports {
        let host = &mut self.hosts[usize::from(host.0)];
        match kind {
            Kind::Stream => &mut host.tcp,
            Kind::Datagram => &mut host.udp,
        }
    }

    pub(super) fn port(&self, host: HostId, kind: Kind, port: u16) -> Option<&Port> {
        let host = &self.hosts[usize::from(host.0)];
        match kind {
            Kind::Stream => host.tcp.get(port),
            Kind::Datagram => host.udp.get(port),
        }
    }

    /// Whether other sockets keep a socket from being bound to an address (`inet_bind_conflict`).
    fn conflicts(&self, slot: u32, addr: SocketAddr) -> bool {
        let Some(socket) = self.sockets.get(slot) else {
            return false;
        };
        let Some(port) = self.port(socket.host, socket.kind, addr.port()) else {
            return false;
        };
        let (reuse, ip) = (socket.options.reuse_address, addr.ip());
        let overlaps = |other: &Socket| {
            other.local.is_some_and(|local| {
                covers(local.ip(), other.options.only_v6, ip)
                    || covers(ip, socket.options.only_v6, local.ip())
            })
        };
        let blocks = |other: &Socket| {
            let listens = matches!(other.protocol, Protocol::TcpListener(_));
            overlaps(other) && !(reuse && other.options.reuse_address && !listens)
        };
        let mut bound = port
            .bound
            .iter()
            .filter_map(|other| self.sockets.get(*other));
        bound.any(blocks) || port.accepted > 0 && !(reuse && port.accepted_reuse)
    }

    /// Whether another socket listens on the address of this one.
    pub(super) fn is_listened_on(&self, slot: u32, addr: SocketAddr) -> bool {
        let Some(socket) = self.sockets.get(slot) else {
            return false;
        };
        let port = self.port(socket.host, Kind::Stream, addr.port());
        let mut bound = port.into_iter().flat_map(|port| &port.bound);
        bound.any(|other| {
            let other = self.sockets.get(*other).filter(|_| *other != slot);
            other.is_some_and(|other| {
                let listens = matches!(other.protocol, Protocol::TcpListener(_));
                let ip = other.local.map(|local| local.ip());
                listens
                    && ip.is_some_and(|ip| {
                        covers(ip, other.options.only_v6, addr.ip())
                            || covers(addr.ip(), socket.options.only_v6, ip)
                    })
            })
        })
    }

    /// Finds the host with an address, and the addresses of a packet to it. Returns no host if the
    /// packet will be lost.
    ///
    /// # Errors
    ///
    /// Fails with `ENETUNREACH` without a route, and with `EINVAL` if the socket is bound to the
    /// loopback interface and the address is of another host.
    pub(super) fn route(
        &self,
        slot: u32,
        to: SocketAddr,
    ) -> Result<(Option<HostId>, SocketAddr, SocketAddr), Errno> {
        let socket = self.sockets.get(slot).ok_or(Errno::BADF)?;
        let own = socket.host;
        let to_ip = match to.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let host = match HostId::with_ip(to_ip, self.hosts.len()) {
            _ if to_ip.is_loopback() => Some(own),
            None if !is_routed(to_ip) => return Err(Errno::NETUNREACH),
            host => host,
        };
        let bound = socket.local.filter(|local| !local.ip().is_unspecified());
        let from_ip = match to_ip {
            _ if bound.is_some_and(|bound| bound.ip().is_ipv4() == to_ip.is_ipv4()) => {
                bound.map_or(to_ip, |bound| bound.ip())
            }
            IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_loopback() => ip.into(),
            IpAddr::V4(_) => own.v4().into(),
            IpAddr::V6(_) => own.v6().into(),
        };
        if from_ip.is_loopback() && host != Some(own) {
            return Err(Errno::INVAL);
        }
        let port = socket.local.map_or(0, |local| local.port());
        let to = SocketAddr::new(to_ip, to.port());
        Ok((host, SocketAddr::new(from_ip, port), to))
    }

    /// Starts to accept connections.
    ///
    /// # Errors
    ///
    /// Fails with `EADDRINUSE` if another socket listens on the address, and with `EINVAL` if the
    /// socket is connected.
    pub(crate) fn listen(&mut self, id: SocketId, backlog: usize) -> io::Result<()> {
        const MOST: usize = 4096; // somaxconn
        let backlog = backlog.min(MOST);
        let listens = match &self.open(id)?.protocol {
            Protocol::UnixStream(_) => self.listen_unix(id.0, backlog),
            Protocol::UnixDatagram(_) | Protocol::Udp(_) => Err(Errno::OPNOTSUPP),
            _ => self.listen_tcp(id.0, backlog),
        };
        Ok(listens?)
    }

    /// Connects a socket. Returns true if that is in progress. A later event reports the end, and
    /// [`take_error`](Self::take_error) the outcome.
    ///
    /// # Errors
    ///
    /// Fails with `EISCONN`, `EALREADY`, `ENETUNREACH`, and the outcome of an attempt before. A Unix
    /// socket fails with `ENOENT`, `ECONNREFUSED`, `EPROTOTYPE`, or with `EAGAIN` if the backlog is
    /// full.
    pub(crate) fn connect(&mut self, id: SocketId, addr: &Address) -> io::Result<bool> {
        let socket = self.open(id)?;
        match (addr, &socket.protocol) {
            (Address::Unix(name), Protocol::UnixStream(_)) => {
                self.connect_unix_stream(id.0, name)?;
                Ok(false)
            }
            (Address::Unix(name), Protocol::UnixDatagram(_)) => {
                self.connect_unix_datagram(id.0, name)?;
                Ok(false)
            }
            (Address::Inet(addr), Protocol::Udp(_)) => {
                let addr = datagram_peer(socket, *addr, Errno::AFNOSUPPORT)?;
                self.connect_udp(id.0, addr)?;
                Ok(false)
            }
            (Address::Inet(addr), _) if socket.family != Family::Unix => {
                let addr = canonical(socket, *addr)?;
                Ok(self.connect_tcp(id.0, addr)?)
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Accepts a connection, with the address of its peer.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is none, with `EMFILE`, `EINVAL` if the socket does not listen,
    /// and `EINTR` by choice.
    pub(crate) fn accept(&mut self, id: SocketId) -> io::Result<(SocketId, Option<Address>)> {
        let socket = self.open(id)?;
        let host = socket.host;
        let is_unix = match &socket.protocol {
            Protocol::TcpListener(_) => false,
            Protocol::UnixStream(stream) if stream.listener.is_some() => true,
            Protocol::Udp(_) | Protocol::UnixDatagram(_) => return Err(Errno::OPNOTSUPP.into()),
            _ => return Err(Errno::INVAL.into()),
        };
        self.check_interrupt(host)?;
        self.check_descriptors(host, 1)?;
        let accepted = match is_unix {
            true => self.accept_unix(id.0),
            false => self.accept_tcp(id.0),
        };
        let (slot, addr) = match accepted {
            Some(accepted) => accepted,
            None => return Err(self.would_block(id.0, Edge::Read).into()),
        };
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.is_hidden = false;
        }
        self.hosts[usize::from(host.0)].open += 1;
        Ok((SocketId(slot), Some(addr)))
    }

    fn check_interrupt(&self, host: HostId) -> Result<(), Errno> {
        let rate = self.wire.faults.interrupt;
        if rate.happens(&self.wire.choices, host.0, Site::Interrupt) {
            return Err(Errno::INTR);
        }
        Ok(())
    }

    /// Decides how many of `len` bytes a stream transfers, at least one.
    pub(super) fn shorten(&self, host: HostId, len: usize) -> usize {
        const LEVELS: u32 = 32;
        if len < 2 {
            return len;
        }
        let rate = self.wire.faults.short_transfer;
        let level = rate.amount(&self.wire.choices, host.0, Site::Transfer, LEVELS);
        match level {
            0 => len,
            1 => len - 1,
            2 => 1,
            level => (len * (LEVELS - level) as usize / LEVELS as usize).max(1),
        }
    }

    /// Sends bytes or a datagram.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is no room, with the pending error, `EPIPE`, `ENOTCONN`,
    /// `EMSGSIZE`, `EDESTADDRREQ`, those of [`connect`](Self::connect), and `EINTR` by choice.
    pub(crate) fn send(
        &mut self,
        id: SocketId,
        bufs: &[IoSlice<'_>],
        to: Option<&Address>,
    ) -> io::Result<usize> {
        let socket = self.open(id)?;
        self.check_interrupt(socket.host)?;
        Ok(match (&socket.protocol, to) {
            (Protocol::UnixStream(_), _) => self.send_unix_stream(id.0, bufs)?,
            (Protocol::UnixDatagram(_), None) => self.send_unix_datagram(id.0, bufs, None)?,
            (Protocol::UnixDatagram(_), Some(Address::Unix(name))) => {
                self.send_unix_datagram(id.0, bufs, Some(name))?
            }
            (Protocol::Udp(_), None) => self.send_udp(id.0, bufs, None)?,
            (Protocol::Udp(_), Some(Address::Inet(to))) => {
                let to = datagram_peer(socket, *to, Errno::NETUNREACH)?;
                self.send_udp(id.0, bufs, Some(to))?
            }
            (Protocol::UnixDatagram(_) | Protocol::Udp(_), Some(_)) => {
                return Err(Errno::INVAL.into());
            }
            _ => self.send_tcp(id.0, bufs)?,
        })
    }

    /// Receives bytes or a datagram. Returns the length, the sender of a datagram, and whether a
    /// datagram was longer than the buffers. With `peek`, the bytes stay in the queue.
    ///
    /// # Errors
    ///
    /// Fails with `EAGAIN` if there is nothing, with the pending error, `ENOTCONN`, `EINVAL`, and
    /// `EINTR` by choice.
    pub(crate) fn receive(
        &mut self,
        id: SocketId,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> io::Result<(usize, Option<Address>, bool)> {
        let socket = self.open(id)?;
        self.check_interrupt(socket.host)?;
        Ok(match &socket.protocol {
            Protocol::UnixStream(_) => (self.receive_unix_stream(id.0, bufs, peek)?, None, false),
            Protocol::UnixDatagram(_) => self.receive_unix_datagram(id.0, bufs, peek)?,
            Protocol::Udp(_) => self.receive_udp(id.0, bufs, peek)?,
            _ => (self.receive_tcp(id.0, bufs, peek)?, None, false),
        })
    }

    /// Shuts down one direction, or both.
    ///
    /// # Errors
    ///
    /// Fails with `ENOTCONN` unless the socket is connected. A Unix socket succeeds always.
    pub(crate) fn shutdown(&mut self, id: SocketId, how: Shutdown) -> io::Result<()> {
        let read = how != Shutdown::Write;
        let write = how != Shutdown::Read;
        let is_shut = match &self.open(id)?.protocol {
            Protocol::UnixStream(_) | Protocol::UnixDatagram(_) => {
                self.shutdown_unix(id.0, read, write);
                Ok(())
            }
            Protocol::Udp(_) => self.shutdown_udp(id.0, read, write),
            _ => self.shutdown_tcp(id.0, read, write),
        };
        Ok(is_shut?)
    }

    /// Returns the address of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn local_addr(&self, id: SocketId) -> io::Result<Address> {
        let socket = self.open(id)?;
        Ok(match &socket.protocol {
            Protocol::UnixStream(stream) => Address::Unix(stream.name.clone()),
            Protocol::UnixDatagram(datagram) => Address::Unix(datagram.name.clone()),
            _ => {
                let none = SocketAddr::new(unspecified(socket.family), 0);
                address::shown(socket.local.unwrap_or(none), socket.family)
            }
        })
    }

    /// Returns the address of the peer.
    ///
    /// # Errors
    ///
    /// Fails with `ENOTCONN` unless the socket is connected.
    pub(crate) fn peer_addr(&self, id: SocketId) -> io::Result<Address> {
        let socket = self.open(id)?;
        let unix =
            |is_connected: bool, name: &UnixName| is_connected.then(|| Address::Unix(name.clone()));
        let addr = match &socket.protocol {
            Protocol::UnixStream(stream) => unix(stream.is_connected, &stream.peer_name),
            Protocol::UnixDatagram(datagram) => unix(datagram.peer.is_some(), &datagram.peer_name),
            Protocol::Tcp(connection) if connection.phase != Phase::Established => None,
            _ => socket
                .remote
                .filter(|remote| remote.port() != 0)
                .map(|remote| address::shown(remote, socket.family)),
        };
        Ok(addr.ok_or(Errno::NOTCONN)?)
    }

    /// Takes the pending error (`SO_ERROR`).
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn take_error(&mut self, id: SocketId) -> io::Result<Option<io::Error>> {
        Ok(self.open_mut(id)?.error.take().map(io::Error::from))
    }

    /// Returns the options of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn options(&self, id: SocketId) -> io::Result<&Options> {
        Ok(&self.open(id)?.options)
    }

    /// Sets the options of a socket.
    ///
    /// # Errors
    ///
    /// Fails with `EBADF` if the socket is not open.
    pub(crate) fn set_options(&mut self, id: SocketId, options: Options) -> io::Result<()> {
        let socket = self.open_mut(id)?;
        let keepalive = options.keepalive;
        socket.options = options;
        if let Some(connection) = socket.connection() {
            connection.keepalive = keepalive;
            self.update_timer(id.0);
        }
        Ok(())
    }
}

/// The peer of a UDP socket. Those of IPv6 take addresses of IPv4, unless they are for IPv6 only.
fn datagram_peer(socket: &Socket, addr: SocketAddr, refusal: Errno) -> Result<SocketAddr, Errno> {
    match (socket.family, addr) {
        (Family::V6, SocketAddr::V4(_)) if socket.options.only_v6 => Err(refusal),
        (Family::V6, SocketAddr::V4(_)) => Ok(addr),
        _ => canonical(socket, addr),
    }
}

/// The address as the network has it. An address of IPv4 in one of IPv6 is one of IPv4.
fn canonical(socket: &Socket, addr: SocketAddr) -> Result<SocketAddr, Errno> {
    match (socket.family, addr.ip()) {
        (Family::V4, IpAddr::V6(_)) => Err(Errno::AFNOSUPPORT),
        (Family::V6, IpAddr::V4(_)) => Err(Errno::INVAL), // the address is too short
        (_, IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(_) if socket.options.only_v6 => Err(Errno::NETUNREACH),
            Some(ip) => Ok(SocketAddr::new(ip.into(), addr.port())),
            None => Ok(SocketAddr::new(ip.into(), addr.port())),
        },
        _ => Ok(addr),
    }
}
