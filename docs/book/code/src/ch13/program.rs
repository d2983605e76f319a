//! The server on all cores, with limits, a reload and a graceful shutdown.

// ANCHOR: imports
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use windlass::net::TcpStream;
use windlass::task::TaskGroup;
use windlass::time::timeout;
use windlass::workers::{Parent, Party, Worker};

use crate::ch11::program::is_prime;
// ANCHOR_END: imports

// ANCHOR: run
/// Runs a number of processes, each of which calls `serve`.
pub fn run(address: &str, count: usize) -> io::Result<()> {
    windlass::workers() // `main` runs in each process, up to here
        .processes()
        .count(count)
        .drain_limit(Duration::from_secs(5))
        .listen(address)?
        .parent(add_totals)
        .run(serve)
}
// ANCHOR_END: run

// ANCHOR: total
/// Runs in the parent. It adds the totals of the workers, and answers with the total of all.
async fn add_totals(mut parent: Parent) {
    let mut total = 0;
    loop {
        let message = parent.recv().await;
        total += parse(&String::from_utf8_lossy(&message.body));
        if let Party::Worker(index) = message.from {
            let reply = total.to_string();
            parent.send(index, reply).await.expect("it is short");
        }
    }
}

/// Sends what this worker has added since the last time, and receives the total of all.
async fn total_of_all(worker: &Worker, total: &Cell<i64>) -> io::Result<i64> {
    worker.send(Party::Parent, total.take().to_string()).await?;
    let message = worker.recv().await?;
    Ok(parse(&String::from_utf8_lossy(&message.body)))
}
// ANCHOR_END: total

fn parse(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

// ANCHOR: serve
/// Accepts clients until the worker is stopped, and then waits for those that are left.
pub async fn serve(worker: Worker) -> io::Result<()> {
    let total = Rc::new(Cell::new(0));
    let mut clients = TaskGroup::independent().limit(10_000);
    loop {
        clients.room().await;
        let Some((stream, _)) = worker.listener().accept().await? else {
            break;
        };
        let session = session(stream, worker.clone(), total.clone());
        clients.spawn(async { drop(session.await) });
    }
    clients.close().await;
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: session
/// How long a client may be silent, or leave its replies unread.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers a client until it tries our patience, or the worker is stopped.
async fn session(mut stream: TcpStream, worker: Worker, total: Rc<Cell<i64>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.clone());
    let (mut line, mut sum) = (String::new(), 0);
    loop {
        let mut limited = (&mut lines).take(64);
        let read = limited.read_line(&mut line);
        if timeout(PATIENCE, read).await?? == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            return Err(ErrorKind::InvalidData.into()); // longer than any number
        }
        worker.count_request();
        let mut reply = match line.trim() {
            "process" => std::process::id().to_string(),
            "prime" => is_prime(sum).await.to_string(),
            "total" => total_of_all(&worker, &total).await?.to_string(),
            number => {
                let number = parse(number);
                total.set(total.get() + number);
                sum += number;
                sum.to_string()
            }
        };
        let is_last = worker.stop_token().is_stopped();
        reply.push_str(if is_last { " bye\n" } else { "\n" });
        timeout(PATIENCE, stream.write_all(reply.as_bytes())).await??;
        if is_last {
            return Ok(());
        }
        line.clear();
    }
}
// ANCHOR_END: session
