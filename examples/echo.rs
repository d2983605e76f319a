//! An echo server that holds no buffer for idle connections.
//!
//! ```text
//! cargo run --example echo           # an address may follow: -- 0.0.0.0:7007
//! nc localhost 7007                  # in a second terminal: type lines, end with Ctrl-D
//! ```
//!
//! It waits until a socket is readable, and only then uses the one buffer that all connections
//! share. No other task runs between two `.await`s, so the buffer is free again when another task
//! needs it.

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
            // An error, for example because the process is out of file descriptors, must not end
            // the other connections. The next call of `accept` pauses before it retries.
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

pub(crate) async fn echo(mut stream: TcpStream, buffer: &Buffer) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let left = match echo_at_once(&stream, &mut buffer.borrow_mut()) {
            Ok(None) => return Ok(()),
            Ok(Some(left)) => left,
            Err(error) if error.kind() == WouldBlock => continue,
            Err(error) => return Err(error),
        };
        stream.write_all(&left).await?; // usually empty
    }
}

/// Reads and writes without waiting. Returns a copy of the bytes that the socket had no space for,
/// which is usually empty, or `None` at the end of the connection.
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
