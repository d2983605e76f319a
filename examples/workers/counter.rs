//! A number shared by all workers on all machines. It is in Redis, because workers share no memory.
//!
//! Implements the part of Redis' protocol that a counter needs, over one connection per worker.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use windlass::net::TcpStream;
use windlass::sync::Mutex;
use windlass::time::timeout;

/// Time limit for Redis.
const LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Counter {
    /// The address of Redis. Without one, this worker counts for itself.
    addr: Option<String>,
    /// `None` until it is needed, and after an error.
    connection: Mutex<Option<BufReader<TcpStream>>>,
    here: Cell<u64>,
}

impl Counter {
    pub(crate) fn new(addr: Option<String>) -> Counter {
        Counter {
            addr,
            connection: Mutex::new(None),
            here: Cell::new(0),
        }
    }

    /// Increments the number and returns it.
    pub(crate) async fn add_one(&self) -> io::Result<u64> {
        if self.addr.is_none() {
            self.here.set(self.here.get() + 1);
            return Ok(self.here.get());
        }
        let answer = self.ask("INCR visitors\r\n").await?;
        let number = answer
            .strip_prefix(':')
            .and_then(|number| number.parse().ok());
        number.ok_or_else(|| io::Error::other(answer))
    }

    /// Returns true if Redis replies.
    pub(crate) async fn check(&self) -> io::Result<()> {
        match self.addr {
            Some(_) => self.ask("PING\r\n").await.map(drop),
            None => Ok(()),
        }
    }

    async fn ask(&self, command: &str) -> io::Result<String> {
        // A lock across an await, because requests and replies of two tasks must not interleave.
        let mut connection = self.connection.lock().await;
        // The connection is put back only after a complete reply, so an error or a cancelled future
        // never leaves one behind in the middle of a reply.
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let answer = timeout(LIMIT, exchange(&mut stream, command)).await??;
        *connection = Some(stream);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let addr = self.addr.as_deref().unwrap_or_default();
        Ok(BufReader::new(
            timeout(LIMIT, TcpStream::connect(addr)).await??,
        ))
    }
}

async fn exchange(stream: &mut BufReader<TcpStream>, command: &str) -> io::Result<String> {
    stream.get_mut().write_all(command.as_bytes()).await?;
    let mut answer = String::new();
    if stream.read_line(&mut answer).await? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(answer.trim_end().to_owned())
}
