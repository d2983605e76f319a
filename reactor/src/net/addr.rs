//! Conversion to socket addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Converts to socket addresses. Implemented for the types that std's `ToSocketAddrs` accepts. Host
/// names are resolved without blocking the loop.
///
/// Numeric addresses need no lookup. This trait is sealed. Convert your own types to `SocketAddr`.
pub trait ToAddrs: sealed::Target {}

impl<T: sealed::Target + ?Sized> ToAddrs for T {}

pub(super) use sealed::{Addrs, Target};

mod sealed {
    use super::*;

    /// Addresses, or a name to resolve.
    #[derive(Debug)]
    pub enum Addrs {
        Known(Vec<SocketAddr>),
        Name(String, u16),
        Invalid(io::Error),
    }

    pub trait Target {
        fn addrs(&self) -> Addrs;
    }
}

impl Target for SocketAddr {
    fn addrs(&self) -> Addrs {
        Addrs::Known(vec![*self])
    }
}

macro_rules! known {
    ($($type:ty),*) => { $(
        impl Target for $type {
            fn addrs(&self) -> Addrs {
                Addrs::Known(vec![SocketAddr::from(*self)])
            }
        }
    )* };
}

known!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl Target for [SocketAddr] {
    fn addrs(&self) -> Addrs {
        Addrs::Known(self.to_vec())
    }
}

impl Target for (&str, u16) {
    fn addrs(&self) -> Addrs {
        match self.0.parse::<IpAddr>() {
            Ok(ip) => Addrs::Known(vec![(ip, self.1).into()]),
            Err(_) => Addrs::Name(self.0.to_owned(), self.1),
        }
    }
}

impl Target for (String, u16) {
    fn addrs(&self) -> Addrs {
        (self.0.as_str(), self.1).addrs()
    }
}

impl Target for str {
    fn addrs(&self) -> Addrs {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return Addrs::Known(vec![addr]);
        }
        let parts = self.rsplit_once(':');
        match parts.map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => Addrs::Name(host.to_owned(), port),
            _ => Addrs::Invalid(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{self}` is not an address: write `host:port`, such as `127.0.0.1:8080`"),
            )),
        }
    }
}

impl Target for String {
    fn addrs(&self) -> Addrs {
        self.as_str().addrs()
    }
}

impl<T: Target + ?Sized> Target for &T {
    fn addrs(&self) -> Addrs {
        (**self).addrs()
    }
}
