//! Options of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use futures_rustls::pki_types::CertificateDer;
use futures_rustls::rustls::ClientConfig;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;

use super::client::{Client, Options, Spawner};
use super::connector::{Connector, has_valid_port};
use super::error::{Error, ErrorKind};
use super::pool::Pool;
use super::tls::{Tls, certificates};
use crate::hyper::Timer;

/// Options of a [`Client`]. [`Client::builder`] has the defaults.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::http::Client;
///
/// # fn main() -> Result<(), windlass::http::Error> {
/// let client = Client::builder()
///     .timeout(Duration::from_secs(20))
///     .header("user-agent", "harbour/1.0")
///     .redirects(3)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "call `build`"]
pub struct Builder {
    connect_timeout: Option<Duration>,
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    pool_idle_timeout: Duration,
    pool_size: usize,
    redirects: usize,
    https_only: bool,
    http2_only: bool,
    headers: HeaderMap,
    proxy: Proxy,
    roots: Vec<CertificateDer<'static>>,
    tls: Option<ClientConfig>,
    /// The first invalid argument.
    error: Option<Error>,
}

enum Proxy {
    Direct,
    Environment,
    All(String),
}

impl Client {
    /// Creates a client with the defaults of [`Builder`].
    pub fn new() -> Client {
        let client = Builder::new().build();
        client.expect("the defaults are valid")
    }

    /// Returns the options of a client, with their defaults.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl Builder {
    fn new() -> Builder {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let name = concat!("windlass/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(name));
        Builder {
            connect_timeout: Some(Duration::from_secs(10)),
            timeout: None,
            idle_timeout: Some(Duration::from_secs(60)),
            pool_idle_timeout: Duration::from_secs(60),
            pool_size: 64,
            redirects: 10,
            https_only: false,
            http2_only: false,
            headers,
            proxy: Proxy::Direct,
            roots: Vec::new(),
            tls: None,
            error: None,
        }
    }

    /// Limits the time of each connection attempt, with the lookup of the name, the proxy and the
    /// TLS handshake. The default is 10 seconds.
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Builder {
        self.connect_timeout = limit.into();
        self
    }

    /// Limits the time of each request, from its start to the end of the response's body, with all
    /// redirects. The default is no limit.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Builder {
        self.timeout = limit.into();
        self
    }

    /// Limits the time without progress. Progress is that the request's body is read, the head of
    /// the response arrives, or more of its body does. The default is 60 seconds.
    ///
    /// A body in memory is read at once, so it has to be sent and answered within this time.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Builder {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets how long an unused connection stays in the pool. The default is 60 seconds.
    pub fn pool_idle_timeout(mut self, limit: Duration) -> Builder {
        self.pool_idle_timeout = limit;
        self
    }

    /// Sets how many unused connections per origin stay in the pool. The default is 64. Connections
    /// in use are not limited. With 0, each request has a connection of its own.
    pub fn pool_size(mut self, connections: usize) -> Builder {
        self.pool_size = connections;
        self
    }

    /// Sets how many redirects a request follows before it fails. The default is 10. With 0, the
    /// response of a redirect is returned as it is.
    pub fn redirects(mut self, limit: usize) -> Builder {
        self.redirects = limit;
        self
    }

    /// Refuses requests and redirects to `http` URIs.
    pub fn https_only(mut self) -> Builder {
        self.https_only = true;
        self
    }

    /// Uses HTTP/2 for all connections, also without TLS, where it can't be negotiated.
    pub fn http2_only(mut self) -> Builder {
        self.http2_only = true;
        self
    }

    /// Sets a header of each request that doesn't have it itself. The defaults are `accept: */*`
    /// and `user-agent: windlass/VERSION`.
    pub fn header<N, V>(mut self, name: N, value: V) -> Builder
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => drop(self.headers.insert(name, value)),
            (Err(_), _) => self.fail(Error::new(ErrorKind::Invalid, "invalid name of a header")),
            (_, Err(_)) => self.fail(Error::new(ErrorKind::Invalid, "invalid value of a header")),
        }
        self
    }

    /// Sends all requests through an HTTP proxy, with its URI such as
    /// `http://user:password@proxy:3128`. Requests to `https` URIs pass through a tunnel
    /// (`CONNECT`).
    pub fn proxy(mut self, uri: &str) -> Builder {
        let parsed = uri.parse::<::http::Uri>();
        let is_http = |uri: &::http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        let is_usable = |uri: &::http::Uri| is_http(uri) && has_valid_port(uri);
        if !parsed.as_ref().is_ok_and(is_usable) {
            let text = "the URI of the proxy must start with http:// or https://, and its port \
                        must be at most 65535";
            self.fail(Error::new(ErrorKind::Invalid, text));
        }
        self.proxy = Proxy::All(uri.to_owned());
        self
    }

    /// Uses the proxies of the environment, as curl does: `http_proxy`, `https_proxy`, `all_proxy`
    /// and `no_proxy`, also in capitals. Without this call the client ignores them.
    pub fn proxy_from_environment(mut self) -> Builder {
        self.proxy = Proxy::Environment;
        self
    }

    /// Trusts the certificates of a PEM file as roots, beside the system's roots.
    pub fn root_certificates(mut self, pem: &[u8]) -> Builder {
        match certificates(pem) {
            Ok(roots) => self.roots.extend(roots),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Uses this TLS configuration, for example with a client certificate. It decides which roots
    /// are trusted. The client sets the protocols (ALPN).
    pub fn tls(mut self, config: ClientConfig) -> Builder {
        self.tls = Some(config);
        self
    }

    /// Creates the client.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Invalid`] if an argument of the builder is invalid.
    pub fn build(self) -> Result<Client, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let proxies = match &self.proxy {
            Proxy::Direct => None,
            Proxy::Environment => Some(Matcher::from_env()),
            Proxy::All(uri) => Some(Matcher::builder().all(uri.as_str()).build()),
        };
        let proxies = proxies.map(Arc::new);
        let connector = Connector {
            tls: Tls::new(self.roots, self.tls),
            proxies: proxies.clone(),
            limit: self.connect_timeout,
            http2_only: self.http2_only,
        };
        let mut pool = legacy::Client::builder(Spawner);
        pool.timer(Timer)
            .pool_timer(Timer)
            .pool_idle_timeout(self.pool_idle_timeout)
            .pool_max_idle_per_host(self.pool_size)
            .http2_only(self.http2_only)
            // A dead connection is found out while requests wait on it.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(20));
        let options = Options {
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            redirects: self.redirects,
            https_only: self.https_only,
            headers: self.headers,
            proxies,
        };
        Ok(Client::with(Pool::new(pool, connector), options))
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and proxies may have secrets.
        f.debug_struct("Builder")
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("redirects", &self.redirects)
            .finish_non_exhaustive()
    }
}
