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
//! because `windlass::fs` reads the files. A cached file is opened, read and sent in one turn of
//! the loop.

mod folder;

use std::env;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use folder::Folder;
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::fs::File;
use windlass::io::send_file;
use windlass::net::{TcpListener, TcpStream};
use windlass::time::timeout;

/// Maximum size of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Time limit for a request's head, including the idle time before it.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes of a file that a client has to receive within a time limit.
const CHUNK_BYTES: u64 = 256 * 1024;
/// The time limit, which disconnects a client that takes less than 2 KiB per second.
const CHUNK_TIME: Duration = Duration::from_secs(120);

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let path = args.next().unwrap_or_else(|| ".".to_owned());
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    windlass::block_on(async {
        let listener = TcpListener::bind(addr).await?;
        println!("serving {path} on http://{}/", listener.local_addr()?);
        serve_folder(&path, &listener).await
    })
}

/// Serves the files of a directory to all clients of a listener.
pub(crate) async fn serve_folder(path: &str, listener: &TcpListener) -> io::Result<()> {
    let folder = Rc::new(Folder::open(path).await?);
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
    body: Body,
}

enum Body {
    Text(String),
    /// A file, from an offset on.
    File(File, u64),
}

impl Response {
    fn new(status: Status, content_type: &str, body: String) -> Response {
        Response {
            status,
            headers: format!("Content-Type: {content_type}\r\n"),
            length: body.len() as u64,
            body: Body::Text(body),
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
    let mut buffer = [0; 4096]; // most heads are smaller
    let room = buffer.len().min(HEAD_BYTES - input.len());
    let read = stream.try_read(&mut buffer[..room])?;
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

/// Sends the response, chunk by chunk, the first chunk together with the head.
async fn send(mut stream: &TcpStream, response: Response, request: &Request) -> io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {}\r\n{}Content-Length: {}\r\nConnection: {}\r\n\r\n",
        response.status,
        response.headers,
        response.length,
        match request.keep_alive {
            true => "keep-alive",
            false => "close",
        },
    );
    let length = match request.method.as_str() {
        "HEAD" => 0,
        _ => response.length,
    };
    match response.body {
        Body::Text(text) => {
            head += &text[..length as usize];
            timeout(CHUNK_TIME, stream.write_all(head.as_bytes())).await?
        }
        Body::File(file, start) => {
            let end = start + length;
            let mut chunk = start..end.min(start + CHUNK_BYTES);
            loop {
                let sent = send_file(stream, head.as_bytes(), &file, chunk.clone());
                if timeout(CHUNK_TIME, sent).await?? < chunk.end - chunk.start {
                    return Err(io::Error::other("a file was cut off while it was sent"));
                }
                if chunk.end == end {
                    return Ok(());
                }
                head.clear();
                chunk = chunk.end..end.min(chunk.end + CHUNK_BYTES);
            }
        }
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
