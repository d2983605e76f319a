//! The sockets of UDP.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;

use super::address::{Address, HostId, Kind, covers, is_broadcast, shown};
use super::bytes;
use super::network::Network;
use super::readiness::Edge;
use super::slab::Key;
use super::socket::{OVERHEAD, Socket};
use super::wire::Content;

/// The most bytes of a datagram over IPv4 and over IPv6.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;

impl Network {
    pub(super) fn connect_udp(&mut self, slot: u32, to: SocketAddr) -> Result<(), Errno> {
        if is_broadcast(to.ip()) {
            return Err(Errno::ACCESS);
        }
        self.route(slot, to)?;
        self.bind_free(slot).map_err(|_| Errno::AGAIN)?;
        let (_, source, destination) = self.route(slot, to)?;
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        socket.local = Some(source);
        socket.remote = Some(destination);
        Ok(())
    }

    pub(super) fn send_udp(
        &mut self,
        slot: u32,
        bufs: &[IoSlice<'_>],
        to: Option<SocketAddr>,
    ) -> Result<usize, Errno> {
        if to.is_some_and(|to| to.port() == 0) {
            return Err(Errno::INVAL);
        }
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let to = to.or(socket.remote).ok_or(Errno::DESTADDRREQ)?;
        let len = bytes::length(bufs);
        if len > if to.is_ipv4() { MAX_V4 } else { MAX_V6 } {
            return Err(Errno::MSGSIZE);
        }
        let broadcasts = is_broadcast(to.ip());
        if broadcasts && !socket.options.broadcast {
            return Err(Errno::ACCESS);
        }
        socket.check_error()?;
        if socket.udp().is_some_and(|udp| udp.write_closed) {
            return Err(Errno::PIPE);
        }
        let from = socket.host;
        self.bind_free(slot).map_err(|_| Errno::AGAIN)?;
        if broadcasts {
            self.broadcast(slot, from, to, bufs);
            return Ok(len);
        }
        let (host, source, destination) = self.route(slot, to)?;
        if let Some(host) = host {
            self.send_datagram(slot, from, host, (source, destination), bufs);
        }
        Ok(len)
    }

    /// Sends a datagram to all hosts, or to the sender's own on its loopback network.
    fn broadcast(&mut self, slot: u32, from: HostId, to: SocketAddr, bufs: &[IoSlice<'_>]) {
        let port = self.sockets.get(slot).and_then(|socket| socket.local);
        let port = port.map_or(0, |local| local.port());
        if to.ip().is_loopback() {
            let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            return self.send_datagram(slot, from, from, (source, to), bufs);
        }
        let source = SocketAddr::new(from.v4().into(), port);
        for host in (0..self.hosts.len() as u16).map(HostId) {
            self.send_datagram(slot, from, host, (source, to), bufs);
        }
    }

    fn send_datagram(
        &mut self,
        slot: u32,
        from: HostId,
        to: HostId,
        (source, destination): (SocketAddr, SocketAddr),
        bufs: &[IoSlice<'_>],
    ) {
        let Network { wire, sockets, .. } = self;
        let sender = sockets.key(slot);
        let Some(udp) = sockets.get_mut(slot).and_then(Socket::udp) else {
            return;
        };
        let flow = udp.flows.entry(to).or_default();
        let fate = wire.fate(from, to, bytes::length(bufs), true, flow);
        for at in [fate.first, fate.second].into_iter().flatten() {
            let data = bytes::gather(wire.buffer(), bufs);
            let content = Content::Datagram {
                sender,
                source,
                destination,
                data,
            };
            wire.deliver(at, from, to, content);
        }
    }

    pub(super) fn receive_datagram(
        &mut self,
        from: HostId,
        to: HostId,
        sender: Key,
        (source, destination): (SocketAddr, SocketAddr),
        data: Vec<u8>,
    ) {
        if is_broadcast(destination.ip()) {
            for slot in self.find_udp(to, source, destination, true) {
                self.queue_datagram(slot, source, data.clone());
            }
            return self.wire.recycle(data);
        }
        match self.find_udp(to, source, destination, false).first() {
            Some(slot) => self.queue_datagram(*slot, source, data),
            None => {
                self.wire.recycle(data);
                let content = Content::Unreachable { receiver: sender };
                self.wire.send(to, from, &mut 0, content);
            }
        }
    }

    fn queue_datagram(&mut self, slot: u32, source: SocketAddr, data: Vec<u8>) {
        let Some(socket) = self.sockets.get_mut(slot) else {
            return;
        };
        let limit = socket.buffers.1;
        let Some(udp) = socket.udp() else {
            return;
        };
        // The last datagram may exceed the limit, as on Linux.
        if udp.queued >= limit || udp.read_closed {
            return self.wire.recycle(data);
        }
        udp.queued += data.len() + OVERHEAD;
        udp.queue.push_back((source, data));
        self.mark(slot, Edge::Read);
    }

    /// Finds the sockets that a datagram is for. Without `all`, it is the best match.
    fn find_udp(
        &self,
        host: HostId,
        source: SocketAddr,
        destination: SocketAddr,
        all: bool,
    ) -> Vec<u32> {
        let Some(port) = self.port(host, Kind::Datagram, destination.port()) else {
            return Vec::new();
        };
        let score = |socket: &Socket| {
            let (local, to) = (socket.local?.ip(), destination.ip());
            let matches = match is_broadcast(to) {
                true => local.is_unspecified(),
                false => covers(local, socket.options.only_v6, to),
            };
            let is_peer = socket.remote.is_none_or(|remote| remote == source);
            let same_family = local.is_ipv4() == to.is_ipv4();
            let score = (
                socket.remote.is_some(),
                !local.is_unspecified(),
                same_family,
            );
            (matches && is_peer).then_some(score)
        };
        let scored = port.bound.iter().filter_map(|slot| {
            let score = self.sockets.get(*slot).and_then(score)?;
            Some((score, *slot))
        });
        match all {
            true => scored.map(|(_, slot)| slot).collect(),
            false => scored.max().map(|(_, slot)| slot).into_iter().collect(),
        }
    }

    /// A connected socket reports that no socket has the port of its peer.
    pub(super) fn receive_unreachable(&mut self, receiver: Key) {
        if !self.sockets.contains(receiver) {
            return;
        }
        if let Some(socket) = self.sockets.get_mut(receiver.slot) {
            if socket.remote.is_some() {
                socket.error = Some(Errno::CONNREFUSED);
                self.mark(receiver.slot, Edge::State);
            }
        }
    }

    pub(super) fn receive_udp(
        &mut self,
        slot: u32,
        bufs: &mut [IoSliceMut<'_>],
        peek: bool,
    ) -> Result<(usize, Option<Address>, bool), Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        socket.check_error()?;
        let family = socket.family;
        let udp = socket.udp().ok_or(Errno::BADF)?;
        let Some((source, data)) = udp.queue.front() else {
            return Err(self.would_block(slot, Edge::Read));
        };
        let (addr, len) = (shown(*source, family), data.len());
        let copied = bytes::scatter(data, bufs, 0, len);
        if !peek {
            udp.queued -= len + OVERHEAD;
            if let Some((_, data)) = udp.queue.pop_front() {
                self.wire.recycle(data);
            }
        }
        Ok((copied, Some(addr), copied < len))
    }

    pub(super) fn shutdown_udp(&mut self, slot: u32, read: bool, write: bool) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(slot).ok_or(Errno::BADF)?;
        let is_connected = socket.remote.is_some();
        if let Some(udp) = socket.udp() {
            udp.read_closed |= read;
            udp.write_closed |= write;
        }
        self.mark(slot, Edge::State);
        if is_connected {
            Ok(())
        } else {
            Err(Errno::NOTCONN)
        }
    }
}
