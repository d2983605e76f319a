//! The bug is a sleep that takes any poll for the end of its time.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use super::program::{Sleep, Timers, block_on, sleep};
use crate::ch05::program::{Line, line};
use crate::ch06::program::Executor;
use crate::ch07::program::Reactor;

const TIME: Duration = Duration::from_millis(500);

// ANCHOR: sleep
/// Waits for a time. The wheel wakes it when the time has passed.
struct Trusting {
    sleep: Sleep,
    is_set: bool,
}

impl Future for Trusting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_set {
            return Poll::Ready(());
        }
        self.is_set = true;
        Pin::new(&mut self.sleep).poll(context)
    }
}
// ANCHOR_END: sleep

/// Waits for a line and for a sleep, at the same time.
async fn both(line: Line, sleep: impl Future<Output = ()>) {
    let (mut line, mut sleep) = (pin!(line), pin!(sleep));
    let (mut has_line, mut has_slept) = (false, false);
    poll_fn(|context| {
        has_line = has_line || line.as_mut().poll(context).is_ready();
        has_slept = has_slept || sleep.as_mut().poll(context).is_ready();
        match has_line && has_slept {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await
}

/// Runs a task, and prints the time that it takes.
fn time(
    name: &str,
    timers: &Rc<Timers>,
    task: impl Future<Output = ()> + 'static,
) -> io::Result<()> {
    let start = Instant::now();
    let executor = Executor::default();
    executor.spawn(task);
    let reactor = Reactor::new()?;
    block_on(&reactor, timers, executor.run())?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    println!("{name}: {time:.1} ms");
    Ok(())
}

/// A line that another thread sends after 20 ms.
fn soon() -> Line {
    let (sender, line) = line();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        sender.send("5".to_owned());
    });
    line
}

/// Sleeps alone, and beside a line.
pub fn run() -> io::Result<()> {
    let timers = Timers::new(Duration::from_millis(1));
    let trusting = || Trusting {
        sleep: sleep(&timers, TIME),
        is_set: false,
    };
    time("half a second, alone", &timers, trusting())?;
    time(
        "half a second, with a line",
        &timers,
        both(soon(), trusting()),
    )?;
    let mended = both(soon(), sleep(&timers, TIME));
    time("the sleep of the chapter, with a line", &timers, mended)
}
