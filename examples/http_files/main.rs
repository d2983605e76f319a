//! An HTTP/1.1 server for the files of a directory, for curl and browsers.
//!
//! ```text
//! cargo run --release --example http_files -- .        # an address may follow: 0.0.0.0:8080
//! curl -i http://localhost:8080/                       # in a second terminal; or in a browser
//! curl -r 0-99 http://localhost:8080/Cargo.toml
//! ```
//!
//! Supports GET, HEAD, keep-alive, ranges, and directory listings. The size of request heads and
//! the duration of each step are limited. There is no TLS.
//!
//! One thread serves all connections. A slow disk delays only the clients that read from it,
//! because `windlass::fs` reads the files, in chunks of 64 KiB.

mod folder;

use std::env;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use folder::Folder;
use futures::io::Cursor;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::timeout;

/// Maximum size of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Time limit for a request's head, including the idle time before it.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes of a file in memory per connection.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Time limit for a client to receive a chunk.
const CHUNK_TIME: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let path = args.next().unwrap_or_else(|| ".".to_owned());
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    windlass::block_on(async {
        let folder = Rc::new(Folder::open(&path).await?);
        let listener = TcpListener::bind(addr).await?;
        println!("serving {path} on http://{}/", listener.local_addr()?);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            };
            let folder = folder.clone();
            let connection = async move {
                match serve(&stream, &folder).await {
                    Err(error) if !is_hang_up(&error) => eprintln!("{peer}: {error}"),
                    _ => {}
                }
            };
            windlass::spawn(connection).detach();
        }
    })
}

/// A client may disconnect at any time, for example during a download.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Serves one connection, request by request.
async fn serve(stream: &TcpStream, folder: &Folder) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        let request = match timeout(HEAD_TIME, read_request(stream, &mut input)).await {
            Ok(request) => request?,
            Err(_) if input.is_empty() => return Ok(()),
            Err(_) => Some(Err("408 Request Timeout")),
        };
        let (request, response) = match request {
            None => return Ok(()),
            Some(Ok(request)) => {
                let response = folder.answer(&request).await;
                (request, response)
            }
            Some(Err(status)) => (Request::default(), Response::refusal(status)),
        };
        send(stream, response, &request).await?;
        if !request.keep_alive {
            return hang_up(stream).await;
        }
    }
}

/// For example "404 Not Found".
type Status = &'static str;

#[derive(Default)]
struct Request {
    method: String,
    target: String,
    range: Option<String>,
    keep_alive: bool,
}

struct Response {
    status: Status,
    /// Each with its line end.
    headers: String,
    length: u64,
    body: Pin<Box<dyn AsyncRead>>,
}

impl Response {
    fn new(status: Status, content_type: &str, body: String) -> Response {
        Response {
            status,
            headers: format!("Content-Type: {content_type}\r\n"),
            length: body.len() as u64,
            body: Box::pin(Cursor::new(body)),
        }
    }

    fn refusal(status: Status) -> Response {
        Response::new(status, "text/plain; charset=utf-8", format!("{status}\n"))
    }

    fn with(mut self, header: &str) -> Response {
        self.headers += header;
        self.headers += "\r\n";
        self
    }
}

/// Reads up to the end of a head, or up to the first error. Bytes after the head stay in `input`.
/// Returns `None` if the client has closed the connection.
async fn read_request(
    stream: &TcpStream,
    input: &mut Vec<u8>,
) -> io::Result<Option<Result<Request, Status>>> {
    loop {
        match parse(input) {
            Ok(Some((request, length))) => {
                input.drain(..length);
                return Ok(Some(Ok(request)));
            }
            Ok(None) => {}
            Err(status) => return Ok(Some(Err(status))),
        }
        stream.readable().await?;
        match read_some(stream, input) {
            Ok(0) if input.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(Err("400 Bad Request"))),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

/// Reads the available bytes. Idle connections hold no buffer.
fn read_some(stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; HEAD_BYTES];
    let read = stream.try_read(&mut buffer[..HEAD_BYTES - input.len()])?;
    input.extend_from_slice(&buffer[..read]);
    Ok(read)
}

/// Parses the request at the front of `input`. Returns it with the length of its head, or `None` if
/// it is incomplete.
fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, Status> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err("431 Request Header Fields Too Large");
        }
        Err(httparse::Error::Version) => return Err("505 HTTP Version Not Supported"),
        Err(_) => return Err("400 Bad Request"),
    };
    let header = |name| {
        let mut headers = head.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(header.value).to_ascii_lowercase())
    };
    let is_1_1 = head.version == Some(1);
    if is_1_1 && header("host").is_none() {
        return Err("400 Bad Request");
    }
    // Bodies are not read, so the start of the next request would be unknown.
    let has_body = header("content-length").is_some_and(|length| length.trim() != "0")
        || header("transfer-encoding").is_some();
    let connection = header("connection").unwrap_or_default();
    let stays = if is_1_1 {
        !connection.contains("close")
    } else {
        connection == "keep-alive"
    };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        // `If-Range` names a version of the file. This server has no versions, so none matches.
        range: header("range").filter(|_| header("if-range").is_none()),
        keep_alive: stays && !has_body,
    };
    Ok(Some((request, length)))
}

/// Sends the response chunk by chunk, the first chunk together with the head.
async fn send(mut stream: &TcpStream, mut response: Response, request: &Request) -> io::Result<()> {
    let mut chunk = format!(
        "HTTP/1.1 {}\r\n{}Content-Length: {}\r\nConnection: {}\r\n\r\n",
        response.status,
        response.headers,
        response.length,
        if request.keep_alive {
            "keep-alive"
        } else {
            "close"
        },
    )
    .into_bytes();
    let mut left = if request.method == "HEAD" {
        0
    } else {
        response.length
    };
    loop {
        let wanted = left.min(CHUNK_BYTES);
        let piece = (&mut response.body).take(wanted);
        let read = { piece }.read_to_end(&mut chunk).await?;
        if read < wanted as usize {
            return Err(io::Error::other("a file was cut off while it was sent"));
        }
        timeout(CHUNK_TIME, stream.write_all(&chunk)).await??;
        left -= wanted;
        if left == 0 {
            return Ok(());
        }
        chunk.clear();
    }
}

/// Closes the connection after the client has received the response. Closing a socket with unread
/// input resets the connection, which may discard data in flight.
async fn hang_up(mut stream: &TcpStream) -> io::Result<()> {
    stream.close().await?;
    let mut rest = [0; 1024];
    let ended = timeout(Duration::from_secs(2), async {
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    });
    ended.await.unwrap_or(Ok(()))
}
