//! Serves the metrics by HTTP on a Unix socket.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::channel::{read, write};
use super::message::Exchange;
use super::metrics::prometheus;
use crate::Task;
use crate::net::unix::{UnixListener, UnixStream};
use crate::time::timeout;

/// Time limit for a client to send its request, and again to read the response.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Maximum number of concurrent clients. The next client disconnects the oldest, so silent clients
/// delay no others.
const MAX_CLIENTS: usize = 64;

/// Maximum size of a request's head in bytes, and maximum number of its header fields.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;

/// Maximum number of bytes read after the request's head. If a socket is closed with unread bytes,
/// the client gets `ECONNRESET`.
const MAX_DISCARDED: usize = 64 * 1024;

/// The running server. Dropping it stops the server and removes the socket's file.
pub(super) struct MetricsServer {
    path: PathBuf,
    /// Device and inode number of the file. Another program may have replaced it since.
    file: Option<(u64, u64)>,
    _server: Task<()>,
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        if self.file.is_some() && identify(&self.path) == self.file {
            let _ = fs::remove_file(&self.path); // fails if it was removed meanwhile
        }
    }
}

fn identify(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(super) async fn listen(path: &Path, exchange: Rc<Exchange>) -> io::Result<MetricsServer> {
    let listener = match UnixListener::bind(path).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path).await?
        }
        bound => bound?,
    };
    Ok(MetricsServer {
        path: path.into(),
        file: identify(path),
        _server: crate::spawn(serve(listener, exchange)),
    })
}

/// Returns true for a socket without a listener, which a killed program leaves behind. The type is
/// checked first, because `connect` returns `ECONNREFUSED` for files of other types too.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket && connect(path) == Err(rustix::io::Errno::CONNREFUSED)
}

/// Tries to connect without blocking. A blocking `connect` waits while the listener's queue is
/// full.
fn connect(path: &Path) -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

async fn serve(listener: UnixListener, exchange: Rc<Exchange>) {
    let mut clients: VecDeque<Task<()>> = VecDeque::new();
    loop {
        // After an error, the next call pauses before it tries again.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        clients.retain(|client| !client.is_finished());
        if clients.len() == MAX_CLIENTS {
            drop(clients.pop_front());
        }
        let exchange = exchange.clone();
        clients.push_back(crate::spawn(async move {
            let _ = respond(&stream, &exchange).await; // an error affects this client only
        }));
    }
}

/// Status of the response to a request that is refused.
struct Rejection(&'static str);

const BAD: Rejection = Rejection("400 Bad Request");
const WRONG_METHOD: Rejection = Rejection("405 Method Not Allowed");
const SLOW: Rejection = Rejection("408 Request Timeout");
const LARGE: Rejection = Rejection("431 Request Header Fields Too Large");

/// Responds with the metrics, for any path.
async fn respond(stream: &UnixStream, exchange: &Exchange) -> io::Result<()> {
    let request = timeout(TIME_LIMIT, read_request(stream)).await;
    let answer = match request.unwrap_or(Ok(Some(Err(SLOW))))? {
        None => return Ok(()), // disconnected before it sent a request
        Some(Ok(Method::Get)) => {
            let text = prometheus(&exchange.figures.borrow());
            head("200 OK", text.len()) + &text
        }
        Some(Ok(Method::Head)) => head("200 OK", prometheus(&exchange.figures.borrow()).len()),
        Some(Err(Rejection(status))) => head(status, 0),
    };
    let finished = async {
        write(stream, answer.as_bytes()).await?;
        stream.shutdown(std::net::Shutdown::Write)?;
        discard_input(stream).await
    };
    timeout(TIME_LIMIT, finished).await?
}

fn head(status: &str, length: usize) -> String {
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {length}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"
    )
}

enum Method {
    Get,
    Head,
}

/// Reads the head of a request. Returns `None` if the client disconnects before it sends anything.
async fn read_request(stream: &UnixStream) -> io::Result<Option<Result<Method, Rejection>>> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let n = read(stream, &mut buffer).await?;
        request.extend(&buffer[..n]);
        if let Some(parsed) = parse(&request) {
            return Ok(Some(parsed));
        }
        match n {
            0 if request.is_empty() => return Ok(None),
            0 => return Ok(Some(Err(BAD))),
            _ if request.len() >= MAX_HEAD => return Ok(Some(Err(LARGE))),
            _ => {}
        }
    }
}

/// Returns `None` while the head is incomplete.
fn parse(bytes: &[u8]) -> Option<Result<Method, Rejection>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    Some(match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => match request.method {
            Some("GET") => Ok(Method::Get),
            Some("HEAD") => Ok(Method::Head),
            _ => Err(WRONG_METHOD),
        },
        Err(httparse::Error::TooManyHeaders) => Err(LARGE),
        Err(_) => Err(BAD),
    })
}

/// Discards input until the client closes its side or exceeds `MAX_DISCARDED`.
async fn discard_input(stream: &UnixStream) -> io::Result<()> {
    let (mut buffer, mut left) = ([0; 4096], MAX_DISCARDED);
    while left > 0 {
        match read(stream, &mut buffer).await? {
            0 => return Ok(()),
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> Option<&'static str> {
        parse(request.as_bytes()).map(|parsed| match parsed {
            Ok(_) => "200",
            Err(Rejection(status)) => &status[..3],
        })
    }

    #[test]
    fn a_request_is_parsed_as_soon_as_its_head_is_complete() {
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_FIELDS + 1)
        );
        for (request, expected) in [
            ("", None),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\n\r\n", Some("200")),
            ("HEAD / HTTP/1.0\n\n", Some("200")),
            ("GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", Some("200")),
            ("GET / HTTP/1.1\r\n\r\nGET", Some("200")),
            ("POST / HTTP/1.1\r\n\r\n", Some("405")),
            ("GET\0/\r\n\r\n", Some("400")),
            (&many, Some("431")),
        ] {
            assert_eq!(status(request), expected, "{request}");
        }
    }
}
