//! The usual way for the benchmark: tokio on threads of its own, by napi-rs.

// The macros of napi-derive generate undocumented items.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Promise, Result};
use napi_derive::napi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Returns the value at the first poll.
#[napi]
pub async fn ready(value: f64) -> f64 {
    value
}

/// Awaits a promise of JavaScript. A function would need one more change of threads.
#[napi]
pub async fn await_promise(promise: Promise<f64>) -> Result<f64> {
    promise.await
}

/// Connects to a TCP server.
#[napi]
pub async fn connect(host: String, port: u16) -> Result<Connection> {
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let stream = Arc::new(Mutex::new(stream));
    Ok(Connection { stream })
}

/// A TCP connection.
#[napi]
pub struct Connection {
    stream: Arc<Mutex<TcpStream>>,
}

#[napi]
impl Connection {
    /// Sends the bytes, and returns as many from the peer.
    #[napi]
    pub async fn echo(&self, bytes: Buffer) -> Result<Buffer> {
        let mut stream = self.stream.lock().await;
        let mut bytes = bytes.to_vec();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }
}
