//! An HTTPS server, HTTP/1.1 and HTTP/2, that echoes the bodies of POST requests.
//!
//! ```text
//! cargo run -p windlass-web --bin tls_server     # -- 0.0.0.0:7443 fullchain.pem privkey.pem
//! curl -k https://localhost:7443/ -d ahoy        # in a second terminal
//! openssl s_client -connect localhost:7443       # then: GET / HTTP/1.1, Host: x, an empty line
//! ```
//!
//! Without files it creates a self-signed certificate for `localhost`. Ctrl-C starts a graceful
//! shutdown.

use std::convert::Infallible;
use std::env;
use std::io;
use std::path::Path;
use std::rc::Rc;

use http_body_util::{Either, Full, Limited};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use windlass::net::TcpListener;
use windlass_web::http::{self, Http};
use windlass_web::server::{Limits, serve};
use windlass_web::tls::{self, Acceptor, Identity};
use windlass_web::{Upload, stop_at_signals};

/// Maximum length of an echoed body in bytes.
const BODY: usize = 1 << 20;

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let addr = args.first().map_or("127.0.0.1:7443", |addr| addr);
    let identity = match &args[..] {
        [_, chain, key] => Identity::read(Path::new(chain), Path::new(key))?,
        _ => Identity::self_signed()?,
    };
    let acceptor = Rc::new(Acceptor::new(identity, &["h2", "http/1.1"])?);
    let http = Http::new(http::Limits::default());
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("serving on https://{}", listener.local_addr()?);
        let cut_off = serve(listener, &stop, Limits::default(), |stream| {
            let (acceptor, http, stop) = (acceptor.clone(), http.clone(), stop.clone());
            async move {
                match acceptor.accept(stream).await {
                    Ok(stream) => http.serve(stream, stop, service_fn(answer)).await,
                    Err(error) => tls::report(&error),
                }
            }
        })
        .await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}

type Body = Either<Limited<Upload>, Full<Bytes>>;

async fn answer(request: Request<Upload>) -> Result<Response<Body>, Infallible> {
    let body = match *request.method() {
        Method::POST => Either::Left(Limited::new(request.into_body(), BODY)),
        _ => Either::Right(Full::from(match request.version() {
            Version::HTTP_2 => "ahoy over HTTP/2.0\n",
            Version::HTTP_10 => "ahoy over HTTP/1.0\n",
            _ => "ahoy over HTTP/1.1\n",
        })),
    };
    Ok(Response::new(body))
}
