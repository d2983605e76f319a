//! Solutions of chapter 10.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use futures::{AsyncRead, AsyncReadExt};

#[derive(Debug)]
struct Numbers<R> {
    input: R,
    line: String,
}

impl<R: AsyncRead + Unpin> Numbers<R> {
    async fn next(&mut self) -> io::Result<i64> {
        loop {
            let mut byte = [0];
            // A read of one byte is complete, or has taken nothing.
            self.input.read_exact(&mut byte).await?;
            match byte {
                [b'\n'] => break,
                [byte] => self.line.push(byte.into()),
            }
        }
        let number = self.line.parse().map_err(io::Error::other);
        self.line.clear();
        number
    }
}

/// Returns the seat when it is dropped.
struct Seat<'a>(&'a Cell<u32>);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

async fn take_seat(free: &Cell<u32>, confirm: impl Future<Output = bool>) -> bool {
    if free.get() == 0 {
        return false;
    }
    free.set(free.get() - 1);
    let seat = Seat(free);
    let is_confirmed = confirm.await;
    if is_confirmed {
        std::mem::forget(seat);
    }
    is_confirmed
}

async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Pending => second.as_mut().poll(context),
        ready => ready,
    })
    .await
}

#[cfg(test)]
#[path = "../checks/ch10.rs"]
mod checks;
