//! The executor without the reactor, with tasks, queues and threads, but no I/O and no timers.
//!
//! ```text
//! cargo run --example executor_alone
//! ```
//!
//! `windlass_executor` makes no system calls. `executor.run(main)` is an ordinary future, so any
//! `block_on` can drive it. This example uses the crate's own, which parks the thread while no task
//! is ready. The `block_on` of pollster or of the futures crate works too.

use std::io;
use std::thread;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use windlass_executor::{Executor, block_on, spawn, yield_now};

fn main() -> io::Result<()> {
    let executor = Executor::new();
    block_on(executor.run(async {
        // A bounded queue between two tasks. The sender waits for the receiver.
        let (mut hold, mut crane) = mpsc::channel(2);
        let loading = spawn(async move {
            for crate_number in 1..=5 {
                println!("loading   crate {crate_number}");
                if hold.send(crate_number).await.is_err() {
                    return; // the receiver was dropped
                }
            }
        });
        let unloading = spawn(async move {
            let mut sum = 0;
            while let Some(crate_number) = crane.next().await {
                println!("unloading crate {crate_number}");
                sum += crate_number;
            }
            sum
        });
        loading.await;
        println!("unloaded a sum of {}", unloading.await);

        // A thread fills a queue. Its wakes unpark this thread.
        let (mut letters, mut post) = mpsc::channel(2);
        let thread = thread::spawn(move || {
            for letter in ["ahoy", "from", "a thread"] {
                if block_on(letters.send(letter)).is_err() {
                    return;
                }
            }
        });
        while let Some(letter) = post.next().await {
            println!("post: {letter}");
            yield_now().await; // let other tasks run
        }
        thread
            .join()
            .map_err(|_| io::Error::other("the thread panicked"))
    }))
}
