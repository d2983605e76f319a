//! Files over HTTP/1.1 by hyper and `tokio::fs`, for a comparison with `http_files` and
//! `http_server`. It has no ranges. The part `services` of the benchmarks starts it.
//!
//! ```text
//! cargo run --release -p windlass-web --example files_tokio -- . 127.0.0.1:8083
//! ```

use std::env;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// The limits of `http_server`.
const CHUNK_BYTES: u64 = 256 * 1024;
const HEAD_TIME: Duration = Duration::from_secs(15);

type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, folder, addr] = &args[..] else {
        bail!("FOLDER ADDRESS");
    };
    let folder: Arc<Path> = PathBuf::from(folder).canonicalize()?.into();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(serve(addr, folder))
}

async fn serve(addr: &str, folder: Arc<Path>) -> Result<()> {
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let folder = folder.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(folder.clone(), request));
            let mut builder = http1::Builder::new();
            let builder = builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME);
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(folder: Arc<Path>, request: Request<Incoming>) -> io::Result<Response<AnyBody>> {
    Ok(send(&folder, request.uri().path())
        .await
        .unwrap_or_else(|_| {
            let body: AnyBody = Box::pin(Full::default().map_err(|never| match never {}));
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }))
}

async fn send(folder: &Path, path: &str) -> io::Result<Response<AnyBody>> {
    let path = Path::new(path.trim_start_matches('/'));
    if !path
        .components()
        .all(|it| matches!(it, Component::Normal(_)))
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = tokio::fs::canonicalize(folder.join(path)).await?;
    if !path.starts_with(folder) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path).await?;
    let length = file.metadata().await?.len();
    let chunks = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.min(left) as usize);
        let read = file.read_buf(&mut chunk).await? as u64;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left.saturating_sub(read);
        Ok(Some((Frame::data(chunk.freeze()), (file, left))))
    });
    let body: AnyBody = Box::pin(StreamBody::new(chunks));
    let response = Response::builder().header(CONTENT_LENGTH, length);
    response.body(body).map_err(io::Error::other)
}
