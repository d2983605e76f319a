//! An echo server that holds no buffer for connections that are silent.
//!
//! ```text
//! cargo run --example echo           # an address may follow: -- 0.0.0.0:7007
//! nc localhost 7007                  # in a second terminal: type lines, end with Ctrl-D
//! ```
//!
//! It waits until there is something to read, and only then takes the one buffer that all
//! connections share. Between two `.await`s nothing else runs on this thread, so the buffer is
//! free again by the time that another task wants it.

use std::cell::RefCell;
use std::env;
use std::io::{self, ErrorKind::WouldBlock};
use std::rc::Rc;

use futures::AsyncWriteExt;
use windlass::net::{TcpListener, TcpStream};

type Buffer = Rc<RefCell<Vec<u8>>>;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7007");
    windlass::block_on(async {
        let listener = TcpListener::bind(addr).await?;
        println!("echoing on {}", listener.local_addr()?);
        let buffer: Buffer = Rc::new(RefCell::new(vec![0; 64 * 1024]));
        loop {
            // An error here, such as no descriptor left, ends no other connection. `accept` itself
            // takes a short rest after it.
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            };
            let buffer = buffer.clone();
            let connection = async move {
                if let Err(error) = echo(stream, &buffer).await {
                    eprintln!("{peer}: {error}");
                }
            };
            windlass::spawn(connection).detach();
        }
    })
}

async fn echo(mut stream: TcpStream, buffer: &Buffer) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let left = match echo_at_once(&stream, &mut buffer.borrow_mut()) {
            Ok(None) => return Ok(()),
            Ok(Some(left)) => left,
            Err(error) if error.kind() == WouldBlock => continue,
            Err(error) => return Err(error),
        };
        stream.write_all(&left).await?; // nearly always nothing
    }
}

/// Reads and writes without waiting. Hands out a copy of what the socket had no room for, which is
/// nearly always empty; `None` at the end of the connection.
fn echo_at_once(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let read = stream.try_read(buffer)?;
    if read == 0 {
        return Ok(None);
    }
    let written = match stream.try_write(&buffer[..read]) {
        Ok(written) => written,
        Err(error) if error.kind() == WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok(Some(buffer[written..read].to_vec()))
}
