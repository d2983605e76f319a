//! TLS by rustls, with the roots that the system trusts.

use std::io;
use std::sync::{Arc, OnceLock};

use ::http::Uri;
use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, ServerName};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::error::{Error, ErrorKind};
use crate::spawn_blocking;

/// The protocols that a client offers to servers, and to proxies.
pub(super) const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];
pub(super) const HTTP1: [&[u8]; 1] = [b"http/1.1"];
pub(super) const HTTP2: [&[u8]; 1] = [b"h2"];

/// The TLS of a client. Clones share it.
#[derive(Clone)]
pub(super) struct Tls(Arc<Inner>);

struct Inner {
    /// The roots beside the system's.
    roots: Vec<CertificateDer<'static>>,
    /// Set at the first use, unless the program sets it.
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    pub(super) fn new(roots: Vec<CertificateDer<'static>>, config: Option<ClientConfig>) -> Tls {
        let config = config.map(|config| OnceLock::from(Arc::new(config)));
        Tls(Arc::new(Inner {
            roots,
            config: config.unwrap_or_default(),
        }))
    }

    /// Does the handshake with the host of the URI.
    pub(super) async fn connect<S>(
        &self,
        stream: S,
        uri: &Uri,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = uri.host().unwrap_or_default();
        let failed = |error: io::Error| {
            let text = match is_unknown_issuer(&error) {
                true => format!(
                    "the certificate of {host} has an unknown issuer: add it by `root_certificates`"
                ),
                false => format!("the TLS handshake with {host} failed"),
            };
            Error::new(ErrorKind::Tls, text).because(error)
        };
        let mut config = self.config().await?;
        if config.alpn_protocols != protocols {
            let mut other = ClientConfig::clone(&config);
            other.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            config = Arc::new(other);
        }
        let name = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(name).map_err(|error| failed(io::Error::other(error)))?;
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(failed)
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = self.0.config.get() {
            return Ok(config.clone());
        }
        // Some hundred certificates from files take milliseconds.
        let tls = self.clone();
        spawn_blocking(move || {
            let failed = |error: rustls::Error| {
                Error::new(ErrorKind::Tls, "can't set up TLS").because(error)
            };
            let mut roots = system_roots().clone();
            for root in &tls.0.roots {
                roots.add(root.clone()).map_err(failed)?;
            }
            if roots.is_empty() {
                let text = "the system has no root certificates: install them (ca-certificates), \
                            or set SSL_CERT_FILE";
                return Err(Error::new(ErrorKind::Tls, text));
            }
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(failed)?;
            let mut config = config.with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = BOTH.map(Vec::from).to_vec();
            Ok(tls.0.config.get_or_init(|| Arc::new(config)).clone())
        })
        .await
    }
}

/// Reads certificates in PEM.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => {
            let text = "the root certificates have no block `BEGIN CERTIFICATE`";
            Err(Error::new(ErrorKind::Invalid, text))
        }
        Err(error) => {
            let text = "can't read the root certificates as PEM";
            Err(Error::new(ErrorKind::Invalid, text).because(error))
        }
    }
}

/// Returns the roots that the system trusts, which stay in memory once they are read.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get().unwrap_or_else(|| {
        // Before the lock is taken, so that a fork hardly ever finds it held. Files that can't be
        // read, and certificates that rustls rejects, are left out.
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ROOTS.get_or_init(|| roots)
    })
}

fn is_unknown_issuer(error: &io::Error) -> bool {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(
        cause,
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::UnknownIssuer
        ))
    )
}
