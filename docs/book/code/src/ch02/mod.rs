//! Chapter 2: what a thread per connection costs, from 10 connections to 10,000.

pub mod broken;
pub mod program;

use std::{fs, io, thread, time::Instant};

use crate::{
    chapter::Chapter,
    chart::{self, Line},
    figures::{
        Figures,
        Unit::{Bytes, Nanoseconds, Number},
    },
    load,
    measure::{Progress, Sample, effort, is_quick, rounds},
    server::{Server, raise_descriptor_limit},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 2,
    title: "A thread for each",
    measure,
    picture,
    broken: broken::run,
    serve: Some(program::serve),
};

const CONNECTIONS: [usize; 4] = [10, 100, 1_000, 10_000];

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(2 + CONNECTIONS.len());
    progress.step("start a thread");
    let start = rounds(|| {
        let starts = (0..effort(500, 100)).map(|_| {
            let start = Instant::now();
            thread::spawn(|| ())
                .join()
                .expect("an empty thread does not panic");
            start.elapsed().as_nanos() as f64
        });
        Ok(Sample::of(starts.collect()).median)
    })?;
    figures.add("start", "start and end a thread", Nanoseconds, start);
    serve_many(2, &CONNECTIONS, progress, &mut figures)?;
    if let Some(limit) = limit() {
        let limit = Sample {
            median: limit,
            spread: 0.0,
        };
        figures.add("limit", "threads that this system allows", Number, limit);
    }
    Ok(figures)
}

/// Measures the servers of several chapters with a thousand connections. Adds the figures of these
/// kinds, labelled with the name of the server.
pub fn serve_in_turn(
    servers: &[(u32, &str)],
    kinds: &[&str],
    progress: &mut Progress,
    figures: &mut Figures,
) -> io::Result<()> {
    for &(chapter, name) in servers {
        let mut served = Figures::default();
        serve_many(chapter, &[1_000], progress, &mut served)?;
        for mut figure in served.list {
            if kinds.iter().any(|kind| figure.key.contains(kind)) {
                figure.label = format!("{name}, {}", figure.label);
                figures.list.push(figure);
            }
        }
        figures.missing.extend(served.missing);
    }
    Ok(())
}

/// Measures the server of a chapter with some numbers of connections.
pub fn serve_many(
    chapter: u32,
    connections: &[usize],
    progress: &mut Progress,
    figures: &mut Figures,
) -> io::Result<()> {
    let most = raise_descriptor_limit().saturating_sub(50) as usize;
    for &count in connections
        .iter()
        .filter(|count| !is_quick() || **count <= 1_000)
    {
        progress.step(&format!("{count} connections"));
        if count > most {
            figures
                .missing
                .push(format!("{count} connections (at most {most} descriptors)"));
            continue;
        }
        let mut server = Server::start(chapter)?;
        let cost = match load::measure(&mut server, count) {
            Ok(cost) => cost,
            Err(error) => {
                figures
                    .missing
                    .push(format!("{count} connections ({error})"));
                continue;
            }
        };
        let memory = Sample {
            median: cost.memory,
            spread: 0.0,
        };
        let name = |what: &str| format!("ch{chapter:02}_{what}_{count}");
        let at = Number
            .format(count as f64)
            .replace(".00", "")
            .replace(".0", "");
        figures.add(
            name("memory"),
            format!("{at}: memory per connection"),
            Bytes,
            memory,
        );
        figures.add(
            name("cpu"),
            format!("{at}: CPU per request"),
            Nanoseconds,
            cost.cpu,
        );
        figures.add(
            name("switches"),
            format!("{at}: switches per request"),
            Number,
            cost.switches,
        );
        figures.add(
            name("p99"),
            format!("{at}: 99 % are faster than"),
            Nanoseconds,
            cost.p99,
        );
    }
    Ok(())
}

/// The number of threads at which the first limit of the system is reached.
fn limit() -> Option<f64> {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
    // The stack of a thread and the guard page below it are two mappings.
    let mappings = read("/proc/sys/vm/max_map_count").map(|count| count / 2.0);
    let limits = [
        mappings,
        read("/proc/sys/kernel/threads-max"),
        read("/proc/sys/kernel/pid_max"),
    ];
    limits.into_iter().flatten().reduce(f64::min)
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let mut lines = Vec::new();
    lines.extend(line("99 % are faster", 'a', 2, "p99", yours, ours));
    lines.extend(line("CPU per request", 'b', 2, "cpu", yours, ours));
    chart::lines(
        "A thread for each: time per request",
        "connections",
        Nanoseconds,
        &lines,
    )
}

/// The lines of the reader and of the book for one cost of a chapter's server.
pub fn line(
    name: &str,
    class: char,
    chapter: u32,
    what: &str,
    yours: &Figures,
    ours: &Figures,
) -> Vec<Line> {
    let points = |figures: &Figures| {
        let point = |&count: &usize| {
            let value = figures.value(&format!("ch{chapter:02}_{what}_{count}"))?;
            Some((count as f64, value))
        };
        CONNECTIONS.iter().filter_map(point).collect::<Vec<_>>()
    };
    let (own, of_book) = (points(yours), points(ours));
    let mut lines = Vec::new();
    if own != of_book && !of_book.is_empty() {
        lines.push(Line {
            name: String::new(),
            class,
            is_dashed: true,
            points: of_book,
        });
    }
    lines.push(Line {
        name: name.to_owned(),
        class,
        is_dashed: false,
        points: own,
    });
    lines
}
