//! A chat for browsers. Serves the page over HTTP, then upgrades the same connection to a
//! WebSocket.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::handshake::server::create_response;
use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error, Utf8Bytes};
use futures::future::{Either, select};
use futures::io::{AsyncRead, AsyncWrite};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, ORIGIN,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use windlass::hyper::{Io, Timer};
use windlass::net::TcpStream;
use windlass::task::StopToken;
use windlass::time::{now, sleep_until, timeout};

use crate::frame_stream::FrameStream;
use crate::rooms::{Join, Membership, Rooms};
use crate::websocket::{Limits, Message, WebSocket, close_frame, close_frame_for};

/// Time limit for HTTP, in which a client gets a few files and then requests the WebSocket.
const HTTP: Duration = Duration::from_secs(30);

/// Time limit for the header of a request.
const HEADER: Duration = Duration::from_secs(10);

/// Time limit for the first message, which contains the name.
const JOIN: Duration = Duration::from_secs(10);

/// Rate limit per member, as the interval between lines and the number of lines in a burst.
const PERIOD: Duration = Duration::from_millis(200);
const BURST: u32 = 10;

/// Limits of the WebSockets. A line of 1,000 characters fits, in any script, and so does the
/// welcome message, with 200 names and 50 lines of maximum length.
pub fn limits() -> Limits {
    Limits {
        message: 8 * 1024,
        sent: 256 * 1024,
        ..Limits::default()
    }
}

/// Serves the connection of a browser.
pub async fn serve(stream: TcpStream, rooms: Rc<Rooms>, stop: StopToken, limits: Limits) {
    let stream = FrameStream::new(stream);
    converse(stream.clone(), Some(stream), rooms, stop, limits).await;
}

/// Serves the connection of a browser over TLS.
pub async fn serve_tls<S>(stream: S, rooms: Rc<Rooms>, stop: StopToken, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    converse(stream, None, rooms, stop, limits).await;
}

/// Serves a connection. With `direct`, which is the same stream, other tasks send frames to it.
async fn converse<S>(
    stream: S,
    direct: Option<FrameStream>,
    rooms: Rc<Rooms>,
    stop: StopToken,
    limits: Limits,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = match timeout(HTTP, serve_page(stream, &stop)).await {
        Ok(Ok(Some((stream, read)))) => {
            let mut socket = WebSocket::upgraded(stream, read, limits).await;
            let last = chat(&mut socket, direct, &rooms, &stop).await;
            if let Some(last) = last.unwrap_or_else(|error| close_frame_for(&error)) {
                socket.close(last).await;
            }
            Ok(())
        }
        Ok(Ok(None)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error),
    };
    if let Err(error) = ended {
        eprintln!("{error}");
    }
}

/// Answers requests until a client requests the WebSocket. Then returns the connection, with the
/// bytes that were read after the request.
async fn serve_page<S>(stream: S, stop: &StopToken) -> hyper::Result<Option<(S, Vec<u8>)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let upgraded = Cell::new(false);
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(request, &upgraded))));
    let mut builder = http1::Builder::new();
    builder
        .timer(Timer)
        .header_read_timeout(HEADER)
        .max_buf_size(16 * 1024);
    // hyper's own upgrade requires streams that are `Send`.
    let mut connection = builder.serve_connection(Io::new(stream), service);
    let (mut stopped, mut stopping) = (stop.stopped(), false);
    poll_fn(|cx| {
        // Polls the connection before the stop token, because a request may have arrived already.
        let polled = connection.poll_without_shutdown(cx);
        if polled.is_pending() && !stopping && Pin::new(&mut stopped).poll(cx).is_ready() {
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
            return connection.poll_without_shutdown(cx);
        }
        polled
    })
    .await?;
    let parts = connection.into_parts();
    let connection = (parts.io.into_inner(), parts.read_buf.to_vec());
    Ok(upgraded.get().then_some(connection))
}

