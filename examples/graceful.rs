//! A server that shuts down gracefully at Ctrl-C or SIGTERM. It stops accepting connections,
//! answers the requests that it has read the first line of, and cancels the rest after five
//! seconds. A second signal exits immediately.
//!
//! ```text
//! cargo run --example graceful       # an address may follow: -- 0.0.0.0:7008
//! curl localhost:7008/slow           # in a second terminal: an answer after two seconds
//! ```
//!
//! Press Ctrl-C in the first terminal while the request is open.

use std::env;
use std::io;
use std::process;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncWriteExt, io::BufReader};
use windlass::net::{TcpListener, TcpStream};
use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken, TaskGroup};
use windlass::time::{sleep, timeout};

/// Time limit for open requests after the first signal.
const GRACE: Duration = Duration::from_secs(5);

/// The signal that `kill` sends. Windows only has another key combination.
#[cfg(unix)]
const STOP: Signal = Signal::TERM;
#[cfg(windows)]
const STOP: Signal = Signal::BREAK;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7008");
    windlass::block_on(async {
        let stop = StopSource::new();
        // Handled first, so that a signal during the start is handled too.
        let signals = Signals::new([Signal::INT, STOP])?;
        let _signals = windlass::spawn(handle_signals(signals, stop.clone()));
        let listener = TcpListener::bind(addr).await?;
        println!("serving on {}", listener.local_addr()?);
        serve(listener, stop.token()).await
    })
}

/// The first signal starts the shutdown, the second one exits.
async fn handle_signals(mut signals: Signals, stop: StopSource) -> io::Result<()> {
    let signal = signals.recv().await?;
    println!("{signal:?}: shutting down");
    stop.stop();
    let signal = signals.recv().await?;
    process::exit(128 + signal.as_raw()) // the exit status of a killed process
}

pub(crate) async fn serve(listener: TcpListener, stop: StopToken) -> io::Result<()> {
    // Independent, because a panic of one handler must not end the other connections.
    let connections = TaskGroup::independent();
    while let Some(accepted) = stop.run(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => connections.spawn(converse(stream, stop.clone())),
            Err(error) => eprintln!("{error}"), // for example, out of file descriptors
        }
    }
    drop(listener);
    println!("open connections: {}", connections.len());
    match timeout(GRACE, connections.close()).await {
        Ok(()) => println!("all have ended"),
        Err(_) => println!("cancelled the rest"),
    }
    Ok(())
}

async fn converse(stream: TcpStream, stop: StopToken) {
    if let Err(error) = answer_all(stream, &stop).await {
        eprintln!("{error}");
    }
}

/// Answers one request after the other, until stopped between two of them.
async fn answer_all(mut stream: TcpStream, stop: &StopToken) -> io::Result<()> {
    let mut lines = BufReader::new(stream.clone());
    let mut request = String::new();
    while let Some(read) = stop.run(lines.read_line(&mut request)).await {
        if read? == 0 {
            return Ok(());
        }
        skip_headers(&mut lines).await?;
        let text = match request.split(' ').nth(1) {
            Some("/slow") => {
                sleep(Duration::from_secs(2)).await;
                "that took a while\n"
            }
            _ => "ahoy\n",
        };
        let length = text.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + text).as_bytes()).await?;
        request.clear();
    }
    Ok(())
}

async fn skip_headers(lines: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    while lines.read_line(&mut line).await? > 2 {
        line.clear();
    }
    Ok(())
}
