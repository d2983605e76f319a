//! Exercises of chapter 11. The tests are in `checks/ch11.rs`.

use std::future::Future;

use windlass_book::hole;

/// 11.1: Calls a blocking function for each number, all at the same time, on threads of the pool.
/// Returns the results in the order of the numbers.
async fn call_all(numbers: Vec<i64>, call: fn(i64) -> i64) -> Vec<i64> {
    let _ = (numbers, call);
    hole("start all calls by `windlass::spawn_blocking`, and then await each of them")
}

/// 11.2: Adds the squares of all numbers up to the limit. Other tasks run after each thousand of
/// them.
async fn sum_of_squares(limit: u64) -> u64 {
    let _ = limit;
    hole("count, and yield at each multiple of 1,000")
}

/// 11.3: Lets a number of calls run at the same time, and refuses the rest. The queue of a pool has
/// no limit, so a server needs one of its own.
#[derive(Debug)]
struct Counter {
    most: usize,
    running: std::cell::Cell<usize>,
}

impl Counter {
    fn new(most: usize) -> Counter {
        let running = std::cell::Cell::new(0);
        Counter { most, running }
    }

    /// Awaits the call and returns its result, or returns `None` at once if too many are running.
    /// A future that is dropped in the middle counts no more.
    async fn run<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let _ = (self.most, &self.running, call);
        hole("count up, await the call, and count down when a guard is dropped")
    }
}

#[cfg(test)]
#[path = "../checks/ch11.rs"]
mod checks;
