//! The addresses and ports of sockets, and the routes from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::address::{Family, HostId, Kind, covers, is_routed, unspecified};
use super::host::{Port, Ports};
use super::network::Network;
use super::socket::{PortUse, Protocol, Socket};

impl Network {
    pub(super) fn bind_inet(&mut self, slot: u32, addr: SocketAddr) -> Result<(), Errno> {
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

    /// Returns whether other sockets keep a socket from being bound to an address
    /// (`inet_bind_conflict`).
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

    /// Returns whether another socket listens on the address of this one.
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
}

/// The peer of a UDP socket. Those of IPv6 take addresses of IPv4, unless they are for IPv6 only.
pub(super) fn datagram_peer(
    socket: &Socket,
    addr: SocketAddr,
    refusal: Errno,
) -> Result<SocketAddr, Errno> {
    match (socket.family, addr) {
        (Family::V6, SocketAddr::V4(_)) if socket.options.only_v6 => Err(refusal),
        (Family::V6, SocketAddr::V4(_)) => Ok(addr),
        _ => canonical(socket, addr),
    }
}

/// The address as the network has it. An address of IPv4 in one of IPv6 is one of IPv4.
pub(super) fn canonical(socket: &Socket, addr: SocketAddr) -> Result<SocketAddr, Errno> {
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
