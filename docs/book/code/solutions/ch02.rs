//! Solutions of chapter 2.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex};

fn count(total: &AtomicI64, number: i64) {
    total.fetch_add(number, Ordering::Relaxed);
}

fn answer(total: &Mutex<i64>, number: i64, mut client: impl Write) -> io::Result<()> {
    let now = {
        let mut total = total.lock().unwrap();
        *total += number;
        *total
    };
    writeln!(client, "{now}")
}

#[derive(Debug)]
struct Limit {
    free: Mutex<usize>,
    ended: Condvar,
}

impl Limit {
    fn new(most: usize) -> Limit {
        Limit {
            free: Mutex::new(most),
            ended: Condvar::new(),
        }
    }

    fn begin(&self) {
        let free = self.free.lock().unwrap();
        let mut free = self.ended.wait_while(free, |free| *free == 0).unwrap();
        *free -= 1;
    }

    fn end(&self) {
        *self.free.lock().unwrap() += 1;
        self.ended.notify_one();
    }
}

#[cfg(test)]
#[path = "../checks/ch02.rs"]
mod checks;
