//! A small HTTP server for pages on the program itself: the metrics of workers, and the inspector.
//!
//! Each connection has one request and its response. All clients are bounded in number, size and
//! time, because the program must not suffer from them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::Task;
use crate::time::timeout;

#[cfg(unix)]
mod socket_file;

#[cfg(unix)]
pub(crate) use socket_file::SocketFile;

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

/// A request without its body, which is ignored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    is_head: bool,
    /// The path, without the query.
    pub(crate) path: String,
    /// The header field `Host`, without the port.
    pub(crate) host: Option<String>,
}

/// A response.
pub(crate) struct Response {
    status: &'static str,
    content_type: &'static str,
    /// Further header fields, each with its line end.
    fields: String,
    body: Cow<'static, str>,
}

impl Response {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Response {
        Response {
            status: "200 OK",
            content_type,
            fields: String::new(),
            body: body.into(),
        }
    }

    /// Adds header fields, each with its line end.
    pub(crate) fn with_fields(mut self, fields: &str) -> Response {
        self.fields.push_str(fields);
        self
    }

    /// A response with an error, whose body is the status.
    pub(crate) fn error(status: &'static str) -> Response {
        let response = Response::new("text/plain", status);
        Response { status, ..response }
    }

    fn head(&self) -> String {
        let Response {
            status,
            content_type,
            fields,
            body,
        } = self;
        format!(
            "HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Allow: GET, HEAD\r\n{fields}Connection: close\r\n\r\n",
            body.len()
        )
    }
}

/// The tasks that serve clients.
#[derive(Default)]
pub(crate) struct Clients(VecDeque<Task<()>>);

impl Clients {
    /// Serves a client in a task of its own.
    pub(crate) fn serve<S, F>(&mut self, mut stream: S, respond: F)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        F: FnOnce(&Request) -> Response + 'static,
    {
        self.0.retain(|client| !client.is_finished());
        if self.0.len() == MAX_CLIENTS {
            drop(self.0.pop_front());
        }
        self.0.push_back(crate::spawn(async move {
            let _ = converse(&mut stream, respond).await; // an error affects this client only
        }));
    }
}

/// Status of the response to a request that is refused.
#[derive(Debug, PartialEq, Eq)]
struct Rejection(&'static str);

const BAD: Rejection = Rejection("400 Bad Request");
const WRONG_METHOD: Rejection = Rejection("405 Method Not Allowed");
const SLOW: Rejection = Rejection("408 Request Timeout");
const LARGE: Rejection = Rejection("431 Request Header Fields Too Large");

/// Receives a request, and sends the response.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    respond: impl FnOnce(&Request) -> Response,
) -> io::Result<()> {
    let request = timeout(TIME_LIMIT, read_request(stream)).await;
    let (response, is_head) = match request.unwrap_or(Ok(Some(Err(SLOW))))? {
        None => return Ok(()), // disconnected before it sent a request
        Some(Ok(request)) => (respond(&request), request.is_head),
        Some(Err(Rejection(status))) => (Response::error(status), false),
    };
    let mut bytes = response.head();
    if !is_head {
        bytes.push_str(&response.body);
    }
    let finished = async {
        write(stream, bytes.as_bytes()).await?;
        poll_fn(|cx| Pin::new(&mut *stream).poll_close(cx)).await?;
        discard_input(stream).await
    };
    timeout(TIME_LIMIT, finished).await?
}

/// Reads the head of a request. Returns `None` if the client disconnects before it sends anything.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Result<Request, Rejection>>> {
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
fn parse(bytes: &[u8]) -> Option<Result<Request, Rejection>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some(Err(LARGE)),
        Err(_) => return Some(Err(BAD)),
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Err(WRONG_METHOD)),
    };
    let path = request.path.unwrap_or("/");
    let path = path.split(['?', '#']).next().unwrap_or("/").to_owned();
    let mut hosts = request.headers.iter();
    let mut next = || hosts.find(|field| field.name.eq_ignore_ascii_case("host"));
    let (host, second) = (next(), next());
    let host = host.map(|field| String::from_utf8_lossy(field.value));
    Some(match second {
        None => Ok(Request {
            is_head,
            path,
            host: host.map(|host| without_port(&host).to_ascii_lowercase()),
        }),
        Some(_) => Err(BAD),
    })
}

/// Returns the host of `host:port` or `[address]:port`.
fn without_port(host: &str) -> &str {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']').map(|end| end + 2),
        None => host.rfind(':'),
    };
    &host[..end.unwrap_or(host.len())]
}

async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer)).await
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Discards input until the client closes its side or exceeds `MAX_DISCARDED`.
async fn discard_input(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
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
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Some("400")),
            (&many, Some("431")),
        ] {
            assert_eq!(status(request), expected, "{request}");
        }
    }

    #[test]
    fn path_and_host_lose_their_query_and_port() {
        let request = parse(b"HEAD /a/b?c=d HTTP/1.1\r\nhost: Localhost:80\r\n\r\n");
        let expected = Request {
            is_head: true,
            path: "/a/b".into(),
            host: Some("localhost".into()),
        };
        assert_eq!(request, Some(Ok(expected)));
        for (host, expected) in [
            ("10.0.0.1:9000", "10.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("[::1", "[::1"),
            ("name", "name"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
