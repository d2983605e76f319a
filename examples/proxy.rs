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
//!
//! At Ctrl-C or SIGTERM the proxy stops accepting connections, and cancels those that are still
//! open after five seconds.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use windlass::io::copy_bidirectional;
use windlass::net::{TcpListener, TcpStream};
use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken, TaskGroup};
use windlass::time::timeout;

/// Connections at a time, with two descriptors each (`ulimit -n`). Further clients wait in the
/// backlog of the listener.
const CONNECTIONS: usize = 10_000;

/// Time limit for the connection to the server.
const CONNECT: Duration = Duration::from_secs(5);

/// Time limit for open connections after the signal.
const GRACE: Duration = Duration::from_secs(5);

/// The signal that `kill` sends. Windows only has another key combination.
#[cfg(unix)]
const STOP: Signal = Signal::TERM;
#[cfg(windows)]
const STOP: Signal = Signal::BREAK;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let here = args.next().unwrap_or("127.0.0.1:7008".into());
    let there = args.next().unwrap_or("127.0.0.1:7007".into());
    windlass::block_on(async {
        let (stop, mut signals) = (StopSource::new(), Signals::new([Signal::INT, STOP])?);
        let token = stop.token();
        let _signals = windlass::spawn(async move {
            let _ = signals.recv().await;
            stop.stop();
        });
        let listener = TcpListener::bind(&*here).await?;
        println!("from {} to {there}", listener.local_addr()?);
        serve(listener, there, token).await;
        Ok(())
    })
}

async fn serve(listener: TcpListener, there: String, stop: StopToken) {
    // Independent, because a panic in one connection must not end the others.
    let mut connections = TaskGroup::independent().limit(CONNECTIONS);
    loop {
        let accept = async {
            connections.room().await;
            listener.accept().await
        };
        match stop.run(accept).await {
            Some(Ok((client, peer))) => connections.spawn(forward(client, peer, there.clone())),
            Some(Err(error)) => eprintln!("{error}"), // for example, out of file descriptors
            None => break,
        }
    }
    drop(listener);
    if timeout(GRACE, connections.close()).await.is_err() {
        println!("cancelled the rest");
    }
}

async fn forward(client: TcpStream, peer: SocketAddr, there: String) {
    match relay(&client, &there).await {
        Ok((sent, received)) => println!("{peer}: {sent} bytes to the server, {received} back"),
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

pub(crate) async fn relay(client: &TcpStream, there: &str) -> io::Result<(u64, u64)> {
    let server = timeout(CONNECT, TcpStream::connect(there)).await??;
    copy_bidirectional(client, &server).await
}
