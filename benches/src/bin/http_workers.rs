//! A small HTTP server on several workers, of windlass or of tokio. `benches/workers.py` starts it.
//!
//! ```text
//! http_workers processes|each|threads|tokio ADDRESS WORKERS
//! ```

use std::env;
use std::io;

use anyhow::{Result, bail};
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nahoy!\n";

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, kind, addr, count] = &args[..] else {
        bail!("processes|each|threads|tokio ADDRESS WORKERS");
    };
    let workers = windlass::workers().count(count.parse()?);
    let workers = match kind.as_str() {
        "processes" => workers.processes().listen(addr.as_str())?,
        "each" => workers.processes().listen_per_worker(addr.as_str())?,
        "threads" => workers.threads().listen(addr.as_str())?,
        "tokio" => return Ok(serve_by_tokio(addr, count.parse()?)?),
        other => bail!("no such kind: {other}"),
    };
    workers.run(|worker| async move {
        let serve = |stream, _| async move {
            let _ = serve(stream).await; // clients may disconnect at any time
        };
        worker.serve(serve).await
    })?;
    Ok(())
}

/// As its docs recommend, not on the main thread, because that is not a worker.
fn serve_by_tokio(addr: &str, count: usize) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(count).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(addr).await?;
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve_tokio(stream))),
                    Err(error) => return error,
                }
            }
        });
        Err(accepting.await?)
    })
}

async fn serve(mut stream: windlass::net::TcpStream) -> io::Result<()> {
    let (mut input, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        match AsyncReadExt::read(&mut stream, &mut chunk).await? {
            0 => return Ok(()),
            count => input.extend(&chunk[..count]),
        }
        while is_asked(&mut input)? {
            AsyncWriteExt::write_all(&mut stream, ANSWER).await?;
        }
    }
}

async fn serve_tokio(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let (mut input, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            count => input.extend(&chunk[..count]),
        }
        while is_asked(&mut input)? {
            stream.write_all(ANSWER).await?;
        }
    }
}

/// Removes a complete request from the input, if there is one.
fn is_asked(input: &mut Vec<u8>) -> io::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(input).map_err(io::Error::other)?;
    if let httparse::Status::Complete(length) = parsed {
        input.drain(..length);
    }
    Ok(parsed.is_complete())
}
