//! Exercises of chapter 7. The tests are in `checks/ch07.rs`.

use std::io;
use std::net::UdpSocket;
use std::sync::{Condvar, Mutex};
use std::task::Waker;

use windlass_book::{ch07::server::Source, hole};

/// 7.1: The waiters of one socket. A task may wait for input while another one waits for space.
#[derive(Debug, Default)]
struct Waiters {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Waiters {
    /// Takes the wakers that an event is for. Calls none of them, because a waker is code of
    /// somebody else, and the caller has borrowed the waiters.
    fn take(&mut self, is_readable: bool, is_writable: bool) -> Vec<Waker> {
        let _ = (is_readable, is_writable, &self.reader, &self.writer);
        hole("take the reader, the writer, both, or neither")
    }
}

/// 7.2: A place for one thread to park. It is what `thread::park` is made of.
#[derive(Debug, Default)]
struct Parker {
    has_token: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    /// Waits until there is a token, and takes it.
    fn park(&self) {
        let _ = (&self.has_token, &self.changed);
        hole("check for the token and wait, without a gap between the two")
    }

    /// Leaves a token, and notifies the thread that waits.
    fn unpark(&self) {
        hole("leave the token first")
    }
}

/// 7.3: Answers some packets, each with the sum of all numbers so far. A packet of UDP arrives
/// whole or not at all, so it needs no buffer.
async fn answer(source: &Source<UdpSocket>, packets: usize) -> io::Result<()> {
    let _ = (source, packets);
    hole("wait for `recv_from`, and then for `send_to`")
}

#[cfg(test)]
#[path = "../checks/ch07.rs"]
mod checks;
