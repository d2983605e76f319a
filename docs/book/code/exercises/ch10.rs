//! Exercises of chapter 10. The tests are in `checks/ch10.rs`.

use std::cell::Cell;
use std::future::Future;
use std::io;

use futures::AsyncRead;
use windlass_book::hole;

/// 10.1: Reads numbers, one per line.
#[derive(Debug)]
struct Numbers<R> {
    input: R,
    line: String,
}

impl<R: AsyncRead + Unpin> Numbers<R> {
    /// Returns the next number. If it is cancelled at any await, the next call still returns it.
    async fn next(&mut self) -> io::Result<i64> {
        let _ = (&mut self.input, &mut self.line);
        hole("keep the bytes so far in `self`")
    }
}

/// 10.2: Takes a free seat and waits for the confirmation, as in exercise 9.2. The seat is also
/// free again if this future is dropped during the wait.
async fn take_seat(free: &Cell<u32>, confirm: impl Future<Output = bool>) -> bool {
    let _ = (free, confirm);
    hole("undo in the `Drop` of a value that lives across the await")
}

/// 10.3: Returns the output of the future that is ready first. The other one is cancelled, and is
/// gone when `race` returns. If both are ready, the first one wins.
async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let _ = (first, second);
    hole("poll both in turn")
}

#[cfg(test)]
#[path = "../checks/ch10.rs"]
mod checks;
