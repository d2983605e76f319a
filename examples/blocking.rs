//! Runs blocking calls on a pool of threads, so that the event loop keeps its timing.
//!
//! ```text
//! cargo run --release --example blocking
//! ```
//!
//! A ticker runs every millisecond, like an animation or a control loop, while the program calls a
//! library that only has blocking functions. It calls them first on the pool, then, for comparison,
//! inside a task.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use windlass::time::{MissedTicks, interval, sleep};
use windlass::{block_on, spawn, spawn_blocking};

const MS: Duration = Duration::from_millis(1);

/// Simulates a blocking call of that library.
fn blocking_call(number: u32) -> u32 {
    thread::sleep(50 * MS);
    number * number
}

/// Ticks until it is dropped, and records the largest delay of a tick.
async fn tick(ticks: Rc<Cell<u32>>, max_delay: Rc<Cell<Duration>>) {
    let mut interval = interval(MS).missed_ticks(MissedTicks::Skip);
    loop {
        let due = interval.tick().await;
        ticks.set(ticks.get() + 1);
        max_delay.set(max_delay.get().max(due.elapsed()));
    }
}

/// Runs the work beside the ticker, and prints the ticker's results.
async fn beside_ticker(what: &str, work: impl Future<Output = u32>) {
    let (ticks, max_delay) = (Rc::default(), Rc::default());
    let start = Instant::now();
    let ticker = spawn(tick(Rc::clone(&ticks), Rc::clone(&max_delay)));
    let sum = work.await;
    drop(ticker);
    println!(
        "{what}: the sum is {sum} after {:.0?}, {} ticks, delayed by up to {:.1?}",
        start.elapsed(),
        ticks.get(),
        max_delay.get(),
    );
}

fn main() {
    block_on(async {
        let on_pool = async {
            // All eight at the same time, each on its own thread.
            let calls = (1..=8).map(|number| spawn_blocking(move || blocking_call(number)));
            join_all(calls).await.into_iter().sum()
        };
        beside_ticker("on the pool", on_pool).await;

        let in_task = async {
            // One after the other. The loop turns only between the calls.
            let mut sum = 0;
            for number in 1..=8 {
                sum += blocking_call(number);
                sleep(Duration::ZERO).await;
            }
            sum
        };
        beside_ticker("in a task", in_task).await;
    });
}
