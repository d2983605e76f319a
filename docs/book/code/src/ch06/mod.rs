//! Chapter 6: what a task costs, and a wake among many tasks.

pub mod broken;
pub mod program;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    hint::black_box,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use program::{Executor, add_up, session};

use crate::{
    ch05::program::{block_on, line},
    chapter::Chapter,
    chart::{self, Line},
    figures::{
        Figures,
        Unit::{Bytes, Nanoseconds, Number},
    },
    measure::{Progress, Sample, effort, per_call, rounds},
    server::resident,
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 6,
    title: "An executor in forty lines",
    measure,
    picture,
    broken: broken::run_both,
    serve: None,
};

const TASKS: [usize; 4] = [10, 100, 1_000, 10_000];

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(3 + 2 * TASKS.len());
    progress.step("a task");
    figures.add("task", "spawn, run and end a task", Nanoseconds, task());
    progress.step("lines from a thread");
    let label = "line from another thread to its task";
    figures.add("line", label, Nanoseconds, lines()?);
    progress.step("memory");
    figures.add("memory", "memory of a waiting task", Bytes, memory());
    for count in TASKS {
        progress.step(&format!("{count} tasks"));
        let (time, polls) = wake_one(count);
        let label = format!("run queue, {}: wake and poll", name(count));
        figures.add(format!("queue_{count}"), label, Nanoseconds, time);
        if count == 10_000 {
            figures.add("polls", "run queue, polls per wake", Number, exact(polls));
        }
    }
    for count in TASKS {
        progress.step(&format!("poll {count} tasks"));
        let label = format!("poll all, {}: wake and poll", name(count));
        figures.add(format!("all_{count}"), label, Nanoseconds, poll_all(count));
    }
    Ok(figures)
}

fn exact(median: f64) -> Sample {
    Sample {
        median,
        spread: 0.0,
    }
}

fn name(count: usize) -> String {
    let text = Number.format(count as f64);
    text.replace(".00", "").replace(".0", "")
}

/// The time of a task that ends at its first poll.
fn task() -> Sample {
    let tasks = 1_000;
    per_call(400, || {
        let executor = Executor::default();
        (0..tasks).for_each(|_| executor.spawn(async {}));
        block_on(executor.run());
    })
    .times(1.0 / tasks as f64)
}

/// The time per line while a thread sends lines to many sessions.
fn lines() -> io::Result<Sample> {
    let (clients, count) = (1_000, effort(20, 5));
    rounds(|| {
        let start = Instant::now();
        assert_eq!(add_up(clients, count), (clients * count) as i64);
        Ok(start.elapsed().as_nanos() as f64 / (clients * count) as f64)
    })
}

fn memory() -> Sample {
    let count = effort(100_000, 20_000);
    let before = resident();
    let executor = Executor::default();
    let total = Rc::new(Cell::new(0));
    let waiting = (0..count).map(|_| {
        let (sender, line) = line();
        executor.spawn(session(vec![line], total.clone()));
        sender
    });
    let _senders: Vec<_> = waiting.collect();
    let mut run = pin!(executor.run());
    let mut context = Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll(&mut context).is_pending());
    exact(resident().saturating_sub(before) as f64 / count as f64)
}

type Wakers = Rc<RefCell<Vec<Option<Waker>>>>;

/// A future that waits forever, and keeps its waker in the list.
fn listed(i: usize, wakers: &Wakers, polls: &Rc<Cell<u64>>) -> impl Future<Output = ()> + use<> {
    let (wakers, polls) = (wakers.clone(), polls.clone());
    poll_fn(move |context| {
        polls.set(polls.get() + 1);
        wakers.borrow_mut()[i] = Some(context.waker().clone());
        Poll::Pending
    })
}

/// Wakes one of many tasks and runs the executor. Returns the time, and the polls per wake.
fn wake_one(count: usize) -> (Sample, f64) {
    let (wakers, polls) = (Wakers::default(), Rc::new(Cell::new(0)));
    wakers.borrow_mut().resize(count, None);
    let executor = Executor::default();
    (0..count).for_each(|i| executor.spawn(listed(i, &wakers, &polls)));
    let mut run = pin!(executor.run());
    let mut context = Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll(&mut context).is_pending());
    let (mut next, mut wakes) = (0, 0);
    polls.set(0);
    let time = per_call(200_000, || {
        // A step that shares no factor with the count reaches all of them in turn.
        next = (next + 7919) % count;
        wakes += 1;
        let waker = wakers.borrow_mut()[next].take();
        waker.expect("each task has kept its waker").wake();
        black_box(run.as_mut().poll(&mut context).is_pending());
    });
    (time, polls.get() as f64 / f64::from(wakes))
}

/// Polls all of many futures after a wake, as one future that contains them would.
fn poll_all(count: usize) -> Sample {
    let (wakers, polls) = (Wakers::default(), Rc::new(Cell::new(0)));
    wakers.borrow_mut().resize(count, None);
    let futures = (0..count).map(|i| Box::pin(listed(i, &wakers, &polls)) as _);
    let mut futures: Vec<Pin<Box<dyn Future<Output = ()>>>> = futures.collect();
    let mut context = Context::from_waker(Waker::noop());
    per_call(4_000_000 / count, || {
        for future in &mut futures {
            black_box(future.as_mut().poll(&mut context).is_pending());
        }
    })
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let line = |figures: &Figures, key: &str| {
        let value = |&count: &usize| {
            let value = figures.value(&format!("{key}_{count}"))?;
            Some((count as f64, value))
        };
        TASKS.iter().filter_map(value).collect::<Vec<_>>()
    };
    let lines = [("poll all", 'a', "all"), ("run queue", 'b', "queue")];
    let lines = lines.map(|(name, class, key)| {
        [(name, yours, false), ("", ours, true)].map(|(name, figures, is_dashed)| Line {
            name: name.to_owned(),
            class,
            is_dashed,
            points: line(figures, key),
        })
    });
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|line| !line.points.is_empty())
        .collect();
    chart::lines("One wake among many tasks", "tasks", Nanoseconds, &lines)
}
