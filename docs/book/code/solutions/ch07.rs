//! Solutions of chapter 7.

use std::io;
use std::net::UdpSocket;
use std::sync::{Condvar, Mutex};
use std::task::Waker;

use windlass_book::ch07::server::Source;

#[derive(Debug, Default)]
struct Waiters {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Waiters {
    fn take(&mut self, is_readable: bool, is_writable: bool) -> Vec<Waker> {
        let reader = self.reader.take_if(|_| is_readable);
        let writer = self.writer.take_if(|_| is_writable);
        reader.into_iter().chain(writer).collect()
    }
}

#[derive(Debug, Default)]
struct Parker {
    has_token: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    fn park(&self) {
        let mut has_token = self.has_token.lock().unwrap();
        while !*has_token {
            // This releases the lock and begins to wait in one step.
            has_token = self.changed.wait(has_token).unwrap();
        }
        *has_token = false;
    }

    fn unpark(&self) {
        *self.has_token.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

async fn answer(source: &Source<UdpSocket>, packets: usize) -> io::Result<()> {
    let (mut packet, mut sum) = ([0; 64], 0);
    for _ in 0..packets {
        let received = source.wait(|socket| socket.recv_from(&mut packet)).await;
        let (length, client) = received?;
        let number = String::from_utf8_lossy(&packet[..length]);
        sum += number.trim().parse::<i64>().unwrap_or(0);
        let reply = sum.to_string();
        let send = |socket: &UdpSocket| socket.send_to(reply.as_bytes(), client);
        source.wait(send).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "../checks/ch07.rs"]
mod checks;
