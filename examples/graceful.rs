//! A server that stops in good order: it takes no more connections, answers the requests whose
//! first line it has read, and cancels what is left after five seconds.
//!
//! ```text
//! cargo run --example graceful       # an address may follow: -- 0.0.0.0:7008
//! curl localhost:7008/slow           # in a second terminal: an answer after two seconds
//! curl localhost:7008/stop           # in a third: no more connections, but /slow is answered
//! ```

use std::env;
use std::io;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncWriteExt, io::BufReader};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, TaskGroup};
use windlass::time::{sleep, timeout};

/// How long requests may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7008");
    windlass::block_on(async {
        let listener = TcpListener::bind(addr).await?;
        println!("serving on {}", listener.local_addr()?);
        serve(listener, StopSource::new()).await
    })
}

async fn serve(listener: TcpListener, stop: StopSource) -> io::Result<()> {
    // Independent: if the handler of one panics, that is no reason to hang up on the others.
    let (token, connections) = (stop.token(), TaskGroup::independent());
    while let Some(accepted) = token.run(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => connections.spawn(converse(stream, stop.clone())),
            Err(error) => eprintln!("{error}"), // no descriptor left, say
        }
    }
    drop(listener);
    println!("stopping; connections still open: {}", connections.len());
    match timeout(GRACE, connections.close()).await {
        Ok(()) => println!("all have ended"),
        Err(_) => println!("the rest was cancelled"),
    }
    Ok(())
}

async fn converse(stream: TcpStream, stop: StopSource) {
    if let Err(error) = answer_all(stream, &stop).await {
        eprintln!("{error}");
    }
}

/// Answers one request after the other. When it's stopped, it ends between two of them.
async fn answer_all(mut stream: TcpStream, stop: &StopSource) -> io::Result<()> {
    let (token, mut lines) = (stop.token(), BufReader::new(stream.clone()));
    let mut request = String::new();
    while let Some(read) = token.run(lines.read_line(&mut request)).await {
        if read? == 0 {
            return Ok(());
        }
        skip_headers(&mut lines).await?;
        let text = match request.split(' ').nth(1) {
            Some("/slow") => {
                sleep(Duration::from_secs(2)).await;
                "that took a while\n"
            }
            Some("/stop") => {
                stop.stop();
                "stopping\n"
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
