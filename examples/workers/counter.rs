//! A number that all workers, on all machines, have in common: it's in Redis. Workers share
//! nothing, so that is somewhere else, in a system that is made for it.
//!
//! This speaks as much of Redis' protocol as a counter needs, over one connection for each worker.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use windlass::net::TcpStream;
use windlass::sync::Mutex;
use windlass::time::timeout;

/// How long Redis may take.
const LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Counter {
    /// Where Redis is; None counts here, for this worker alone.
    addr: Option<String>,
    /// None until it's needed, and after an error.
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

    /// Counts one more: how many it makes.
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

    /// Whether Redis answers.
    pub(crate) async fn check(&self) -> io::Result<()> {
        match self.addr {
            Some(_) => self.ask("PING\r\n").await.map(drop),
            None => Ok(()),
        }
    }

    async fn ask(&self, command: &str) -> io::Result<String> {
        // A lock across an await: questions and answers must not get mixed up.
        let mut connection = self.connection.lock().await;
        // It's put back after a whole answer only, so an error, or a future that is dropped, leaves
        // none behind that is in the middle of something.
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
