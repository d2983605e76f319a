//! The bug is that each read is taken for a line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

// ANCHOR: read
struct Connection {
    stream: TcpStream,
    sum: i64,
}

impl Connection {
    /// Returns false after the end of the connection.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 1024];
        let count = self.stream.read(&mut chunk)?;
        let text = String::from_utf8_lossy(&chunk[..count]);
        self.sum += text.trim().parse::<i64>().unwrap_or(0);
        let reply = format!("{}\n", self.sum);
        self.stream.write_all(reply.as_bytes())?;
        Ok(count > 0)
    }
}
// ANCHOR_END: read

/// Sends a number whole, in two parts, and two numbers at once.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<()> {
        let (stream, _) = listener.accept()?;
        let mut connection = Connection { stream, sum: 0 };
        while connection.read()? {}
        Ok(())
    });
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut replies = BufReader::new(&stream);
    let mut reply = String::new();

    (&stream).write_all(b"12\n")?;
    replies.read_line(&mut reply)?;
    println!("12 in one packet: the sum is {}", reply.trim());

    (&stream).write_all(b"1")?;
    replies.read_line(&mut reply)?;
    (&stream).write_all(b"2\n")?;
    reply.clear();
    replies.read_line(&mut reply)?;
    println!("12 in two packets: the sum is {}, and not 24", reply.trim());

    (&stream).write_all(b"10\n20\n")?;
    reply.clear();
    replies.read_line(&mut reply)?;
    println!(
        "10 and 20 in one packet: the sum is {}, and not 54",
        reply.trim()
    );
    drop(replies);
    drop(stream);
    // A client that has gone is an error of the last write.
    server.join().expect("the server does not panic").ok();
    Ok(())
}
