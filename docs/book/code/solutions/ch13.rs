//! Solutions of chapter 13.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use windlass::net::TcpStream;
use windlass::time::timeout;

async fn read_limited(
    lines: &mut (impl AsyncBufRead + Unpin),
    most: u64,
) -> io::Result<Option<String>> {
    let mut line = String::new();
    // With the newline.
    let count = lines.take(most + 1).read_line(&mut line).await?;
    if count as u64 > most && !line.ends_with('\n') {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((count > 0).then(|| line.trim_end_matches('\n').to_owned()))
}

#[derive(Debug)]
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    async fn request(&mut self, line: &str) -> io::Result<String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(self.address).await?),
        };
        let line = format!("{line}\n");
        stream.get_mut().write_all(line.as_bytes()).await?;
        let mut reply = String::new();
        if stream.read_line(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply = reply.trim_end();
        match reply.strip_suffix(" bye") {
            Some(last) => Ok(last.to_owned()),
            None => {
                self.stream = Some(stream);
                Ok(reply.to_owned())
            }
        }
    }
}

async fn session(mut stream: TcpStream, idle: Duration) -> io::Result<usize> {
    let mut lines = BufReader::new(stream.clone());
    let (mut line, mut count) = (String::new(), 0);
    loop {
        match timeout(idle, lines.read_line(&mut line)).await {
            Err(_) | Ok(Ok(0)) => return Ok(count),
            Ok(read) => drop(read?),
        }
        count += 1;
        stream.write_all(format!("{count}\n").as_bytes()).await?;
        line.clear();
    }
}

#[cfg(test)]
#[path = "../checks/ch13.rs"]
mod checks;
