//! A server with a thread for each client.

// ANCHOR: imports
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
// ANCHOR_END: imports

// ANCHOR: serve
/// Accepts clients, and starts a thread for each.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let total = Arc::new(Mutex::new(0));
    for stream in listener.incoming() {
        let (stream, total) = (stream?, total.clone());
        thread::Builder::new().spawn(move || session(stream, &total))?;
    }
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: session
/// Answers each number with the client's sum, and adds it to the total of all clients.
pub fn session(stream: TcpStream, total: &Mutex<i64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    let mut sum = 0;
    while lines.read_line(&mut line)? > 0 {
        let number = line.trim().parse::<i64>().unwrap_or(0);
        *total.lock().unwrap() += number;
        sum += number;
        let reply = format!("{sum}\n");
        (&stream).write_all(reply.as_bytes())?;
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session
