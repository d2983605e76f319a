//! An HTTP client, by hyper, that prints the content of a URL and follows redirects.
//!
//! ```text
//! cargo run --release -p windlass-web --bin http_client -- http://localhost:8081/Cargo.toml
//! ```
//!
//! Decodes chunked and gzip-compressed responses. Keeps no connections, and has no TLS.

use std::env;
use std::io;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_compression::futures::bufread::GzipDecoder;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::io::{AllowStdIo, AsyncBufRead, BufReader, copy};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION, TRANSFER_ENCODING};
use hyper::{Request, Response};
use url::{Position, Url};
use windlass::hyper::Io;
use windlass::net::TcpStream;
use windlass::time::timeout;

const MOST_REDIRECTS: usize = 10;
/// Time limit for a server's response head, including the connect.
const HEAD_TIME: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    let url = env::args().nth(1).context("a URL is missing")?;
    let url = Url::parse(&url).with_context(|| url)?;
    windlass::block_on(async {
        let (url, response) = follow(url).await?;
        eprintln!("{url}: {:?} {}", response.version(), response.status());
        for name in [TRANSFER_ENCODING, CONTENT_ENCODING] {
            for value in response.headers().get_all(&name) {
                eprintln!("{name}: {}", value.to_str()?);
            }
        }
        ensure!(response.status().is_success(), "{}", response.status());
        // Blocking writes are fine here, because this client has nothing else to do.
        copy(read(response), &mut AllowStdIo::new(io::stdout())).await?;
        Ok(())
    })
}

/// Sends requests until the response is not a redirect.
async fn follow(mut url: Url) -> anyhow::Result<(Url, Response<Incoming>)> {
    for _ in 0..=MOST_REDIRECTS {
        let response = timeout(HEAD_TIME, ask(&url))
            .await?
            .with_context(|| url.to_string())?;
        let elsewhere = response.headers().get(LOCATION);
        let Some(elsewhere) = elsewhere.filter(|_| response.status().is_redirection()) else {
            return Ok((url, response));
        };
        url = url.join(elsewhere.to_str()?)?;
    }
    bail!("more than {MOST_REDIRECTS} redirects")
}

async fn ask(url: &Url) -> anyhow::Result<Response<Incoming>> {
    ensure!(
        url.scheme() == "http",
        "{}: only http is spoken here",
        url.scheme()
    );
    let host = url.host_str().context("the URL has no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    let host = host.trim_matches(['[', ']']); // the brackets of an IPv6 address
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(Io::new(stream)).await?;
    // Lives until the response was read or dropped, and reports errors through it.
    windlass::spawn(connection).detach();
    let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(ACCEPT_ENCODING, "gzip")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

/// The decoded body.
fn read(response: Response<Incoming>) -> Box<dyn AsyncBufRead + Unpin> {
    let encoding = response.headers().get(CONTENT_ENCODING);
    let is_compressed = encoding.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"gzip"));
    let chunks = response.into_body().into_data_stream();
    let body = chunks.map_err(io::Error::other).into_async_read();
    if is_compressed {
        Box::new(BufReader::new(GzipDecoder::new(body)))
    } else {
        Box::new(body)
    }
}
