//! Sockets that wait through the reactor, and the server of chapter 2 with a task for each client.

#![allow(missing_debug_implementations)]

// ANCHOR: imports
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, ErrorKind::WouldBlock, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::task::Poll;

use polling::{Event, PollMode};

use super::program::Reactor;
use crate::ch06::program::Executor;
// ANCHOR_END: imports
use super::steps::mark;

// ANCHOR: source
/// A nonblocking socket that is registered with a reactor.
pub struct Source<S: AsFd> {
    pub(crate) socket: S,
    key: usize,
    pub(crate) reactor: Rc<Reactor>,
}

impl<S: AsFd + AsRawFd> Source<S> {
    /// Registers the socket, for reading and for writing.
    pub fn new(reactor: &Rc<Reactor>, socket: S) -> io::Result<Source<S>> {
        let key = reactor.next.replace(reactor.next.get() + 1);
        let poller = &reactor.park.poller;
        // SAFETY: `drop` removes the socket from the poller before it is closed.
        unsafe { poller.add_with_mode(&socket, Event::all(key), PollMode::Edge)? };
        let reactor = reactor.clone();
        Ok(Source {
            socket,
            key,
            reactor,
        })
    }

    /// Tries an operation, and waits for an event as long as it would block.
    pub async fn wait<T>(&self, mut operation: impl FnMut(&S) -> io::Result<T>) -> io::Result<T> {
        poll_fn(|context| {
            mark("try");
            match operation(&self.socket) {
                Err(error) if error.kind() == WouldBlock => {
                    mark("blocked");
                    let waker = context.waker().clone();
                    self.reactor.waiting.borrow_mut().insert(self.key, waker);
                    mark("kept");
                    Poll::Pending
                }
                result => {
                    mark("done");
                    Poll::Ready(result)
                }
            }
        })
        .await
    }
}

impl<S: AsFd> Drop for Source<S> {
    fn drop(&mut self) {
        self.reactor.waiting.borrow_mut().remove(&self.key);
        self.reactor.park.poller.delete(&self.socket).ok();
    }
}
// ANCHOR_END: source

// ANCHOR: session
/// Answers each number with the sum so far.
pub async fn session(client: Source<TcpStream>, total: Rc<Cell<i64>>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(256, &client.socket);
    let (mut line, mut sum) = (Vec::new(), 0);
    // A part of a line stays in `line` while the client is awaited.
    while client.wait(|_| input.read_until(b'\n', &mut line)).await? > 0 {
        let number = String::from_utf8_lossy(&line);
        let number = number.trim().parse::<i64>().unwrap_or(0);
        sum += number;
        total.set(total.get() + number);
        let reply = format!("{sum}\n").into_bytes();
        let mut sent = 0;
        while sent < reply.len() {
            let write = |mut stream: &TcpStream| stream.write(&reply[sent..]);
            sent += client.wait(write).await?;
        }
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session

// ANCHOR: serve
/// Accepts clients, and spawns a session for each.
async fn accept(listener: Source<TcpListener>, executor: Rc<Executor>) -> io::Result<()> {
    let total = Rc::new(Cell::new(0));
    loop {
        let (stream, _) = listener.wait(TcpListener::accept).await?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let session = session(Source::new(&listener.reactor, stream)?, total.clone());
        executor.spawn(async { drop(session.await) });
    }
}

/// Runs the server on this thread.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let reactor = Reactor::new()?;
    let executor = Rc::new(Executor::default());
    let accepting = accept(Source::new(&reactor, listener)?, executor.clone());
    executor.spawn(async { accepting.await.expect("the listener accepts") });
    reactor.block_on(executor.run())
}
// ANCHOR_END: serve
