//! The addresses of hosts and sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

pub(crate) use windlass_reactor::system::{Family, Kind};

/// A host, by the order in which the hosts were added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(crate) struct HostId(pub(crate) u16);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Inet(SocketAddr),
    Unix(UnixName),
}

/// The name of a Unix socket.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) enum UnixName {
    #[default]
    Unnamed,
    /// A path. Two spellings of one path are two names.
    Path(Rc<[u8]>),
    /// A name without a file, and without the zero byte before it.
    Abstract(Rc<[u8]>),
}

impl HostId {
    /// The first host has 10.0.0.1.
    pub(super) fn v4(self) -> Ipv4Addr {
        let [high, low] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(10, 0, high, low)
    }

    /// The first host has `fd00::1`.
    pub(super) fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.0 + 1)
    }

    /// The host with this address, if its number is below `hosts`.
    pub(super) fn with_ip(ip: IpAddr, hosts: usize) -> Option<HostId> {
        let number = match ip {
            IpAddr::V4(ip) => match ip.octets() {
                [10, 0, high, low] => u16::from_be_bytes([high, low]),
                _ => return None,
            },
            IpAddr::V6(ip) => match ip.segments() {
                [0xfd00, 0, 0, 0, 0, 0, 0, number] => number,
                _ => return None,
            },
        };
        let number = number.checked_sub(1)?;
        (usize::from(number) < hosts).then_some(HostId(number))
    }
}

/// Returns whether the network has a route to the address. There may be no host with it.
pub(super) fn is_routed(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [10, 0, ..]),
        IpAddr::V6(ip) => matches!(ip.segments(), [0xfd00, 0, 0, 0, ..]),
    }
}

/// The address of all hosts, or of all sockets on the loopback interface.
pub(super) fn is_broadcast(ip: IpAddr) -> bool {
    let networks = [[10, 0, 255, 255], [127, 255, 255, 255]];
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || networks.contains(&ip.octets()))
}

/// The address with which a socket of a family shows an address of the network.
pub(super) fn shown(addr: SocketAddr, family: Family) -> Address {
    Address::Inet(match (family, addr.ip()) {
        (Family::V6, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        _ => addr,
    })
}

/// The unspecified address of a family.
pub(super) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Returns whether sockets that are bound to `bound` receive packets to `destination`.
pub(super) fn covers(bound: IpAddr, only_v6: bool, destination: IpAddr) -> bool {
    match (bound, destination) {
        (IpAddr::V6(bound), IpAddr::V4(_)) => bound.is_unspecified() && !only_v6,
        _ if bound.is_unspecified() => bound.is_ipv4() == destination.is_ipv4(),
        _ => bound == destination,
    }
}
