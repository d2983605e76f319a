//! hyper in a simulated world, by the same adapters as on the real system.

#![cfg(all(
    feature = "hyper",
    feature = "sim",
    target_os = "linux",
    not(windlass_portable)
))]

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use windlass::hyper::{Io, Timer};
use windlass::net::{TcpListener, TcpStream};
use windlass::sim::{self, World};
use windlass::time::{sleep, timeout};
use windlass::{Runtime, spawn};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Returns the path of each request in capitals.
async fn shout(request: Request<Incoming>) -> std::result::Result<Response<String>, Infallible> {
    Ok(Response::new(request.uri().path().to_uppercase()))
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(Timer)
            .header_read_timeout(Duration::from_secs(10))
            .auto_date_header(false); // it is the real date
        let connection = server.serve_connection(Io::new(stream), service_fn(shout));
        spawn(async { drop(connection.await) }).detach();
    }
}

/// Makes three requests on one connection.
async fn request() -> Result<()> {
    let stream = TcpStream::connect("server:80").await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io::new(stream)).await?;
    let connection = spawn(async { drop(connection.await) });
    for path in ["/a", "/bc", "/def"] {
        let mut request = Request::new(String::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse()?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), 200);
        let length = response.headers()["content-length"].to_str()?.to_owned();
        assert_eq!(length, path.len().to_string());
        let body = windlass_body(response).await?;
        assert_eq!(body, path.to_uppercase());
    }
    drop(sender);
    connection.await;
    Ok(())
}

async fn windlass_body(response: Response<Incoming>) -> Result<String> {
    use hyper::body::Body;
    let (mut body, mut text) = (std::pin::pin!(response.into_body()), Vec::new());
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        text.extend_from_slice(frame?.data_ref().map_or(&[], |data| &data[..]));
    }
    Ok(String::from_utf8(text)?)
}

fn add_hosts(world: &World) {
    world.host("server", serve);
    world.host("client", || async {
        for _ in 0..100 {
            match timeout(Duration::from_secs(60), request()).await {
                Ok(Ok(())) => return,
                Ok(Err(_)) | Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
        panic!("no request has succeeded");
    });
}

#[test]
fn requests_get_their_responses_in_all_worlds() {
    sim::check(0..100, add_hosts);
}

#[test]
fn a_client_reconnects_after_a_crash_of_the_server() {
    sim::check(0..50, |world| {
        let server = world.host("server", serve);
        world.host("client", || async {
            for _ in 0..100 {
                let _ = timeout(Duration::from_secs(5), request()).await;
                sleep(Duration::from_secs(1)).await;
            }
            request().await
        });
        let at = Duration::from_millis(world.choose(20_000).into());
        server.crash_at(at);
        server.restart_at(at + Duration::from_secs(3));
    });
}

#[test]
fn a_silent_client_is_disconnected_in_virtual_time() {
    let world = World::new(0);
    world.host("server", serve);
    world.host("client", || async {
        use futures::AsyncReadExt;
        let mut stream = TcpStream::connect("server:80").await?;
        let start = windlass::time::now();
        let read = stream.read_to_end(&mut Vec::new()).await;
        assert!(read.is_ok());
        let seconds = (windlass::time::now() - start).as_secs();
        assert!((9..12).contains(&seconds), "{seconds} s");
        std::io::Result::Ok(())
    });
    world.run().unwrap();
    drop(Runtime::new().unwrap()); // the real system is there again
}
