//! Solutions of chapter 11.

use std::cell::Cell;
use std::future::Future;

async fn call_all(numbers: Vec<i64>, call: fn(i64) -> i64) -> Vec<i64> {
    let started = numbers
        .into_iter()
        .map(|number| windlass::spawn_blocking(move || call(number)));
    // The threads begin here. Without the vector, each call would begin after the one before.
    let started: Vec<_> = started.collect();
    let mut results = Vec::new();
    for call in started {
        results.push(call.await);
    }
    results
}

async fn sum_of_squares(limit: u64) -> u64 {
    let mut sum = 0;
    for number in 1..=limit {
        sum += number * number;
        if number % 1_000 == 0 {
            windlass::yield_now().await;
        }
    }
    sum
}

#[derive(Debug)]
struct Counter {
    most: usize,
    running: Cell<usize>,
}

/// Counts down, also if the future that holds it is dropped.
struct Running<'a>(&'a Cell<usize>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Counter {
    fn new(most: usize) -> Counter {
        let running = Cell::new(0);
        Counter { most, running }
    }

    async fn run<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        if self.running.get() == self.most {
            return None;
        }
        self.running.set(self.running.get() + 1);
        let _running = Running(&self.running);
        Some(call.await)
    }
}

#[cfg(test)]
#[path = "../checks/ch11.rs"]
mod checks;
