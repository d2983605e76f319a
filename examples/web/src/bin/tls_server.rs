//! An HTTPS server, HTTP/1.1 and HTTP/2, that sends back what is posted to it.
//!
//! ```text
//! cargo run -p windlass-web --bin tls_server     # -- 0.0.0.0:7443 fullchain.pem privkey.pem
//! curl -k https://localhost:7443/ -d ahoy        # in a second terminal
//! openssl s_client -connect localhost:7443       # then: GET / HTTP/1.1, Host: x, an empty line
//! ```
//!
//! Without files it makes a certificate for `localhost`, which nobody trusts. Ctrl-C: no more
//! connections, requests that have begun are answered.

use std::convert::Infallible;
use std::env;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use windlass::hyper::{Executor, Io, Timer};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::StopToken;
use windlass::time::timeout;
use windlass_web::server::serve;
use windlass_web::stop_at_signals;
use windlass_web::tls::{Acceptor, Identity};

/// The longest that is sent back, in bytes.
const BODY: usize = 1 << 20;

/// How long a client may take to send a header; and, of HTTP/2, to answer a ping.
const HEADER: Duration = Duration::from_secs(10);

/// How long a connection may last, whatever its client does.
const LIFE: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let addr = args.first().map_or("127.0.0.1:7443", |addr| addr);
    let identity = match &args[..] {
        [_, chain, key] => Identity::read(Path::new(chain), Path::new(key))?,
        _ => Identity::self_signed()?,
    };
    let acceptor = Rc::new(Acceptor::new(identity, &["h2", "http/1.1"])?);
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("serving on https://{}", listener.local_addr()?);
        serve(listener, &stop, |stream| {
            let (acceptor, stop) = (acceptor.clone(), stop.clone());
            async move {
                match timeout(LIFE, converse(stream, &acceptor, &stop)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => eprintln!("{error}"),
                    Err(_) => eprintln!("a connection has lasted too long"),
                }
            }
        })
        .await
    })
}

async fn converse(stream: TcpStream, tls: &Acceptor, stop: &StopToken) -> Result<(), BoxError> {
    let stream = tls.accept(stream).await?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (io, service) = (Io::new(stream), service_fn(answer));
    if is_h2 {
        let mut http = http2::Builder::new(Executor);
        http.timer(Timer)
            .keep_alive_interval(HEADER)
            .keep_alive_timeout(HEADER);
        let connection = http.serve_connection(io, service);
        until_stopped(connection, stop, |connection| {
            connection.graceful_shutdown()
        })
        .await?;
    } else {
        let mut http = http1::Builder::new();
        http.timer(Timer)
            .header_read_timeout(HEADER)
            .max_buf_size(64 * 1024);
        let connection = http.serve_connection(io, service);
        until_stopped(connection, stop, |connection| {
            connection.graceful_shutdown()
        })
        .await?;
    }
    Ok(())
}

/// Tells the connection when it's time to end, and waits for its end.
async fn until_stopped<C: Future>(
    connection: C,
    stop: &StopToken,
    end: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    let mut connection = std::pin::pin!(connection);
    let (mut stopped, mut end) = (stop.stopped(), Some(end));
    poll_fn(|cx| {
        if end.is_some() && Pin::new(&mut stopped).poll(cx).is_ready() {
            if let Some(end) = end.take() {
                end(connection.as_mut());
            }
        }
        connection.as_mut().poll(cx)
    })
    .await
}

type Body = Either<Limited<Incoming>, Full<Bytes>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = match *request.method() {
        Method::POST => Either::Left(Limited::new(request.into_body(), BODY)),
        _ => Either::Right(Full::from(format!("ahoy over {:?}\n", request.version()))),
    };
    Ok(Response::new(body))
}
