//! The server end of a WebSocket with an untrusted peer. Limits the peer's messages and its time,
//! and sends the reason when it disconnects.

use std::io;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::protocol::frame::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::Frame;
use async_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Bytes, Error};
use async_tungstenite::{WebSocketStream, accept_async_with_config};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink};
use futures::{SinkExt, StreamExt};
use windlass::time::{timeout, timeout_at};

pub use async_tungstenite::tungstenite::Message;

/// The limits of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum length of a received message in bytes.
    pub message: usize,
    /// Maximum length of a sent message in bytes. A longer one is an error.
    pub sent: usize,
    /// Time limit of the handshake, and of the closing handshake.
    pub handshake: Duration,
    /// A peer that has sent no complete message for this long is pinged.
    pub idle: Duration,
    /// Time limit for the answer to a ping.
    pub pong: Duration,
    /// Time limit for the peer to receive a message.
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
            // Space for one message, and for pongs to a peer that pings and doesn't read.
            .max_write_buffer_size(self.sent + 2 * buffer)
    }
}

/// The server end of a WebSocket.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: WebSocketStream<S>,
    limits: Limits,
    /// When to ping an idle peer. After a ping, when to disconnect it.
    deadline: Instant,
    pinged: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Accepts the handshake of a client.
    pub async fn accept(stream: S, limits: Limits) -> Result<Self, Error> {
        let accepting = accept_async_with_config(stream, Some(limits.config()));
        let accepted = timeout(limits.handshake, accepting).await;
        Ok(Self::new(accepted.map_err(io::Error::from)??, limits))
    }

    /// Takes over a connection from an HTTP server that has answered the handshake. Also takes the
    /// bytes that the server has read after it.
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

    /// Returns the next text or binary message, or `None` after the peer's close frame.
    /// Cancel-safe.
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
                    let deadline = Instant::now() + self.limits.pong;
                    let ping = self.stream.feed(Message::Ping(Bytes::new()));
                    timeout_at(deadline, ping)
                        .await
                        .map_err(io::Error::from)??;
                    (self.deadline, self.pinged) = (deadline, true);
                    let flushed = timeout_at(deadline, self.stream.flush()).await;
                    flushed.map_err(io::Error::from)??;
                }
            }
        }
    }

    /// Sends a message. Returns an error if the peer doesn't read it within the limit.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(self.limits.send, self.stream.send(message)).await;
        sent.map_err(io::Error::from)?
    }

    /// Sends a close frame, and waits a limited time for the peer's.
    pub async fn close(mut self, frame: CloseFrame) {
        let closing = async {
            // Fails if the peer sent its close frame first. Then `next` sends the answer.
            let _ = self.stream.close(Some(frame)).await;
            while let Some(Ok(_)) = self.stream.next().await {}
            // Closing the socket with unread input would reset the connection, which may overtake
            // the close frame.
            let stream = self.stream.get_mut();
            stream.close().await?;
            copy(stream, &mut sink()).await
        };
        let _ = timeout(self.limits.handshake, closing).await;
    }
}

/// Encodes a text message as a server sends it.
pub fn text_frame(text: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(text.len() + 10); // the longest header of a server
    let frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    frame.format(&mut bytes).expect("a vector takes all bytes");
    bytes.into()
}

/// A close frame with a reason.
pub fn close_frame(code: CloseCode, reason: &'static str) -> CloseFrame {
    let reason = reason.into();
    CloseFrame { code, reason }
}

/// Returns the close frame for this error, or `None` if it can't be sent any more.
pub fn close_frame_for(error: &Error) -> Option<CloseFrame> {
    match error {
        Error::Capacity(_) => Some(close_frame(CloseCode::Size, "the message is too long")),
        Error::Utf8(_) => Some(close_frame(CloseCode::Invalid, "the text is not UTF-8")),
        Error::Protocol(_) => Some(close_frame(CloseCode::Protocol, "that is not WebSocket")),
        _ => None,
    }
}
