//! UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use super::datagram::datagram;
use super::socket::socket;
use super::sys::{self, SocketType, socket_for};
use super::{ToAddrs, context, each_addr};
use crate::async_io::Async;

/// A UDP socket.
///
/// A clone is the same socket: give one to the task that receives and one to the task that sends.
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
    io: Rc<Async<sys::UdpSocket>>,
}

socket!(UdpSocket, SocketAddr, sys::UdpSocket);
datagram!(UdpSocket, SocketAddr);

impl UdpSocket {
    /// Takes an address to receive at; port 0 lets the system choose one. Of several addresses the
    /// first that can be had.
    ///
    /// # Errors
    ///
    /// If the port is in use, or not permitted: the address is in the text.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, there is no socket. It waits for nothing but a host name, as
    /// [`lookup_host`](super::lookup_host).
    pub async fn bind(addr: impl ToAddrs) -> io::Result<UdpSocket> {
        each_addr(addr, async |addr| {
            bind(&addr).map_err(|error| context("can't bind to", addr, error))
        })
        .await
    }

    /// Chooses the address for [`send`](UdpSocket::send), from which alone datagrams are received
    /// from now on. Nothing is sent. Of several addresses the first that can be had.
    ///
    /// # Errors
    ///
    /// If there's no way to it: the address is in the text.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the socket is as it was. It waits for nothing but a host name,
    /// as [`lookup_host`](super::lookup_host).
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
        each_addr(addr, async |addr| {
            let connected = self.io.get_ref().connect(addr);
            connected.map_err(|error| context("can't connect to", addr, error))
        })
        .await
    }

    /// Sends a datagram. Of several addresses the first that it can be sent to.
    ///
    /// # Errors
    ///
    /// If there's no way to the address, which is in the text, or the datagram is too large.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing was sent.
    pub async fn send_to(&self, buf: &[u8], addr: impl ToAddrs) -> io::Result<usize> {
        each_addr(addr, async |addr| {
            let sent = self.io.write_with(|io| io.send_to(buf, addr)).await;
            sent.map_err(|error| context("can't send to", addr, error))
        })
        .await
    }

    /// Sends a datagram, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room, and as [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        let sent = self.io.try_write_with(|io| io.send_to(buf, addr));
        sent.map_err(|error| context("can't send to", addr, error))
    }

    /// Waits for a datagram and copies it, but leaves it to be received.
    ///
    /// # Errors
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|io| io.peek_from(buf)).await
    }

    /// Whether datagrams may be sent to all in a network (`SO_BROADCAST`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get_ref().broadcast()
    }

    /// Permits sending datagrams to all in a network.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.io.get_ref().set_broadcast(broadcast)
    }

    /// How many hops a datagram may take (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets how many hops a datagram may take.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(ttl)
    }

    /// Receives what is sent to a group, by the interface that has the address `interface`; the
    /// system chooses one if that is `0.0.0.0`.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Ends what [`join_multicast_v4`](UdpSocket::join_multicast_v4) began.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Receives what is sent to a group, by the interface of that number; the system chooses one
    /// if that is 0.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().join_multicast_v6(&group, interface)
    }

    /// Ends what [`join_multicast_v6`](UdpSocket::join_multicast_v6) began.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v6(&group, interface)
    }
}

fn bind(addr: &SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket_for(addr, SocketType::DGRAM)?;
    sys::bind(&socket, addr)?;
    Ok(UdpSocket::new(Async::new_nonlingering(socket.into())?))
}
