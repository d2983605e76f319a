//! HTTPS by hyper on tokio and tokio-rustls, for a comparison with `tls_server`. The part
//! `services` of the benchmarks starts it.
//!
//! ```text
//! cargo run --release -p windlass-web --example tls_tokio -- 127.0.0.1:7444 chain.pem key.pem
//! ```

use std::convert::Infallible;
use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use windlass_web::tls::{Identity, LIMIT};

const HEAD_TIME: Duration = Duration::from_secs(15);

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, addr, chain, key] = &args[..] else {
        bail!("ADDRESS CHAIN KEY");
    };
    let identity = Identity::read(Path::new(chain), Path::new(key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()?
        .block_on(serve(addr, acceptor))
}

async fn serve(addr: &str, acceptor: TlsAcceptor) -> Result<()> {
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(Ok(stream)) = timeout(LIMIT, acceptor.accept(stream)).await else {
                return;
            };
            let answer = service_fn(|_| async {
                let body = Full::<Bytes>::from("ahoy over HTTP/1.1\n");
                Ok::<_, Infallible>(Response::new(body))
            });
            let mut builder = http1::Builder::new();
            let builder = builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME);
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
