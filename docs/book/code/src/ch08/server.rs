//! The server of chapter 7, which closes the connections of silent clients.

// ANCHOR: imports
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use super::program::{Timers, block_on, timeout};
use crate::ch06::program::Executor;
use crate::ch07::{program::Reactor, server::Source};
// ANCHOR_END: imports

// ANCHOR: session
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers each number with the sum so far, until the client is silent for too long.
async fn session(
    client: Source<TcpStream>,
    timers: Rc<Timers>,
    total: Rc<Cell<i64>>,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(256, &client.socket);
    let (mut line, mut sum) = (Vec::new(), 0);
    loop {
        let reading = client.wait(|_| input.read_until(b'\n', &mut line));
        match timeout(&timers, PATIENCE, reading).await {
            None => return Err(ErrorKind::TimedOut.into()),
            Some(Ok(0)) => return Ok(()),
            Some(result) => drop(result?),
        }
        // ANCHOR_END: session
        let number = String::from_utf8_lossy(&line);
        let number = number.trim().parse::<i64>().unwrap_or(0);
        sum += number;
        total.set(total.get() + number);
        let reply = format!("{sum}\n").into_bytes();
        let mut sent = 0;
        while sent < reply.len() {
            let write = |mut stream: &TcpStream| stream.write(&reply[sent..]);
            let writing = timeout(&timers, PATIENCE, client.wait(write)).await;
            sent += writing.unwrap_or(Err(ErrorKind::TimedOut.into()))?;
        }
        line.clear();
    }
}

async fn accept(
    listener: Source<TcpListener>,
    timers: Rc<Timers>,
    executor: Rc<Executor>,
) -> io::Result<()> {
    let total = Rc::new(Cell::new(0));
    loop {
        let (stream, _) = listener.wait(TcpListener::accept).await?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let client = Source::new(&listener.reactor, stream)?;
        let session = session(client, timers.clone(), total.clone());
        executor.spawn(async { drop(session.await) });
    }
}

/// Runs the server on this thread.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let reactor = Reactor::new()?;
    let timers = Timers::new(Duration::from_millis(1));
    let executor = Rc::new(Executor::default());
    let listener = Source::new(&reactor, listener)?;
    let accepting = accept(listener, timers.clone(), executor.clone());
    executor.spawn(async { accepting.await.expect("the listener accepts") });
    block_on(&reactor, &timers, executor.run())
}
