//! The bug is a server that finishes with one client before it begins with the next.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::program::session;
use crate::measure::thread_cpu;

// ANCHOR: serve
/// Serves one client after the other.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming().take(2) {
        session(stream?)?;
    }
    Ok(())
}
// ANCHOR_END: serve

/// Connects two clients, of which the first is silent.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<_> {
        serve(&listener)?;
        Ok(thread_cpu())
    });

    let first = TcpStream::connect(address)?;
    println!("client 1 connects and is silent");
    let mut second = TcpStream::connect(address)?;
    println!("client 2 connects and sends 5");
    let start = Instant::now();
    second.write_all(b"5\n")?;
    second.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut reply = [0; 2];
    if second.read_exact(&mut reply).is_err() {
        println!("client 2 has no reply after 500 ms");
    }
    drop(first);
    println!("client 1 leaves");
    second.set_read_timeout(Some(Duration::from_secs(10)))?;
    second.read_exact(&mut reply)?;
    println!(
        "client 2 receives {}",
        String::from_utf8_lossy(&reply).trim()
    );
    drop(second);
    let waited = start.elapsed();
    let cpu = server.join().expect("the server does not panic")?;
    let used = 100.0 * cpu.as_secs_f64() / waited.as_secs_f64();
    println!("the server's thread used {used:.2} % of that time");
    Ok(())
}
