//! A web service on all cores, ready for production. It counts visitors, in Redis if there is one.
//!
//! ```text
//! cargo run --release --example workers                      # or with an address: -- 0.0.0.0:8080
//! curl -i localhost:8080
//! REDIS=127.0.0.1:6379 cargo run --release --example workers    # one count for all workers
//! ```
//!
//! Then, with the PID that it prints: `kill -9` a worker, `kill -HUP` the parent after a new build,
//! `kill -USR1` it for metrics, or press Ctrl-C. The README in this directory explains how to run
//! it under systemd, in Kubernetes, and beside other services.

mod counter;

use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use counter::Counter;
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::TcpStream;
use windlass::time::timeout;
use windlass::workers::Worker;

/// How long a client may be idle.
const IDLE: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let workers = windlass::workers(); // first, because `main` runs in each worker as well
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8080");
    #[cfg(unix)]
    let workers = workers.processes();
    let mut workers = workers.listen(addr)?.drain_limit(Duration::from_secs(10));
    if let Some(count) = env::var("WORKERS")
        .ok()
        .and_then(|count| count.parse().ok())
    {
        workers = workers.count(count);
    }
    #[cfg(unix)]
    if let Some(path) = env::var_os("FIGURES") {
        workers = workers.figures_at(path);
    }
    workers.run(serve)
}

async fn serve(worker: Worker) -> io::Result<()> {
    let counter = Rc::new(Counter::new(env::var("REDIS").ok()));
    if worker.index() == 0 {
        println!("serving on http://{}", worker.listener().local_addr());
    }
    let own = worker.clone();
    let handle = move |stream, _| {
        let (worker, counter) = (own.clone(), counter.clone());
        async move {
            // Clients that are idle for too long, or send malformed requests, are disconnected.
            let _ = converse(worker, counter, stream).await;
        }
    };
    worker.serve(handle).await
}

/// Answers one request after the other. When the worker is stopped, the next response is the last
/// one. Its header announces this, so the client opens a new connection for its next request.
async fn converse(worker: Worker, counter: Rc<Counter>, mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while let Some(path) = timeout(IDLE, read_request(&mut stream, &mut request)).await?? {
        worker.count_request();
        let (status, body) = respond(&worker, &counter, &path).await;
        let closes = worker.stop_token().is_stopped();
        let connection = if closes { "close" } else { "keep-alive" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        let answer = head + &body;
        stream.write_all(answer.as_bytes()).await?;
        if closes {
            break;
        }
    }
    stream.close().await
}

async fn respond(worker: &Worker, counter: &Counter, path: &str) -> (&'static str, String) {
    match path {
        "/" => match counter.add_one().await {
            Ok(count) => (
                "200 OK",
                format!("visitor {count}, at worker {}\n", worker.index()),
            ),
            Err(error) => ("503 Service Unavailable", format!("the counter: {error}\n")),
        },
        // Liveness. This loop is running. If it hung, the parent would replace the worker.
        "/livez" => ("200 OK", "alive\n".into()),
        // Readiness. The service has its dependencies, and the worker is not draining.
        "/readyz" if worker.stop_token().is_stopped() => {
            ("503 Service Unavailable", "ending\n".into())
        }
        "/readyz" => match counter.check().await {
            Ok(()) => ("200 OK", "ready\n".into()),
            Err(error) => ("503 Service Unavailable", format!("the counter: {error}\n")),
        },
        _ => ("404 Not Found", "no such page\n".into()),
    }
}

/// Returns the path of a GET request, or `None` at the end of the connection. Bytes after the
/// request stay in `buffer`.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut chunk = [0; 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(buffer).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let path = request.path.unwrap_or("/").to_owned();
            buffer.drain(..length);
            return Ok(Some(path));
        }
        match stream.read(&mut chunk).await? {
            _ if buffer.len() > 16 * 1024 => return Err(io::ErrorKind::InvalidData.into()),
            0 => return Ok(None),
            n => buffer.extend(&chunk[..n]),
        }
    }
}
