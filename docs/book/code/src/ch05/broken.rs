//! The bug is a future that is pending and keeps no waker.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::program::block_on;

static POLLS: AtomicUsize = AtomicUsize::new(0);
static IS_SET: AtomicBool = AtomicBool::new(false);

// ANCHOR: flag
/// Waits until another thread sets the flag.
struct Flag;

impl Future for Flag {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let is_set = IS_SET.load(SeqCst);
        POLLS.fetch_add(1, SeqCst);
        if is_set {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
// ANCHOR_END: flag

// ANCHOR: busy
/// The popular repair. It wakes itself at once.
struct Busy;

impl Future for Busy {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        POLLS.fetch_add(1, SeqCst);
        context.waker().wake_by_ref();
        if IS_SET.load(SeqCst) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
// ANCHOR_END: busy

/// Waits for the flag with both futures.
pub fn run() -> io::Result<()> {
    let (sender, ended) = mpsc::channel();
    let waiting = thread::spawn(move || {
        block_on(Flag);
        sender.send(()).ok();
    });
    while POLLS.load(SeqCst) == 0 {
        thread::yield_now();
    }
    IS_SET.store(true, SeqCst);
    println!("the flag is set");
    match ended.recv_timeout(Duration::from_millis(500)) {
        Ok(()) => println!("block_on has returned"),
        Err(_) => println!("block_on still waits after 500 ms"),
    }
    println!("polls: {}", POLLS.load(SeqCst));
    // The only rescue is a wake from outside.
    waiting.thread().unpark();
    waiting.join().expect("the future does not panic");

    IS_SET.store(false, SeqCst);
    POLLS.store(0, SeqCst);
    let waiting = thread::spawn(|| block_on(Busy));
    thread::sleep(Duration::from_millis(500));
    IS_SET.store(true, SeqCst);
    waiting.join().expect("the future does not panic");
    println!(
        "repaired by waking itself: {} polls in 500 ms",
        POLLS.load(SeqCst)
    );
    Ok(())
}
