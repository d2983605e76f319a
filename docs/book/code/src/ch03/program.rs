//! A server with one thread and a loop.

// ANCHOR: imports
use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use crate::server::count_call;
// ANCHOR_END: imports

// ANCHOR: connection
/// The variables of a session and its place in the program, which a thread had on its stack.
struct Connection {
    stream: TcpStream,
    sum: i64,
    /// Received bytes that are not a whole line yet.
    input: Vec<u8>,
    /// Replies that the socket had no space for.
    output: Vec<u8>,
}
// ANCHOR_END: connection

// ANCHOR: serve
const LISTENER: u64 = u64::MAX;

/// Waits for events, and handles each of them without waiting.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let key = EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, key, EventFlags::IN)?;
    let (mut connections, mut next, mut total) = (HashMap::new(), 0, 0);
    let mut events: Vec<Event> = Vec::with_capacity(64);
    loop {
        count_call();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let number = event.data.u64();
            if number == LISTENER {
                let (stream, _) = listener.accept()?;
                let connection = Connection::new(stream)?;
                let key = EventData::new_u64(next);
                epoll::add(&epoll, &connection.stream, key, EventFlags::IN)?;
                connections.insert(next, connection);
                next += 1;
                continue;
            }
            let connection = connections.get_mut(&number).expect("it is registered");
            match connection.advance(&mut total) {
                Ok(None) => {}
                Ok(Some(interest)) => {
                    epoll::modify(&epoll, &connection.stream, event.data, interest)?;
                }
                Err(_) => drop(connections.remove(&number)),
            }
        }
    }
}
// ANCHOR_END: serve

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            sum: 0,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    // ANCHOR: advance
    /// Goes on with the session. Returns the event to wait for, if it is another one than before.
    fn advance(&mut self, total: &mut i64) -> io::Result<Option<EventFlags>> {
        let was_writing = !self.output.is_empty();
        if !was_writing {
            self.read(total)?;
        }
        if !self.output.is_empty() {
            count_call();
            match self.stream.write(&self.output) {
                Err(error) if error.kind() == WouldBlock => {}
                sent => drop(self.output.drain(..sent?)),
            }
        }
        Ok(match (was_writing, !self.output.is_empty()) {
            (false, true) => Some(EventFlags::OUT),
            (true, false) => Some(EventFlags::IN),
            _ => None,
        })
    }
    // ANCHOR_END: advance

    // ANCHOR: read
    fn read(&mut self, total: &mut i64) -> io::Result<()> {
        let mut chunk = [0; 1024];
        count_call();
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(&chunk[..count]);
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let number = parse(&line);
            *total += number;
            self.sum += number;
            self.output.extend(format!("{}\n", self.sum).bytes());
        }
        Ok(())
    }
    // ANCHOR_END: read
}

fn parse(line: &[u8]) -> i64 {
    String::from_utf8_lossy(line).trim().parse().unwrap_or(0)
}
