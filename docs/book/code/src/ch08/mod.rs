//! Chapter 8: what a timer costs, how late it is, and how often it wakes the loop.

pub mod broken;
pub mod program;
pub mod server;
pub mod wheel;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hint::black_box,
    io,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use program::{Timers, block_on, sleep};
use wheel::Wheel;

use crate::{
    ch02,
    ch06::program::Executor,
    ch07::program::Reactor,
    chapter::Chapter,
    chart::{self, Line},
    figures::{
        Figures,
        Unit::{Nanoseconds, Number},
    },
    measure::{Progress, Sample, effort, per_call},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 8,
    title: "Time",
    measure,
    picture,
    broken: broken::run,
    serve: Some(server::serve),
};

const TIMERS: [u64; 4] = [100, 1_000, 10_000, 100_000];

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(TIMERS.len() + 5);
    for count in TIMERS {
        progress.step(&format!("{count} timers"));
        let at = chart::tick_label(Number, count as f64);
        let label = format!("wheel, {at}: set and cancel");
        figures.add(
            format!("wheel_{count}"),
            label,
            Nanoseconds,
            set_in_wheel(count),
        );
        let label = format!("sorted, {at}: set and cancel");
        figures.add(
            format!("sorted_{count}"),
            label,
            Nanoseconds,
            set_sorted(count),
        );
    }
    let ticks = [
        (1, "a millisecond"),
        (10, "ten milliseconds"),
        (100, "a tenth of a second"),
    ];
    let mut earliest = f64::MAX;
    for (length, name) in ticks {
        progress.step(&format!("a tick of {name}"));
        let slept = sleeps(Duration::from_millis(length))?;
        let label = format!("tick of {name}: late by");
        figures.add(format!("late_{length}"), label, Nanoseconds, slept.late);
        let label = format!("tick of {name}: turns per second");
        figures.add(format!("turns_{length}"), label, Number, exact(slept.turns));
        earliest = earliest.min(slept.earliest);
    }
    let label = "the earliest sleep of all, late by";
    figures.add("earliest", label, Nanoseconds, exact(earliest));
    let servers = [(7, "no timeouts"), (8, "timeouts")];
    ch02::serve_in_turn(&servers, &["cpu"], progress, &mut figures)?;
    Ok(figures)
}

fn exact(median: f64) -> Sample {
    Sample {
        median,
        spread: 0.0,
    }
}

/// Ticks that look random, from a second to a minute ahead.
fn random_ticks() -> impl FnMut() -> u64 {
    let mut state: u64 = 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        1_000 + (state >> 33) % 59_000
    }
}

fn set_in_wheel(count: u64) -> Sample {
    let (mut wheel, mut tick) = (Wheel::default(), random_ticks());
    for _ in 0..count {
        wheel.set(tick(), Waker::noop().clone());
    }
    per_call(100_000, || {
        let key = wheel.set(tick(), Waker::noop().clone());
        wheel.cancel(black_box(key));
    })
}

/// The same with a map that is sorted by the ticks.
fn set_sorted(count: u64) -> Sample {
    let (mut map, mut tick, mut number) = (BTreeMap::new(), random_ticks(), 0);
    let mut set = |map: &mut BTreeMap<_, _>| {
        number += 1;
        let key = (tick(), number);
        map.insert(key, Waker::noop().clone());
        key
    };
    for _ in 0..count {
        set(&mut map);
    }
    per_call(100_000, || {
        let key = set(&mut map);
        map.remove(black_box(&key));
    })
}

/// How some sleeping tasks fared.
struct Slept {
    late: Sample,
    earliest: f64,
    turns: f64,
}

/// Many tasks that sleep again and again, for times of up to a fifth of a second.
fn sleeps(tick: Duration) -> io::Result<Slept> {
    let (reactor, timers, executor) = (Reactor::new()?, Timers::new(tick), Executor::default());
    let total = Duration::from_millis(effort(1_500, 250) as u64);
    let late = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now();
    for i in 0..100 {
        let (timers, late) = (timers.clone(), late.clone());
        executor.spawn(async move {
            let mut micros: u64 = 20_000 + i * 1_777;
            while start.elapsed() < total {
                micros = 20_000 + (micros * 7_919 + 1) % 180_000;
                let time = Duration::from_micros(micros);
                let start = Instant::now();
                sleep(&timers, time).await;
                // Negative, if it was early.
                let nanos = start.elapsed().as_nanos() as f64 - time.as_nanos() as f64;
                late.borrow_mut().push(nanos);
            }
        });
    }
    block_on(&reactor, &timers, executor.run())?;
    let turns = timers.turns.get() as f64 / start.elapsed().as_secs_f64();
    let mut late = late.take();
    late.sort_by(f64::total_cmp);
    // The spread is that of the middle eight tenths.
    let tenth = late.len() / 10;
    Ok(Slept {
        earliest: late[0],
        late: Sample::of(late[tenth..late.len() - tenth].to_vec()),
        turns,
    })
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let points = |figures: &Figures, key: &str| {
        let value = |&count: &u64| {
            let value = figures.value(&format!("{key}_{count}"))?;
            Some((count as f64, value))
        };
        TIMERS.iter().filter_map(value).collect::<Vec<_>>()
    };
    let mut lines = Vec::new();
    for (name, class, key) in [("sorted", 'a', "sorted"), ("wheel", 'b', "wheel")] {
        for (figures, is_dashed) in [(ours, true), (yours, false)] {
            lines.push(Line {
                name: if is_dashed { "" } else { name }.to_owned(),
                class,
                is_dashed,
                points: points(figures, key),
            });
        }
    }
    lines.retain(|line| !line.points.is_empty());
    chart::lines("Setting a timer among many", "timers", Nanoseconds, &lines)
}
