//! The bug is that threads read the total, and write it back later.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::thread;

const CLIENTS: i64 = 20;
const REQUESTS: i64 = 500;

// ANCHOR: session
fn session(stream: TcpStream, total: &AtomicI64) -> io::Result<()> {
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let number = line.trim().parse::<i64>().unwrap_or(0);
        let before = total.load(SeqCst);
        let reply = format!("{}\n", before + number);
        (&stream).write_all(reply.as_bytes())?;
        total.store(before + number, SeqCst);
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session

/// Sends ones from several clients, and compares the total with their number.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let total = AtomicI64::new(0);
    thread::scope(|scope| -> io::Result<()> {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(scope.spawn(move || client(TcpStream::connect(address)?)));
            let (stream, _) = listener.accept()?;
            let total = &total;
            scope.spawn(move || session(stream, total));
        }
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        Ok(())
    })?;
    let (sent, counted) = (CLIENTS * REQUESTS, total.into_inner());
    println!("{CLIENTS} clients sent {sent} ones");
    println!("the total is {counted}");
    println!("{} of them are lost", sent - counted);
    Ok(())
}

fn client(stream: TcpStream) -> io::Result<()> {
    let mut replies = BufReader::new(&stream);
    let mut reply = String::new();
    for _ in 0..REQUESTS {
        (&stream).write_all(b"1\n")?;
        replies.read_line(&mut reply)?;
    }
    Ok(())
}
