//! Waits for other threads, and spawns tasks from them.
//!
//! ```text
//! cargo run --example wake_from_thread
//! ```
//!
//! Tasks and sockets stay on their thread. A waker can move to another thread, inside any channel
//! that stores one, and a `Remote` sends a closure that creates the future on the runtime's thread.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use windlass::Runtime;
use windlass::time::interval;

fn main() -> io::Result<()> {
    let runtime = Runtime::new()?;

    // The tasks continue while the thread computes.
    let beats = Rc::new(Cell::new(0));
    let counted = beats.clone();
    let heart = runtime.spawn(async move {
        let mut interval = interval(Duration::from_millis(10));
        loop {
            interval.tick().await;
            counted.set(counted.get() + 1);
        }
    });

    // 1. A thread wakes a task. The receiver stores the task's waker in the channel, and `send`
    //    calls it.
    let (sender, receiver) = oneshot::channel();
    let computing = thread::spawn(move || {
        let sum = (1..=200_000_000_u64).fold(0, |sum, n| sum ^ (n * n));
        sender.send(sum)
    });
    match runtime.block_on(receiver) {
        Ok(sum) => println!("the thread has computed {sum:#x}"),
        Err(oneshot::Canceled) => println!("the thread has ended without a result"),
    }
    println!("meanwhile the heart beat {} times", beats.get());
    drop(heart); // cancels the task

    // 2. A thread spawns a task on the runtime, and waits for it. The future is created on the
    //    runtime's thread, so it can use values that are not `Send`. Only its output moves between
    //    threads.
    let remote = runtime.remote();
    let (sender, receiver) = oneshot::channel();
    let asking = thread::spawn(move || {
        let task = remote.spawn(|| async {
            let here = Rc::new(thread::current()); // an `Rc` can't leave its thread
            here.name().map(str::to_owned)
        });
        sender.send(futures::executor::block_on(task))
    });
    match runtime.block_on(receiver) {
        Ok(Ok(name)) => println!("the task that the thread has spawned ran on {name:?}"),
        Ok(Err(error)) => println!("{error}"),
        Err(oneshot::Canceled) => println!("the thread has ended without a result"),
    }

    let joined = (computing.join().is_ok(), asking.join().is_ok());
    assert_eq!(joined, (true, true), "no thread panics");
    Ok(())
}
