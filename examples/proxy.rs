//! A TCP proxy that forwards connections to a server, in both directions.
//!
//! ```text
//! cargo run --example echo           # some server, on port 7007
//! cargo run --example proxy          # in front of it; or: -- 0.0.0.0:7008 example.com:80
//! nc localhost 7008
//! ```
//!
//! On Linux, large transfers are spliced within the kernel, and idle connections hold no buffer. A
//! peer that has closed its sending side (`nc -N`) still receives the response.

use std::io;

use windlass::io::copy_bidirectional;
use windlass::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let here = args.next().unwrap_or("127.0.0.1:7008".into());
    let there = args.next().unwrap_or("127.0.0.1:7007".into());
    windlass::block_on(async {
        let listener = TcpListener::bind(&*here).await?;
        println!("from {} to {there}", listener.local_addr()?);
        loop {
            let (client, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // for example, out of file descriptors; the other connections continue
                    eprintln!("{error}");
                    continue;
                }
            };
            let there = there.clone();
            windlass::spawn(async move {
                match relay(&client, &there).await {
                    Ok((sent, received)) => {
                        println!("{peer}: {sent} bytes to the server, {received} back")
                    }
                    Err(error) => eprintln!("{peer}: {error}"),
                }
            })
            .detach();
        }
    })
}

pub(crate) async fn relay(client: &TcpStream, there: &str) -> io::Result<(u64, u64)> {
    let server = TcpStream::connect(there).await?;
    copy_bidirectional(client, &server).await
}
