//! Lines over TCP, with a time limit for each step.

use std::io;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncWriteExt};
use windlass::net::TcpStream;
use windlass::time::timeout;

/// How long a connection, a request or an answer may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

/// The pause before the next attempt.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) async fn open(addr: &str) -> io::Result<Connection> {
        let stream = timeout(LIMIT, TcpStream::connect(addr)).await??;
        Ok(Connection::new(stream))
    }

    pub(crate) fn new(stream: TcpStream) -> Connection {
        let stream = BufReader::new(stream);
        Connection { stream }
    }

    pub(crate) async fn send(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        timeout(LIMIT, self.stream.write_all(line.as_bytes())).await?
    }

    /// Receives a line. The end of the stream is an error.
    pub(crate) async fn receive(&mut self, limit: Duration) -> io::Result<String> {
        let mut line = String::new();
        timeout(limit, self.stream.read_line(&mut line)).await??;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends a request, and receives its answer.
    pub(crate) async fn call(&mut self, request: &str) -> io::Result<String> {
        self.send(request).await?;
        self.receive(LIMIT).await
    }
}
