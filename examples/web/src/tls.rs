//! TLS certificates, and handshakes with limited cost for the server.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use futures_rustls::server::TlsStream;
use futures_rustls::{TlsAcceptor, TlsConnector};
use windlass::time::timeout;

/// Time limit of a handshake.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The identity of a server. The chain is its certificate, followed by the certificates of the
/// issuers.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads two PEM files, such as certbot's `fullchain.pem` and `privkey.pem`.
    pub fn read(chain: &Path, key: &Path) -> io::Result<Identity> {
        let certificates = CertificateDer::pem_file_iter(chain).map_err(invalid)?;
        let chain = certificates.collect::<Result<_, _>>().map_err(invalid)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(invalid)?;
        Ok(Identity { chain, key })
    }

    /// Creates a self-signed certificate for tests. No client trusts it.
    pub fn self_signed() -> io::Result<Identity> {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).map_err(invalid)?;
        let chain = vec![made.cert.der().clone()];
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(invalid)?;
        Ok(Identity { chain, key })
    }
}

/// Accepts TLS connections of clients.
pub struct Acceptor {
    acceptor: TlsAcceptor,
    limit: Duration,
}

impl Acceptor {
    /// Chooses the first of these protocols (ALPN names) that the client supports.
    pub fn new(identity: Identity, protocols: &[&str]) -> io::Result<Acceptor> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                let config = config.with_no_client_auth();
                config.with_single_cert(identity.chain, identity.key)
            });
        let mut config = config.map_err(invalid)?;
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Acceptor {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            limit: LIMIT,
        })
    }

    /// Sets another limit than [`LIMIT`].
    pub fn with_limit(self, limit: Duration) -> Acceptor {
        Acceptor { limit, ..self }
    }

    /// Performs the handshake. There is no queue, so a client that stops midway delays no others,
    /// and is disconnected at the time limit. The server limits the number of concurrent handshakes
    /// together with its connections. See [`server::Limits`](crate::server::Limits).
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout(self.limit, self.acceptor.accept(stream)).await?
    }
}

/// Prints why a handshake has failed, unless the client has disconnected. Clients do that at any
/// time, and each line costs the server several system calls.
pub fn report(error: &io::Error) {
    let has_disconnected = matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::UnexpectedEof
    );
    if !has_disconnected {
        eprintln!("no handshake: {error}");
    }
}

/// Opens TLS connections to servers with a certificate issued by one of `roots`.
pub fn connector(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
    protocols: &[&str],
) -> io::Result<TlsConnector> {
    let mut trusted = RootCertStore::empty();
    for root in roots {
        trusted.add(root).map_err(invalid)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(invalid)?;
    let mut config = config.with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, error.to_string())
}
