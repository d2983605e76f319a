//! Connections for hyper-util's pool: TCP, proxies, TLS.

use std::error::Error as StdError;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Uri;
use ::http::uri::{PathAndQuery, Scheme};
use ::hyper::rt;
use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::client::TlsStream;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection as PoolConnection};
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use super::error::{Error, ErrorKind};
use super::tls::{BOTH, HTTP1, HTTP2, Tls};
use crate::hyper::Io;
use crate::net::TcpStream;
use crate::time::timeout;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Connects to the origin of a URI.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tls: Tls,
    pub(super) proxies: Option<Arc<Matcher>>,
    pub(super) limit: Option<Duration>,
    /// HTTP/2 without ALPN.
    pub(super) http2_only: bool,
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = Error;
    type Future = Connecting<Connection>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting<Connection> {
        let connector = self.clone();
        Box::pin(async move {
            let Some(limit) = connector.limit else {
                return connector.connect(uri).await;
            };
            match timeout(limit, connector.connect(uri)).await {
                Ok(connected) => connected,
                Err(_) => {
                    let text = format!("can't connect within the {limit:?} of `connect_timeout`");
                    Err(Error::new(ErrorKind::Timeout, text))
                }
            }
        })
    }
}

impl Connector {
    async fn connect(&self, uri: Uri) -> Result<Connection, Error> {
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let proxy = self
            .proxies
            .as_ref()
            .and_then(|proxies| proxies.intercept(&uri));
        let Some(proxy) = proxy else {
            let stream = Stream::Tcp(connect_tcp(&uri, "").await?);
            return match is_https {
                true => self.connect_tls(stream, &uri).await,
                false => Ok(Connection::new(stream)),
            };
        };
        let to_proxy = ToProxy {
            tls: self.tls.clone(),
        };
        if !is_https {
            // The pool then sends requests with absolute URIs.
            let mut connection = to_proxy.connect(proxy.uri().clone()).await?;
            connection.is_proxied = true;
            return Ok(connection);
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        let tunnelled = tunnel.call(with_port(&uri, "443")).await.map_err(|error| {
            // The proxy's own connection failed.
            let ours = error
                .source()
                .and_then(|source| source.downcast_ref::<Error>());
            ours.map(Error::copy).unwrap_or_else(|| {
                let text = format!("the proxy {} opens no tunnel", proxy.uri());
                Error::new(ErrorKind::Connect, text).because(error)
            })
        })?;
        self.connect_tls(tunnelled.into_inner(), &uri).await
    }

    async fn connect_tls(&self, stream: Stream, uri: &Uri) -> Result<Connection, Error> {
        let protocols: &[&[u8]] = if self.http2_only { &HTTP2 } else { &BOTH };
        let stream = self.tls.connect(stream, uri, protocols).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let mut connection = Connection::new(Stream::Tls(Box::new(stream)));
        connection.is_http2 = is_http2;
        Ok(connection)
    }
}

/// Connects to a proxy, with an `http` or `https` URI.
#[derive(Clone)]
struct ToProxy {
    tls: Tls,
}

impl ToProxy {
    async fn connect(&self, proxy: Uri) -> Result<Connection, Error> {
        match proxy.scheme_str() {
            Some("http") => {
                let stream =
                    Stream::Tcp(connect_tcp(&proxy, "no connection to the proxy: ").await?);
                Ok(Connection::new(stream))
            }
            Some("https") => {
                let stream =
                    Stream::Tcp(connect_tcp(&proxy, "no connection to the proxy: ").await?);
                let stream = self.tls.connect(stream, &proxy, &HTTP1).await?;
                Ok(Connection::new(Stream::Tls(Box::new(stream))))
            }
            _ => {
                let text = format!("can't use the proxy {proxy}: use an HTTP proxy");
                Err(Error::new(ErrorKind::Invalid, text))
            }
        }
    }
}

impl Service<Uri> for ToProxy {
    type Response = Connection;
    type Error = Error;
    type Future = Connecting<Connection>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting<Connection> {
        let to_proxy = self.clone();
        Box::pin(async move { to_proxy.connect(uri).await })
    }
}

/// Connects to the host of a URI. The errors of `TcpStream` name the address.
async fn connect_tcp(uri: &Uri, whose: &str) -> Result<TcpStream, Error> {
    let default = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let host = uri.host().unwrap_or_default();
    // The address of an IPv6 host has brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(default);
    let failed =
        |error: io::Error| Error::new(ErrorKind::Connect, format!("{whose}{error}")).because(error);
    TcpStream::connect((host, port)).await.map_err(failed)
}

/// Returns whether the port is absent, empty or a number of 16 bits. `Uri` takes any number, and
/// has no port then.
pub(super) fn has_valid_port(uri: &Uri) -> bool {
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
        return true;
    };
    let all = authority.as_str();
    let address = all.rsplit_once('@').map_or(all, |(_, address)| address);
    address.len() <= host.len() + ":".len() || uri.port_u16().is_some()
}

/// Returns the URI with a port, which the pool's key leaves out.
fn with_port(uri: &Uri, port: &str) -> Uri {
    if uri.port().is_some() {
        return uri.clone();
    }
    let authority = format!("{}:{port}", uri.host().unwrap_or_default());
    let mut parts = uri.clone().into_parts();
    parts.authority = authority.parse().ok();
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// A connection of the pool.
pub(super) struct Connection {
    io: Io<Stream>,
    is_http2: bool,
    is_proxied: bool,
    used: Used,
}

/// Whether a connection has had a response.
#[derive(Clone, Default)]
pub(super) struct Used(Arc<AtomicBool>);

impl Used {
    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

impl Connection {
    fn new(stream: Stream) -> Connection {
        Connection {
            io: Io::new(stream).vectored(),
            is_http2: false,
            is_proxied: false,
            used: Used::default(),
        }
    }

    fn into_inner(self) -> Stream {
        self.io.into_inner()
    }
}

impl PoolConnection for Connection {
    fn connected(&self) -> Connected {
        let connected = Connected::new()
            .proxy(self.is_proxied)
            .extra(self.used.clone());
        match self.is_http2 {
            true => connected.negotiated_h2(),
            false => connected,
        }
    }
}

impl rt::Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl rt::Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// TCP, or TLS on top of another stream.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Stream>>),
}

/// Calls a method of the stream.
macro_rules! forward {
    ($self:ident, $method:ident, $($argument:ident),*) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write_vectored, cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_close, cx)
    }
}
