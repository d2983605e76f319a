//! What may be given where an address is wanted.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// What may be given where an address is wanted: what std's `ToSocketAddrs` takes, but host names
/// are looked up without holding up the loop.
///
/// Numeric addresses cost nothing. This trait is sealed: make a `SocketAddr` of your own types.
pub trait ToAddrs: sealed::Target {}

impl<T: sealed::Target + ?Sized> ToAddrs for T {}

pub(crate) use sealed::{Addrs, Target};

mod sealed {
    use super::*;

    /// Addresses, or a name to look up.
    #[derive(Debug)]
    pub enum Addrs {
        Known(Vec<SocketAddr>),
        Name(String, u16),
        Nonsense(io::Error),
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
        match self
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse()))
        {
            Some((host, Ok(port))) => Addrs::Name(host.to_owned(), port),
            _ => Addrs::Nonsense(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{self}` is not an address: write `host:port`, say `127.0.0.1:8080`"),
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

/// Finds the addresses of a host name, as the system does (`getaddrinfo`), off the loop.
///
/// That call blocks, so a thread of its own makes it and ends with it.
///
/// # Errors
///
/// If the name is not known, or no thread can be had.
///
/// # Cancel safety
///
/// May be dropped at any time. The thread then ends by itself when the system has answered.
///
/// # Examples
///
/// ```
/// use windlass_reactor::{block_on, net::lookup_host};
///
/// let addrs = block_on(lookup_host("localhost:80"))?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn lookup_host(host: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match host.addrs() {
        Addrs::Known(addrs) => Ok(addrs),
        Addrs::Name(host, port) => look_up(host, port).await,
        Addrs::Nonsense(error) => Err(error),
    }
}

/// What the thread leaves for the future.
#[derive(Default)]
struct Answer {
    addrs: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = Arc::new(Mutex::new(Answer::default()));
    let theirs = answer.clone();
    thread::Builder::new()
        .name("windlass-lookup".into())
        .spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let addrs = found.map(Vec::from_iter).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("can't find the host `{host}`: {error}"),
                )
            });
            let mut answer = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            answer.addrs = Some(addrs);
            let waker = answer.waker.take();
            drop(answer);
            waker.into_iter().for_each(Waker::wake);
        })?;
    poll_fn(|cx| {
        let mut waker = Some(cx.waker().clone());
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        let addrs = answer.addrs.take();
        if addrs.is_none() {
            std::mem::swap(&mut answer.waker, &mut waker);
        }
        drop(answer);
        drop(waker); // the one before, not under the lock
        addrs.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
