//! The loop of chapter 3, in which each session is a coroutine.

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

// ANCHOR: imports
use windlass::coroutine::{Co, Coroutine, State};
// ANCHOR_END: imports

use crate::server::count_call;

// ANCHOR: session
/// Receives lines, and yields a reply to each.
pub async fn session(co: &mut Co<'_, String, String>, first: String) {
    let mut line = first;
    let mut sum = 0;
    while line != "quit" {
        sum += line.parse::<i64>().unwrap_or(0);
        line = co.yield_(format!("{sum}\n")).await;
    }
}
// ANCHOR_END: session

// ANCHOR: connection
struct Connection {
    stream: TcpStream,
    session: Coroutine<'static, String, String, ()>,
    input: Vec<u8>,
    output: Vec<u8>,
}
// ANCHOR_END: connection

const LISTENER: u64 = u64::MAX;

/// Waits for events, and handles each of them without waiting.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let key = EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, key, EventFlags::IN)?;
    let (mut connections, mut next) = (HashMap::new(), 0);
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
            match connection.advance() {
                Ok(None) => {}
                Ok(Some(interest)) => {
                    epoll::modify(&epoll, &connection.stream, event.data, interest)?;
                }
                Err(_) => drop(connections.remove(&number)),
            }
        }
    }
}

impl Connection {
    // ANCHOR: new
    fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Connection {
            stream,
            session: Coroutine::new(session),
            input,
            output,
        })
    }
    // ANCHOR_END: new

    /// Goes on with the session. Returns the event to wait for, if it is another one than before.
    fn advance(&mut self) -> io::Result<Option<EventFlags>> {
        let was_writing = !self.output.is_empty();
        if !was_writing {
            self.read()?;
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

    // ANCHOR: read
    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 1024];
        count_call();
        let count = self.stream.read(&mut chunk)?;
        self.input.extend_from_slice(&chunk[..count]);
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            match self.session.resume(line) {
                State::Yielded(reply) => self.output.extend(reply.bytes()),
                State::Complete(()) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        if count > 0 {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    // ANCHOR_END: read
}
