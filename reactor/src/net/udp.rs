//! UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::datagram::datagram;
use super::socket::socket;
use super::sys::{self, SocketType, socket_for};
use super::{ToAddrs, context, each_addr, lookup_host, no_address};
use crate::async_io::Async;

/// A UDP socket.
///
/// All clones share the socket, so one task can receive while another one sends.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, net::UdpSocket};
///
/// block_on(async {
///     let here = UdpSocket::bind("127.0.0.1:0").await?;
///     let there = UdpSocket::bind("127.0.0.1:0").await?;
///     here.send_to(b"ahoy", there.local_addr()?).await?;
///     let mut buffer = [0; 1500];
///     let (n, sender) = there.recv_from(&mut buffer).await?;
///     assert_eq!(&buffer[..n], b"ahoy");
///     assert_eq!(sender, here.local_addr()?);
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct UdpSocket {
    io: Arc<Async<sys::UdpSocket>>,
}

socket!(UdpSocket, SocketAddr, sys::UdpSocket);
datagram!(UdpSocket, SocketAddr);

impl UdpSocket {
    /// Creates a socket that receives at an address. Port 0 lets the system choose a port. Of
    /// several addresses, the first that succeeds is used.
    ///
    /// # Errors
    ///
    /// Fails if the port is in use or not permitted. The error names the address.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no socket. It waits only for the lookup of a host name,
    /// as [`lookup_host`](super::lookup_host).
    pub async fn bind(addr: impl ToAddrs) -> io::Result<UdpSocket> {
        each_addr(addr, |addr| {
            bind(&addr).map_err(|error| context("can't bind to", addr, error))
        })
        .await
    }

    /// Connects the socket: [`send`](UdpSocket::send) sends to this address, and only datagrams
    /// from it are received. No packet is sent. Of several addresses, the first that succeeds is
    /// used.
    ///
    /// # Errors
    ///
    /// Fails if there is no route to the address, which the error names.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the socket is unchanged. It waits only for the lookup of a host
    /// name, as [`lookup_host`](super::lookup_host).
    ///
    /// # Examples
    ///
    /// ```
    /// use windlass::{block_on, net::UdpSocket};
    ///
    /// block_on(async {
    ///     let server = UdpSocket::bind("127.0.0.1:0").await?;
    ///     let client = UdpSocket::bind("127.0.0.1:0").await?;
    ///     client.connect(server.local_addr()?).await?;
    ///     client.send(b"ahoy").await?;
    ///     assert_eq!(server.recv(&mut [0; 1500]).await?, 4);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn connect(&self, addr: impl ToAddrs) -> io::Result<()> {
        each_addr(addr, |addr| {
            let connected = sys::connect_datagrams(self.io.get_ref(), addr);
            connected.map_err(|error| context("can't connect to", addr, error))
        })
        .await
    }

    /// Sends a datagram. Of several addresses, the first that succeeds is used.
    ///
    /// # Errors
    ///
    /// Fails if there is no route to the address, which the error names, or if the datagram is too
    /// large.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing was sent.
    pub async fn send_to(&self, buf: &[u8], addr: impl ToAddrs) -> io::Result<usize> {
        let mut last = None;
        for addr in lookup_host(addr).await? {
            match self.io.write_with(|io| sys::send_to(io, buf, addr)).await {
                Ok(sent) => return Ok(sent),
                Err(error) => last = Some(context("can't send to", addr, error)),
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    /// Sends a datagram, without waiting.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the send buffer is full, and fails as
    /// [`send_to`](UdpSocket::send_to) does.
    pub fn try_send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        let sent = self.io.try_write_with(|io| sys::send_to(io, buf, addr));
        sent.map_err(|error| context("can't send to", addr, error))
    }

    /// Waits for a datagram and copies it, without removing it from the queue.
    ///
    /// # Errors
    ///
    /// Fails as [`recv`](UdpSocket::recv) does.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|io| sys::peek_from(io, buf)).await
    }

    /// Returns whether the socket may send broadcasts (`SO_BROADCAST`).
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn broadcast(&self) -> io::Result<bool> {
        sys::broadcast(self.io.get_ref())
    }

    /// Sets whether the socket may send broadcasts.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        sys::set_broadcast(self.io.get_ref(), broadcast)
    }

    /// Returns how many hops a datagram may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        sys::ttl(self.io.get_ref())
    }

    /// Sets how many hops a datagram may take.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        sys::set_ttl(self.io.get_ref(), ttl)
    }

    /// Joins a multicast group on the interface with the address `interface`. With `0.0.0.0` the
    /// system chooses the interface.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Leaves a group that [`join_multicast_v4`](UdpSocket::join_multicast_v4) has joined.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group on the interface with this index. With 0 the system chooses the
    /// interface.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().join_multicast_v6(&group, interface)
    }

    /// Leaves a group that [`join_multicast_v6`](UdpSocket::join_multicast_v6) has joined.
    ///
    /// # Errors
    ///
    /// Returns the errors of the system.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v6(&group, interface)
    }
}

fn bind(addr: &SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket_for(addr, SocketType::DGRAM)?;
    let (socket, ()) = sys::prepare(socket, |socket| sys::bind(socket, addr))?;
    Ok(UdpSocket::new(Async::new_nonlingering(socket.into())?))
}
