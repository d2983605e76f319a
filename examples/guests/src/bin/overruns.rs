//! Measures how well `turn_for` keeps its budget. 100,000 tasks are always ready, and each frame
//! has 2 ms for them.
//!
//! ```sh
//! cargo run --release -p windlass-guests --bin overruns
//! cargo run --release -p windlass-guests --bin overruns -- --frames 100   # 1,000 unless told
//! ```
//!
//! Frames in which the thread was preempted are left out, and counted. The first row is a bare loop
//! that reads the clock until the time is over, so its delays are caused by the machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use windlass::{Runtime, yield_now};

const TASKS: usize = 100_000;
const BUDGET: Duration = Duration::from_millis(2);

/// The durations of a task's polls, which each task repeats.
const LOADS: &[(&str, &[Duration])] = &[
    ("nothing", &[Duration::ZERO]),
    ("1 µs", &[Duration::from_micros(1)]),
    ("20 µs", &[Duration::from_micros(20)]),
    ("nothing, one in 64 100 µs", &RARE),
];

const RARE: [Duration; 64] = {
    let mut costs = [Duration::ZERO; 64];
    costs[63] = Duration::from_micros(100);
    costs
};

fn main() -> anyhow::Result<()> {
    let frames = frames_wanted()?;
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header([
        "a poll costs",
        "polls a frame",
        "overrun p50",
        "p99",
        "worst",
        "left out",
    ]);
    table.add_row(row("(a bare loop)", frames, || Ok(spin(BUDGET)))?);
    for (name, costs) in LOADS {
        let runtime = Runtime::new()?;
        for number in 0..TASKS {
            runtime.spawn(task(costs, number)).detach();
        }
        let frame = || Ok(runtime.turn_for(BUDGET)?.polled);
        table.add_row(row(name, frames, frame)?);
    }
    println!("{TASKS} ready tasks, {frames} frames, a budget of {BUDGET:?}:\n\n{table}");
    Ok(())
}

fn frames_wanted() -> anyhow::Result<u64> {
    use lexopt::prelude::*;
    let (mut frames, mut parser) = (1_000, lexopt::Parser::from_env());
    while let Some(option) = parser.next()? {
        match option {
            Long("frames") => frames = parser.value()?.parse()?,
            _ => bail!("{} (there is --frames N)", option.unexpected()),
        }
    }
    ensure!(frames > 0, "no frames, no figures");
    Ok(frames)
}

async fn task(costs: &'static [Duration], number: usize) {
    for cost in costs.iter().cycle().skip(number % costs.len()) {
        if !cost.is_zero() {
            spin(*cost);
        }
        yield_now().await;
    }
}

/// Spins for that time. Returns how often it has read the clock.
fn spin(time: Duration) -> usize {
    let start = Instant::now();
    let mut reads = 0;
    while start.elapsed() < time {
        reads = black_box(reads + 1);
    }
    reads
}

/// How often this thread was preempted.
fn switches() -> anyhow::Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.involuntary_context_switches())
}

/// Runs the frames, and prints the overruns.
fn row(
    name: &str,
    frames: u64,
    mut frame: impl FnMut() -> anyhow::Result<usize>,
) -> anyhow::Result<Vec<String>> {
    let mut overruns = Histogram::<u64>::new(3)?;
    let (mut steps, mut left_out) = (0, 0);
    while overruns.len() < frames {
        let (before, start) = (switches()?, Instant::now());
        let polled = frame()?;
        let over = start.elapsed().checked_sub(BUDGET);
        let over = over.context("it stopped before its time")?;
        if switches()? > before {
            left_out += 1;
            continue;
        }
        steps += polled;
        overruns.record(over.as_nanos() as u64)?;
    }
    let micros = |nanos: u64| format!("{:.1} µs", nanos as f64 / 1e3);
    Ok(vec![
        name.to_owned(),
        (steps / frames as usize).to_string(),
        micros(overruns.value_at_quantile(0.5)),
        micros(overruns.value_at_quantile(0.99)),
        micros(overruns.max()),
        left_out.to_string(),
    ])
}