fn answer(request: Request<Incoming>, upgraded: &Cell<bool>) -> Response<Full<Bytes>> {
    let (kind, text) = match request.uri().path() {
        "/" => (
            "text/html; charset=utf-8",
            include_str!("../page/index.html"),
        ),
        "/chat.css" => ("text/css", include_str!("../page/chat.css")),
        "/chat.js" => ("text/javascript", include_str!("../page/chat.js")),
        "/socket" => return upgrade(request, upgraded),
        _ => return refuse(StatusCode::NOT_FOUND),
    };
    let mut response = Response::new(Full::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Forbids the browser to run scripts from any other source.
    let policy = HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    response
}

fn upgrade(request: Request<Incoming>, upgraded: &Cell<bool>) -> Response<Full<Bytes>> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    // Browsers send the origin of the page. Pages of other sites are rejected.
    let (origin, host) = (header(ORIGIN), header(HOST));
    let is_ours = origin.is_some_and(|origin| {
        let (_, origin_host) = origin.split_once("://").unwrap_or_default();
        Some(origin_host) == host
    });
    if request.headers().contains_key(ORIGIN) && !is_ours {
        return refuse(StatusCode::FORBIDDEN);
    }
    match create_response(&request.map(drop)) {
        Ok(response) => {
            upgraded.set(true);
            response.map(|()| Full::default())
        }
        Err(_) => refuse(StatusCode::BAD_REQUEST),
    }
}

fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Action {
    Join(Join),
    Say { text: String },
}

/// Runs the conversation with one member. Returns the reason to send when it ends, if any.
async fn chat<S>(
    socket: &mut WebSocket<S>,
    direct: Option<FrameStream>,
    rooms: &Rc<Rooms>,
    stop: &StopToken,
) -> Result<Option<CloseFrame>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = timeout(JOIN, socket.recv())
        .await
        .map_err(io::Error::from)??;
    let Some(Action::Join(join)) = first.and_then(parse) else {
        return Ok(Some(close_frame(CloseCode::Policy, "join first")));
    };
    let member = match rooms.join(join) {
        Ok(member) => member,
        Err(why) => return Ok(Some(close_frame(CloseCode::Policy, why))),
    };
    if let Some(stream) = direct {
        member.connect(stream);
    }
    let mut rate = Rate {
        free: Instant::now(),
    };
    loop {
        match stop.run(next(socket, &rate, &member)).await.transpose()? {
            Some(Event::Said(message)) => {
                rate.take();
                match parse(message) {
                    Some(Action::Say { text }) => member.say(&text),
                    _ => return Ok(Some(close_frame(CloseCode::Policy, "say something"))),
                }
            }
            Some(Event::FromRoom(line)) => socket.send(Message::Text(line)).await?,
            Some(Event::Removed) => {
                return Ok(Some(close_frame(CloseCode::Again, "you read too slowly")));
            }
            Some(Event::Left) => return Ok(Some(close_frame(CloseCode::Normal, ""))),
            None => return Ok(Some(close_frame(CloseCode::Restart, "the server stops"))),
        }
    }
}

enum Event {
    Said(Message),
    FromRoom(Utf8Bytes),
    Removed,
    Left,
}

/// Waits for the next message of the member or the room. Reads nothing from the member while its
/// rate limit is exhausted, so that a flood stays on its own machine.
async fn next<S>(
    socket: &mut WebSocket<S>,
    rate: &Rate,
    member: &Membership,
) -> Result<Event, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = pin!(async {
        rate.wait().await;
        socket.recv().await
    });
    Ok(match select(message, pin!(member.next_event())).await {
        Either::Left((said, _)) => said?.map_or(Event::Left, Event::Said),
        Either::Right((received, _)) => received.map_or(Event::Removed, Event::FromRoom),
    })
}

fn parse(message: Message) -> Option<Action> {
    serde_json::from_str(message.to_text().ok()?).ok()
}

/// A rate limiter.
struct Rate {
    /// The time at which the full burst is available again.
    free: Instant,
}

impl Rate {
    fn take(&mut self) {
        self.free = self.free.max(Instant::now()) + PERIOD;
    }

    async fn wait(&self) {
        let start = self.free - BURST * PERIOD;
        if start > now() {
            sleep_until(start).await;
        }
    }
}
