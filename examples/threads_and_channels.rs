//! Channels between threads, for jobs of worker threads and results for tasks.
//!
//! ```text
//! cargo run --example threads_and_channels
//! ```
//!
//! The channels of `windlass::sync` stay on their thread. Between threads, use any channel that
//! stores a waker, here async-channel's. Its futures run on windlass like any others, and a send
//! from another thread wakes the loop.

use std::io::{self, Error};
use std::thread;

use async_channel::{Receiver, Sender};
use windlass::spawn;
use windlass::sync::mpsc;

/// A small capacity, so that fast senders wait for slow receivers.
const ROOM: usize = 4;

fn main() -> io::Result<()> {
    let (jobs, todo) = async_channel::bounded(ROOM);
    let (done, results) = async_channel::bounded(ROOM);
    let threads = [0; 2].map(|_| {
        let (todo, done) = (todo.clone(), done.clone());
        thread::spawn(move || work(&todo, &done))
    });
    drop((todo, done)); // the threads have clones: the channels close with them

    let sum = windlass::block_on(async {
        let asking = spawn(async move {
            for number in 20..30_u64 {
                jobs.send(number).await.map_err(Error::other)?;
            }
            Ok::<_, Error>(()) // drops `jobs`, which ends the threads
        });
        // Within this thread, the cheaper channel is sufficient.
        let (found, mut to_print) = mpsc::channel(ROOM);
        let printing = spawn(async move {
            while let Some((number, steps)) = to_print.recv().await {
                println!("{number} comes down to 1 in {steps} steps");
            }
        });
        let mut sum = 0;
        while let Ok((number, steps)) = results.recv().await {
            sum += steps;
            found.send((number, steps)).await.map_err(Error::other)?;
        }
        drop(found);
        printing.await;
        asking.await?;
        Ok::<_, Error>(sum)
    })?;
    println!("{sum} steps in all");

    for thread in threads {
        assert!(thread.join().is_ok(), "no thread panics");
    }
    Ok(())
}

/// A thread has no event loop, so it blocks.
fn work(todo: &Receiver<u64>, done: &Sender<(u64, u64)>) {
    while let Ok(number) = todo.recv_blocking() {
        if done.send_blocking((number, collatz(number))).is_err() {
            return; // the receiver was dropped
        }
    }
}

/// Halves an even number, and triples an odd one and adds one. Counts the steps until the result is
/// 1.
fn collatz(mut number: u64) -> u64 {
    let mut steps = 0;
    while number != 1 {
        number = if number % 2 == 0 {
            number / 2
        } else {
            3 * number + 1
        };
        steps += 1;
    }
    steps
}
