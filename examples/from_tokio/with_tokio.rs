//! Sums numbers for its clients, with tokio's idioms.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Answers until `stop` is true. Each connection then ends after its current line.
pub(crate) async fn serve(
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let sum = Arc::new(Mutex::new(0));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            Some(_) = connections.join_next() => continue, // else the outputs would pile up
            _ = stop.wait_for(|&stop| stop) => break,
        };
        connections.spawn(converse(stream, sum.clone(), stop.clone()));
    }
    connections.join_all().await;
    Ok(())
}

async fn converse(mut stream: TcpStream, sum: Arc<Mutex<i64>>, mut stop: watch::Receiver<bool>) {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    loop {
        let line = tokio::select! {
            line = timeout(Duration::from_secs(10), lines.next_line()) => line,
            _ = stop.wait_for(|&stop| stop) => break,
        };
        let Ok(Ok(Some(line))) = line else { break };
        let Ok(number) = line.parse::<i64>() else {
            break;
        };
        let total = {
            let mut sum = sum.lock().unwrap(); // not held across an await
            *sum += number;
            *sum
        };
        if writer
            .write_all(format!("{total}\n").as_bytes())
            .await
            .is_err()
        {
            break;
        }
    }
    let _ = writer.shutdown().await;
}

/// Sends the numbers and returns the last sum.
pub(crate) async fn add(addr: SocketAddr, numbers: &[i64]) -> io::Result<i64> {
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    let mut line = String::new();
    for number in numbers {
        stream.write_all(format!("{number}\n").as_bytes()).await?;
        line.clear();
        stream.read_line(&mut line).await?;
    }
    stream.shutdown().await?;
    line.trim().parse().map_err(io::Error::other)
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(listener, stopped));
    println!("the sum is {}", add(addr, &[1, 2, 3]).await?);
    let _ = stop.send(true);
    server.await?
}
