//! Chapter 5: polls and wakes of one future.

pub mod broken;
pub mod program;

use std::{
    cell::Cell,
    future::{Future, poll_fn, ready},
    io,
    pin::pin,
    sync::mpsc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use program::{block_on, line, sum};

use crate::{
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Nanoseconds, Number, Share},
    },
    measure::{Progress, Sample, effort, per_call, rounds, thread_cpu},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 5,
    title: "block_on in twenty lines",
    measure,
    picture: |yours, ours| {
        chart::bars("The price of waiting (log scale)", yours, ours, Nanoseconds)
    },
    broken: broken::run,
    serve: None,
};

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(5);
    progress.step("ready");
    let at_once = per_call(2_000_000, || block_on(ready(())));
    figures.add("ready", "block_on, ready at once", Nanoseconds, at_once);
    progress.step("wake itself");
    figures.add("again", "wake, park and poll again", Nanoseconds, again());
    progress.step("wake from a thread");
    figures.add("remote", "wake from another thread", Nanoseconds, remote()?);

    progress.step("polls");
    let (polls, busy) = waiting()?;
    let exact = |median: f64| Sample {
        median,
        spread: 0.0,
    };
    figures.add(
        "polls",
        "polls of a future that waits twice",
        Number,
        exact(polls),
    );
    figures.add("busy", "share of the time that it runs", Share, exact(busy));
    Ok(figures)
}

/// A future that wakes itself before each of its pending polls.
fn again() -> Sample {
    let turns = 1_000;
    per_call(200, || {
        let mut left = turns;
        block_on(poll_fn(|context| {
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    })
    .times(1.0 / turns as f64)
}

/// The time from the send in another thread until `block_on` returns.
fn remote() -> io::Result<Sample> {
    let (requests, sending) = mpsc::channel();
    let sender = thread::spawn(move || {
        let sending: mpsc::Receiver<(program::Sender, mpsc::Sender<Instant>)> = sending;
        for (sender, times) in sending {
            // By now the other thread is parked.
            thread::sleep(Duration::from_micros(200));
            times.send(Instant::now()).ok();
            sender.send(String::new());
        }
    });
    let count = effort(200, 50);
    let sample = rounds(|| {
        let mut all = Vec::new();
        for _ in 0..count {
            let (sender, line) = line();
            let (times, sent) = mpsc::channel();
            requests.send((sender, times)).map_err(io::Error::other)?;
            block_on(line);
            all.push(sent.recv().map_err(io::Error::other)?.elapsed().as_nanos() as f64);
        }
        Ok(Sample::of(all).median)
    });
    drop(requests);
    sender.join().expect("the sender does not panic");
    sample
}

/// Counts the polls of a future that waits for two lines, each of them for 50 ms, and the share of
/// this time in which its thread runs.
fn waiting() -> io::Result<(f64, f64)> {
    let (first_sender, first) = line();
    let (second_sender, second) = line();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        first_sender.send("5".to_owned());
        thread::sleep(Duration::from_millis(50));
        second_sender.send("2".to_owned());
    });
    let polls = Cell::new(0);
    let mut future = pin!(sum(first, second));
    let (start, cpu) = (Instant::now(), thread_cpu());
    let result = block_on(poll_fn(|context| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(context)
    }));
    let busy = (thread_cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    sender.join().expect("the sender does not panic");
    assert_eq!(result, 7);
    Ok((f64::from(polls.get()), busy))
}
