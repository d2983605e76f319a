//! The server with an end. It closes silent connections, stops on request, and cancels the rest.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopToken, TaskGroup};
use windlass::time::{sleep, timeout};

// ANCHOR: limits
/// A client that is silent for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(60);
/// Sessions that take longer than this after a stop are cancelled.
const GRACE: Duration = Duration::from_secs(5);
/// The time that a request takes, as if it asked a database.
pub const WORK: Duration = Duration::from_millis(50);
// ANCHOR_END: limits

// ANCHOR: serve
/// Serves until it is stopped. Requests that a session has read are answered.
pub async fn serve(listener: TcpListener, stop: StopToken) -> io::Result<()> {
    let sessions = TaskGroup::independent();
    while let Some(accepted) = stop.run(listener.accept()).await {
        let (stream, _) = accepted?;
        let stop = stop.clone();
        sessions.spawn(async move {
            // An error of one client is no error of the server.
            session(stream, stop).await.ok();
        });
    }
    drop(listener);
    timeout(GRACE, sessions.close()).await.ok();
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: session
/// Answers numbers until the client leaves, is silent for too long, or the server stops.
async fn session(stream: TcpStream, stop: StopToken) -> io::Result<()> {
    let mut writer = stream.clone();
    let mut lines = BufReader::new(stream).lines();
    let mut sum = 0;
    while let Some(Ok(Some(line))) = stop.run(timeout(SILENCE, lines.next())).await {
        sum += line?.trim().parse::<i64>().unwrap_or(0);
        sleep(WORK).await;
        writer.write_all(format!("{sum}\n").as_bytes()).await?;
    }
    writer.close().await
}
// ANCHOR_END: session

// ANCHOR: gather
/// Sends a number to each server, and adds the sums that they answer.
pub async fn gather(servers: &[SocketAddr], number: i64) -> io::Result<i64> {
    let mut requests = TaskGroup::new();
    for &server in servers {
        requests.spawn(ask(server, number));
    }
    let mut sum = 0;
    while let Some(answer) = requests.join_next().await {
        sum += answer?;
    }
    Ok(sum)
}
// ANCHOR_END: gather

async fn ask(server: SocketAddr, number: i64) -> io::Result<i64> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(format!("{number}\n").as_bytes()).await?;
    stream.close().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer.trim().parse().map_err(io::Error::other)
}

// ANCHOR: harness
/// Polls a future at most this many times, and then drops it. Returns its output if it has ended.
pub fn cancel_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}
// ANCHOR_END: harness
