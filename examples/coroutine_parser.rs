//! A parser for chunks of input from a socket, cut at arbitrary positions.
//!
//! ```text
//! cargo run --example coroutine_parser
//! ```
//!
//! The parser is written as if all of its input were present, and reads a line by calling a
//! function. When the bytes of a chunk run out, it suspends, several calls deep, until it is
//! resumed with the next chunk. It does no I/O, so it can be tested without sockets. The format is
//! the one of Redis, in which `*2` starts a list of two, `+aye` is a word, and `:7` is a number.

use std::io;

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::coroutine::State::{Complete, Yielded};
use windlass::coroutine::{Co, Coroutine};
use windlass::net::{TcpListener, TcpStream};

const SENT: &[u8] = b"*3\r\n+haul\r\n:7\r\n*2\r\n+ropes\r\n+now\r\n";

enum Event {
    Found(String),
    /// Resumed with the next chunk. An empty chunk is the end of the input.
    NeedInput,
}

struct Parser<'p, 'x> {
    unread: Vec<u8>,
    co: &'p mut Co<'x, Vec<u8>, Event>,
}

impl Parser<'_, '_> {
    async fn value(&mut self, depth: usize) -> Result<(), String> {
        let (indent, line) = ("  ".repeat(depth), self.line().await?);
        let (kind, rest) = line.split_at_checked(1).ok_or("an empty line")?;
        let mut members = 0;
        let found = match kind {
            "*" => {
                members = rest.parse().map_err(|_| format!("not a number: {rest}"))?;
                format!("{indent}a list of {members}")
            }
            "+" => format!("{indent}the word {rest:?}"),
            ":" => format!("{indent}the number {rest}"),
            _ => return Err(format!("not a value: {line}")),
        };
        self.co.yield_(Event::Found(found)).await;
        for _ in 0..members {
            Box::pin(self.value(depth + 1)).await?;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| "not a text".into());
            }
            let chunk = self.co.yield_(Event::NeedInput).await;
            if chunk.is_empty() {
                return Err("the input ends".into());
            }
            self.unread.extend(chunk);
        }
    }
}

async fn receive(mut stream: TcpStream) -> io::Result<()> {
    let mut parser = Coroutine::new(async |co, unread| Parser { unread, co }.value(0).await);
    let mut chunk = Vec::new();
    loop {
        match parser.resume(std::mem::take(&mut chunk)) {
            Yielded(Event::Found(found)) => println!("{found}"),
            Yielded(Event::NeedInput) => {
                let mut buffer = [0; 11]; // so small that chunks end within lines
                let length = stream.read(&mut buffer).await?;
                chunk = buffer[..length].to_vec();
                println!("{:30}{:?}", "", String::from_utf8_lossy(&chunk));
            }
            Complete(end) => return end.map_err(io::Error::other),
        }
    }
}

fn main() -> io::Result<()> {
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        client.write_all(SENT).await?;
        let (stream, _) = listener.accept().await?;
        receive(stream).await
    })
}
