//! A server that adds up the numbers of one client.

// ANCHOR: imports
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
// ANCHOR_END: imports

// ANCHOR: session
/// Reads one number per line, and answers each with the sum so far.
pub fn session(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    let mut sum = 0;
    while lines.read_line(&mut line)? > 0 {
        sum += line.trim().parse::<i64>().unwrap_or(0);
        let reply = format!("{sum}\n");
        (&stream).write_all(reply.as_bytes())?;
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session
