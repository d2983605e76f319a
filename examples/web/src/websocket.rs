//! One end of a WebSocket whose other end nobody trusts: what it may send and how long it may take
//! are limited, and it's told why it is hung up on.

use std::io;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Bytes, Error};
use async_tungstenite::{WebSocketStream, accept_async_with_config};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink};
use futures::{SinkExt, StreamExt};
use windlass::time::{timeout, timeout_at};

pub use async_tungstenite::tungstenite::Message;

/// What a peer may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message, in bytes.
    pub message: usize,
    /// The longest message of ours, in bytes. A longer one is an error.
    pub sent: usize,
    /// How long the handshake may take, and the end.
    pub handshake: Duration,
    /// A peer from which no whole message came for so long is pinged.
    pub idle: Duration,
    /// How long it may take to answer that.
    pub pong: Duration,
    /// How long it may take to receive a message.
    pub send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message: 64 * 1024,
            sent: 64 * 1024,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            pong: Duration::from_secs(10),
            send: Duration::from_secs(10),
        }
    }
}

impl Limits {
    fn config(&self) -> WebSocketConfig {
        let buffer = 8 * 1024;
        WebSocketConfig::default()
            .max_message_size(Some(self.message))
            .max_frame_size(Some(self.message))
            .read_buffer_size(buffer)
            .write_buffer_size(buffer)
            // A message of ours, and room for pongs to a peer that pings and doesn't read.
            .max_write_buffer_size(self.sent + 2 * buffer)
    }
}

/// A WebSocket's server end.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: WebSocketStream<S>,
    limits: Limits,
    /// When to ping a silent peer; or, once it was pinged, to give it up.
    deadline: Instant,
    pinged: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Answers the handshake of a client.
    pub async fn accept(stream: S, limits: Limits) -> Result<Self, Error> {
        let accepting = accept_async_with_config(stream, Some(limits.config()));
        let accepted = timeout(limits.handshake, accepting).await;
        Ok(Self::new(accepted.map_err(io::Error::from)??, limits))
    }

    /// Takes a connection over from an HTTP server that has answered the handshake, and has read
    /// so much more.
    pub async fn upgraded(stream: S, read: Vec<u8>, limits: Limits) -> Self {
        let config = Some(limits.config());
        let stream = WebSocketStream::from_partially_read(stream, read, Role::Server, config).await;
        Self::new(stream, limits)
    }

    fn new(stream: WebSocketStream<S>, limits: Limits) -> Self {
        WebSocket {
            stream,
            limits,
            deadline: Instant::now() + limits.idle,
            pinged: false,
        }
    }

    /// The next text or binary message; `None` when the peer has said goodbye. Nothing is lost when
    /// the future is dropped.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match timeout_at(self.deadline, self.stream.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    self.deadline = Instant::now() + self.limits.idle;
                    self.pinged = false;
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        return Ok(Some(message));
                    }
                }
                Err(elapsed) if self.pinged => return Err(io::Error::from(elapsed).into()),
                Err(_) => {
                    self.stream.feed(Message::Ping(Bytes::new())).await?;
                    self.deadline = Instant::now() + self.limits.pong;
                    self.pinged = true;
                    self.stream.flush().await?;
                }
            }
        }
    }

    /// Sends a message. A peer that doesn't read it within the limit is an error.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(self.limits.send, self.stream.send(message)).await;
        sent.map_err(io::Error::from)?
    }

    /// Says goodbye, and waits a little for the peer to do so.
    pub async fn close(mut self, frame: CloseFrame) {
        let closing = async {
            // Fails if it was the peer who said it first. Then `next` sends our answer.
            let _ = self.stream.close(Some(frame)).await;
            while let Some(Ok(_)) = self.stream.next().await {}
            // To hang up with bytes unread would be a reset, which may overtake the goodbye.
            let stream = self.stream.get_mut();
            stream.close().await?;
            copy(stream, &mut sink()).await
        };
        let _ = timeout(self.limits.handshake, closing).await;
    }
}

/// A goodbye with a reason.
pub fn goodbye(code: CloseCode, reason: &'static str) -> CloseFrame {
    let reason = reason.into();
    CloseFrame { code, reason }
}

/// What to tell a peer that has caused this error; `None` if it can't be told any more.
pub fn goodbye_for(error: &Error) -> Option<CloseFrame> {
    match error {
        Error::Capacity(_) => Some(goodbye(CloseCode::Size, "the message is too long")),
        Error::Utf8(_) => Some(goodbye(CloseCode::Invalid, "the text is not UTF-8")),
        Error::Protocol(_) => Some(goodbye(CloseCode::Protocol, "that is not WebSocket")),
        _ => None,
    }
}
