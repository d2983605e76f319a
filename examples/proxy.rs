//! A TCP proxy: what comes in goes to a server, and its answers back.
//!
//! ```sh
//! cargo run --example echo -- 127.0.0.1:7000                     # some server
//! cargo run --example proxy -- 127.0.0.1:7001 127.0.0.1:7000     # in front of it
//! nc 127.0.0.1 7001
//! ```
//!
//! Large transfers don't come into the program on Linux, and silent connections hold no buffer.
//! A peer that has said all it had to say (`nc -N`) still gets its answer.

use std::io;
use windlass::io::copy_bidirectional;
use windlass::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let here = args.next().unwrap_or("127.0.0.1:7001".into());
    let there = args.next().unwrap_or("127.0.0.1:7000".into());
    windlass::block_on(async {
        let listener = TcpListener::bind(here.as_str()).await?;
        println!("{} -> {there}", listener.local_addr()?);
        loop {
            let (client, peer) = listener.accept().await?;
            let there = there.clone();
            windlass::spawn(async move {
                match relay(&client, &there).await {
                    Ok((asked, answered)) => println!("{peer}: {asked} there, {answered} back"),
                    Err(error) => eprintln!("{peer}: {error}"),
                }
            })
            .detach();
        }
    })
}

async fn relay(client: &TcpStream, there: &str) -> io::Result<(u64, u64)> {
    let server = TcpStream::connect(there).await?;
    copy_bidirectional(client, &server).await
}
