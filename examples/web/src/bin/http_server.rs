//! An HTTP/1.1 and HTTP/2 server for the files of a directory, by hyper, with ranges.
//!
//! ```text
//! cargo run --release -p windlass-web --bin http_server -- .     # an address may follow
//! curl -i localhost:8081/Cargo.toml                              # in a second terminal
//! curl -r 0-99 --http2-prior-knowledge localhost:8081/Cargo.toml
//! curl -T big.iso localhost:8081/sha256                          # its checksum
//! ```
//!
//! Ctrl-C or SIGTERM starts a graceful shutdown, which finishes the requests that have begun. The
//! time and memory that clients may use are set by two `Limits`, of the server and of HTTP.
//!
//! hyper answers `Expect: 100-continue` when a handler reads the body, and keeps connections open.
//! Handlers run on the event loop. Files are read by io_uring, or by threads where that is missing.

use std::env;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use windlass::fs::{self, File};
use windlass::net::TcpListener;
use windlass_web::http::{self, Http};
use windlass_web::server::{Limits, serve};
use windlass_web::{Upload, stop_at_signals};

/// Bytes of a file in memory per request.
const CHUNK_BYTES: u64 = 256 * 1024;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| ".".to_owned());
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let folder: Rc<Path> = PathBuf::from(folder).canonicalize()?.into();
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("serving {} on {}", folder.display(), listener.local_addr()?);
        let http = Http::new(http::Limits::default());
        let cut_off = serve(listener, &stop, Limits::default(), |stream| {
            let folder = folder.clone();
            let service = service_fn(move |request| answer(folder.clone(), request));
            http.clone().serve(stream, stop.clone(), service)
        })
        .await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}

type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = io::Error>>>;

async fn answer(folder: Rc<Path>, request: Request<Upload>) -> io::Result<Response<AnyBody>> {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::POST | &Method::PUT, "/sha256") => checksum(request.into_body()).await,
        (&Method::GET | &Method::HEAD, "/") => Ok(text(StatusCode::OK, "ahoy\n")),
        (&Method::GET | &Method::HEAD, path) => send_file(&folder, path, request.headers()).await,
        _ => Ok(text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET, HEAD, or POST to /sha256\n",
        )),
    };
    Ok(answered.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => text(StatusCode::NOT_FOUND, "not found\n"),
        io::ErrorKind::TimedOut => text(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
        io::ErrorKind::PermissionDenied => text(StatusCode::FORBIDDEN, "forbidden\n"),
        _ => text(StatusCode::INTERNAL_SERVER_ERROR, "that can't be read\n"),
    }))
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<AnyBody> {
    let body: AnyBody = Box::pin(Full::new(text.into()).map_err(|never| match never {}));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Computes the checksum of the request's body. Reads only as fast as it computes, so the rest
/// waits at the client (backpressure).
async fn checksum(body: Upload) -> io::Result<Response<AnyBody>> {
    let (mut sum, mut length) = (Sha256::new(), 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.try_next().await? {
        sum.update(&chunk);
        length += chunk.len();
    }
    let line = format!("{:x}  {length} bytes\n", sum.finalize());
    Ok(text(StatusCode::OK, line))
}

async fn send_file(folder: &Path, path: &str, asked: &HeaderMap) -> io::Result<Response<AnyBody>> {
    let (file, length) = open(folder, &below(path)?).await?;
    let (status, range) = match wanted(asked, length) {
        Wanted::All => (StatusCode::OK, 0..length),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, *part.start()..part.end() + 1),
        Wanted::Impossible => {
            let mut refusal = text(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "there is no such range\n",
            );
            let size = number(format!("bytes */{length}"));
            refusal.headers_mut().insert(header::CONTENT_RANGE, size);
            return Ok(refusal);
        }
    };
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, mime.as_ref())
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, range.end - range.start);
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        response = response.header(header::CONTENT_RANGE, part);
    }
    let chunks = stream::try_unfold(range, move |mut left| {
        let file = file.clone();
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            let wanted = CHUNK_BYTES.min(left.end - left.start);
            let chunk = read_chunk(&file, left.start, wanted as usize).await?;
            left.start += chunk.len() as u64;
            Ok(Some((Frame::data(chunk), left)))
        }
    });
    let body: AnyBody = Box::pin(StreamBody::new(chunks));
    response.body(body).map_err(io::Error::other)
}

/// Numbers and the text around them are valid in a header.
fn number(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and signs only")
}

/// Returns the path below the directory for a request's target.
fn below(target: &str) -> io::Result<PathBuf> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let target = percent_decode_str(target)
        .decode_utf8()
        .map_err(|_| not_found())?;
    let path = Path::new(target.trim_start_matches('/'));
    let is_below = path
        .components()
        .all(|it| matches!(it, Component::Normal(_)));
    (is_below && !target.contains('\0'))
        .then(|| path.to_owned())
        .ok_or_else(not_found)
}

/// Opens a file of the directory. Rejects paths outside of it through links, and pipes, which would
/// block.
async fn open(folder: &Path, path: &Path) -> io::Result<(Rc<File>, u64)> {
    let path = fs::canonicalize(folder.join(path)).await?;
    if !path.starts_with(folder) || !fs::metadata(&path).await?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path).await?;
    let length = file.metadata().await?.len();
    Ok((Rc::new(file), length))
}

/// Reads up to `length` bytes.
async fn read_chunk(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    let (read, chunk) = file.read_buf_at(Vec::with_capacity(length), start).await;
    match read? {
        0 => Err(io::Error::other("the file was cut off while it was sent")),
        _ => Ok(chunk.into()),
    }
}

enum Wanted {
    All,
    Part(RangeInclusive<u64>),
    Impossible,
}

/// Several ranges, and malformed ones, may be answered with the whole file (RFC 9110, 14.2).
/// `If-Range` names a version of the file. This server has no versions, so none matches.
fn wanted(asked: &HeaderMap, length: u64) -> Wanted {
    let range = asked
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let parsed = range.and_then(|range| http_range_header::parse_range_header(range).ok());
    match parsed {
        Some(ranges) if ranges.ranges.len() == 1 && !asked.contains_key(header::IF_RANGE) => {
            match ranges.validate(length) {
                Ok(valid) => Wanted::Part(valid[0].clone()),
                Err(_) => Wanted::Impossible,
            }
        }
        _ => Wanted::All,
    }
}
