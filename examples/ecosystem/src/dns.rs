//! Host names by hickory-resolver, on windlass's sockets and timers.
//!
//! `TcpStream::connect` finds addresses by the system's `getaddrinfo`, which blocks a thread. With
//! hickory a lookup takes no thread. [`connect`] then races its addresses as
//! `TcpStream::connect` does.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::io::{AsyncRead, AsyncWrite};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use hickory_resolver::{ConnectionProvider, Resolver};
use windlass::Async;
use windlass::net::TcpStream;
use windlass::time::{sleep, timeout};

/// Connects to a host, with its addresses from the resolver.
pub async fn connect<P: ConnectionProvider>(
    resolver: &Resolver<P>,
    host: &str,
    port: u16,
) -> io::Result<TcpStream> {
    let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
    let addrs: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    TcpStream::connect(&addrs[..]).await
}

/// The runtime of hickory.
#[derive(Clone, Debug, Default)]
pub struct Provider;

impl RuntimeProvider for Provider {
    type Handle = Spawner;
    type Timer = Timer;
    type Udp = Udp;
    type Tcp = Tcp;

    fn create_handle(&self) -> Spawner {
        Spawner
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = io::Result<Tcp>> + Send>> {
        Box::pin(async move {
            let limit = limit.unwrap_or(Duration::from_secs(5));
            let stream = timeout(limit, TcpStream::connect(server)).await??;
            Ok(Tcp(stream))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Udp>> + Send>> {
        let bound = UdpSocket::bind(local).and_then(Async::new);
        let bound = bound.map(Udp);
        Box::pin(std::future::ready(bound))
    }
}

/// Spawns the tasks of hickory.
#[derive(Clone, Debug)]
pub struct Spawner;

impl Spawn for Spawner {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        windlass::spawn(future).detach();
    }
}

/// The time limits of hickory.
#[derive(Debug)]
pub struct Timer;

#[async_trait]
impl Time for Timer {
    async fn delay_for(duration: Duration) {
        sleep(duration).await;
    }

    async fn timeout<F: Future + Send + 'static>(
        limit: Duration,
        future: F,
    ) -> io::Result<F::Output> {
        timeout(limit, future).await.map_err(io::Error::from)
    }
}

/// A UDP socket for queries.
#[derive(Debug)]
pub struct Udp(Async<UdpSocket>);

impl DnsUdpSocket for Udp {
    type Time = Timer;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.0.poll_read_with(cx, |socket| socket.recv_from(buf))
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.0
            .poll_write_with(cx, |socket| socket.send_to(buf, target))
    }
}

/// A TCP connection for large answers.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl DnsTcpStream for Tcp {
    type Time = Timer;
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
