//! The server of the chat on tokio and tokio-tungstenite, for a comparison with `web_chat`. It has
//! the same rooms, the same protocol and the same limits of time, and serves no page. The part
//! `services` of the benchmarks starts it.
//!
//! ```text
//! cargo run --release -p windlass-web --example chat_tokio -- 127.0.0.1:7013
//! ```

use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use windlass_web::rooms::{Join, Rooms};

/// The limits of `chat.rs` and `websocket.rs`.
const JOIN: Duration = Duration::from_secs(10);
const SEND: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(200);
const BURST: u32 = 10;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Action {
    Join(Join),
    Say { text: String },
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:7013".to_owned());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(addr))
}

async fn serve(addr: String) -> io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    let rooms = Rc::new(Rooms::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let rooms = rooms.clone();
        tokio::task::spawn_local(async move {
            let _ = chat(stream, rooms).await; // clients may disconnect at any time
        });
    }
}

fn parse(message: Message) -> Option<Action> {
    serde_json::from_str(message.to_text().ok()?).ok()
}

async fn chat(stream: TcpStream, rooms: Rc<Rooms>) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(8 * 1024))
        .max_frame_size(Some(8 * 1024))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
        .max_write_buffer_size(272 * 1024);
    let accepting = accept_async_with_config(stream, Some(config));
    let mut socket = timeout(JOIN, accepting).await.map_err(io::Error::from)??;
    let first = timeout(JOIN, socket.next())
        .await
        .map_err(io::Error::from)?;
    let Some(Action::Join(join)) = first.transpose()?.and_then(parse) else {
        return Ok(());
    };
    let Ok(member) = rooms.join(join) else {
        return Ok(());
    };
    let mut free = Instant::now();
    let mut pinged = false;
    loop {
        let said = async {
            sleep_until(free - BURST * PERIOD).await;
            timeout(IDLE, socket.next()).await
        };
        select! {
            said = said => match said {
                Ok(Some(Ok(message @ Message::Text(_)))) => {
                    (free, pinged) = (free.max(Instant::now()) + PERIOD, false);
                    match parse(message) {
                        Some(Action::Say { text }) => member.say(&text),
                        _ => return Ok(()),
                    }
                }
                Ok(Some(Ok(_))) => pinged = false,
                Err(_) if !pinged => {
                    pinged = true;
                    socket.send(Message::Ping(Default::default())).await?;
                }
                Ok(_) | Err(_) => return Ok(()),
            },
            line = member.next_event() => {
                let Some(line) = line else { return Ok(()) };
                let sent = timeout(SEND, socket.send(Message::Text(line)));
                sent.await.map_err(io::Error::from)??;
            }
        }
    }
}
