//! A chat for browsers: the page over HTTP, and then the same connection as a WebSocket.

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
use windlass::task::StopToken;
use windlass::time::{sleep_until, timeout};

use crate::rooms::{Join, Rooms, Seat};
use crate::websocket::{Limits, Message, WebSocket, goodbye, goodbye_for};

/// How long a client may take over HTTP: it has to get a few files, and to ask for the WebSocket.
const HTTP: Duration = Duration::from_secs(30);

/// How long it may take to send the header of a request.
const HEADER: Duration = Duration::from_secs(10);

/// How long it may take to say who it is.
const JOIN: Duration = Duration::from_secs(10);

/// A line in so long a time; but so many may come at once.
const PERIOD: Duration = Duration::from_millis(200);
const BURST: u32 = 10;

/// The limits for those who chat: a line of 1,000 characters fits, whatever they are, and so does
/// a welcome with the 200 names and the 50 lines of a room, each as long as may be.
pub fn limits() -> Limits {
    Limits {
        message: 8 * 1024,
        sent: 256 * 1024,
        ..Limits::default()
    }
}

/// Serves a browser's connection, plain or over TLS.
pub async fn serve<S>(stream: S, rooms: Rc<Rooms>, stop: StopToken, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = match timeout(HTTP, serve_page(stream, &stop)).await {
        Ok(Ok(Some((stream, read)))) => {
            let mut socket = WebSocket::upgraded(stream, read, limits).await;
            let last = chat(&mut socket, &rooms, &stop).await;
            if let Some(last) = last.unwrap_or_else(|error| goodbye_for(&error)) {
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

/// Answers requests, until one is that for the WebSocket: then gives the connection back, with what
/// was read after the request.
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
    // hyper's own upgrade wants streams that are `Send`.
    let mut connection = builder.serve_connection(Io::new(stream), service);
    let (mut stopped, mut stopping) = (stop.stopped(), false);
    poll_fn(|cx| {
        // The connection comes first: it may have a request already when it's told to stop.
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
    // Should text ever be taken for a script, the browser doesn't run it.
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
    // A browser says which page it is that asks: those of others may not.
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
enum Wish {
    Join(Join),
    Say { text: String },
}

/// The talk with one member: what to say at its end, if there's anything.
async fn chat<S>(
    socket: &mut WebSocket<S>,
    rooms: &Rc<Rooms>,
    stop: &StopToken,
) -> Result<Option<CloseFrame>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = timeout(JOIN, socket.recv())
        .await
        .map_err(io::Error::from)??;
    let Some(Wish::Join(join)) = first.and_then(parse) else {
        return Ok(Some(goodbye(CloseCode::Policy, "join first")));
    };
    let seat = match rooms.join(join) {
        Ok(seat) => seat,
        Err(why) => return Ok(Some(goodbye(CloseCode::Policy, why))),
    };
    let mut rate = Rate {
        free: Instant::now(),
    };
    loop {
        match stop.run(next(socket, &rate, &seat)).await.transpose()? {
            Some(Event::Said(message)) => {
                rate.take();
                match parse(message) {
                    Some(Wish::Say { text }) => seat.say(&text),
                    _ => return Ok(Some(goodbye(CloseCode::Policy, "say something"))),
                }
            }
            Some(Event::Told(line)) => socket.send(Message::Text(line)).await?,
            Some(Event::ShownOut) => {
                return Ok(Some(goodbye(CloseCode::Again, "you read too slowly")));
            }
            Some(Event::Left) => return Ok(Some(goodbye(CloseCode::Normal, ""))),
            None => return Ok(Some(goodbye(CloseCode::Restart, "the server stops"))),
        }
    }
}

enum Event {
    Said(Message),
    Told(Utf8Bytes),
    ShownOut,
    Left,
}

/// Whatever comes first, from the member or from the room. Of the member nothing is read until it
/// may say something again: a flood waits in its own machine.
async fn next<S>(socket: &mut WebSocket<S>, rate: &Rate, seat: &Seat) -> Result<Event, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said = pin!(async {
        rate.wait().await;
        socket.recv().await
    });
    Ok(match select(said, pin!(seat.hear())).await {
        Either::Left((said, _)) => said?.map_or(Event::Left, Event::Said),
        Either::Right((told, _)) => told.map_or(Event::ShownOut, Event::Told),
    })
}

fn parse(message: Message) -> Option<Wish> {
    serde_json::from_str(message.to_text().ok()?).ok()
}

/// How often a member may speak.
struct Rate {
    /// When all that was said is paid for.
    free: Instant,
}

impl Rate {
    fn take(&mut self) {
        self.free = self.free.max(Instant::now()) + PERIOD;
    }

    async fn wait(&self) {
        sleep_until(self.free - BURST * PERIOD).await;
    }
}
