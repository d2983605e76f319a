//! A WebSocket echo server.
//!
//! ```text
//! cargo run -p windlass-web --bin websocket_echo     # an address may follow: -- 0.0.0.0:7010
//! python3 -m websockets ws://localhost:7010              # in a second terminal
//! ```
//!
//! Messages are limited to 16 MiB. Ctrl-C sends a close frame to all peers.

use std::env;
use std::io;

use async_tungstenite::tungstenite::Error;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use windlass::net::{TcpListener, TcpStream};
use windlass::task::StopToken;
use windlass_web::server::{self, serve};
use windlass_web::stop_at_signals;
use windlass_web::websocket::{Limits, WebSocket, close_frame, close_frame_for};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7010");
    windlass::block_on(async {
        let stop = stop_at_signals()?;
        let listener = TcpListener::bind(addr).await?;
        println!("echoing on ws://{}", listener.local_addr()?);
        let limits = server::Limits {
            connections: 1_000, // each has up to two messages in memory
            ..server::Limits::default()
        };
        let serve_one = |stream| converse(stream, stop.clone());
        let cut_off = serve(listener, &stop, limits, serve_one).await;
        println!("stopped; connections that were cut off: {cut_off}");
        Ok(())
    })
}

async fn converse(stream: TcpStream, stop: StopToken) {
    let limits = Limits {
        message: 16 << 20,
        sent: 16 << 20,
        ..Limits::default()
    };
    let mut socket = match WebSocket::accept(stream, limits).await {
        Ok(socket) => socket,
        Err(error) => return eprintln!("no handshake: {error}"),
    };
    let last = match echo(&mut socket, &stop).await {
        Ok(()) => Some(close_frame(CloseCode::Away, "the server stops")),
        Err(error) => {
            eprintln!("{error}");
            close_frame_for(&error)
        }
    };
    if let Some(last) = last {
        socket.close(last).await;
    }
}

async fn echo(socket: &mut WebSocket<TcpStream>, stop: &StopToken) -> Result<(), Error> {
    while let Some(received) = stop.run(socket.recv()).await {
        match received? {
            Some(message) => socket.send(message).await?,
            None => break, // the peer has sent its close frame
        }
    }
    Ok(())
}
