//! Exercises of chapter 2. The tests are in `checks/ch02.rs`.

use std::io::{self, Write};
use std::sync::atomic::AtomicI64;
use std::sync::{Condvar, Mutex};

use windlass_book::hole;

/// 2.1: Adds a number to the total. No number is lost if threads call this at the same time.
fn count(total: &AtomicI64, number: i64) {
    let _ = (total, number);
    hole("add in one step")
}

/// 2.2: Adds a number to the total, and sends the new total to a client that may be slow.
fn answer(total: &Mutex<i64>, number: i64, client: impl Write) -> io::Result<()> {
    let _ = (total, number, client);
    hole("release the lock before the write")
}

/// 2.3: A limit on the number of threads that do something at the same time.
#[derive(Debug)]
struct Limit {
    /// How many more threads may begin.
    free: Mutex<usize>,
    /// Notified when a thread has ended.
    ended: Condvar,
}

impl Limit {
    fn new(most: usize) -> Limit {
        Limit {
            free: Mutex::new(most),
            ended: Condvar::new(),
        }
    }

    /// Waits until the thread may begin.
    fn begin(&self) {
        let _ = (&self.free, &self.ended);
        hole("wait while no place is free, and take one")
    }

    /// Lets the next thread begin.
    fn end(&self) {
        hole("free the place, and notify one thread")
    }
}

#[cfg(test)]
#[path = "../checks/ch02.rs"]
mod checks;
