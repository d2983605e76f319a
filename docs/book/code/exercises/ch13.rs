//! Exercises of chapter 13. The tests are in `checks/ch13.rs`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::io::{AsyncBufRead, BufReader};
use windlass::net::TcpStream;
use windlass_book::hole;

/// 13.1: Reads a line without its end, or `None` at the end of the input. A line of more than
/// `most` bytes is an error of the kind `InvalidData`. An endless line must not fill the memory.
async fn read_limited(
    lines: &mut (impl AsyncBufRead + Unpin),
    most: u64,
) -> io::Result<Option<String>> {
    let _ = (lines, most);
    hole("`take` limits how much is read, and one byte more than allowed tells you enough")
}

/// 13.2: A client that survives a reload. It connects when it has to.
#[derive(Debug)]
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Sends a line, and returns the reply. If the reply ends with ` bye`, this word is removed,
    /// and the next request connects again.
    async fn request(&mut self, line: &str) -> io::Result<String> {
        let _ = (self.address, &self.stream, line);
        hole("connect if there is no stream, and keep the stream unless the server says bye")
    }
}

/// 13.3: Answers each line with its number, 1 for the first one, until the client has been silent
/// for `idle` or closes the connection. Returns how many lines there were.
async fn session(stream: TcpStream, idle: Duration) -> io::Result<usize> {
    let _ = (stream, idle);
    hole("`windlass::time::timeout` around each read")
}

#[cfg(test)]
#[path = "../checks/ch13.rs"]
mod checks;
