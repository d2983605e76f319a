//! Chapter 9: the price of a lock, and the losses of threads and tasks without one.

pub mod broken;
pub mod program;

use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    io,
    rc::Rc,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use crate::{
    ch02,
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Nanoseconds, Share},
    },
    measure::{Progress, Sample, effort, rounds, thread_cpu},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 9,
    title: "Nothing to lock, almost",
    measure,
    picture: |yours, ours| {
        let title = "One addition to a shared number (log scale)";
        chart::bars(title, &additions(yours), &additions(ours), Nanoseconds)
    },
    broken: broken::run,
    serve: Some(program::serve),
};

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(8);
    progress.step("additions");
    let (cell, borrowed, locked) = (Cell::new(0), RefCell::new(0), Mutex::new(0));
    let samples = [
        (
            "cell",
            "add to a Cell",
            addition(|| {
                let total = black_box(&cell);
                total.set(total.get() + 1);
            })?,
        ),
        (
            "refcell",
            "add through a RefCell",
            addition(|| *black_box(&borrowed).borrow_mut() += 1)?,
        ),
        (
            "mutex",
            "add under a lock",
            addition(|| *black_box(&locked).lock().unwrap() += 1)?,
        ),
        ("async", "add under an async lock", under_async_lock()?),
        (
            "contended",
            "add under a lock, two threads",
            under_contended_lock()?,
        ),
    ];
    for (key, label, sample) in samples {
        figures.add(key, label, Nanoseconds, sample);
    }
    progress.step("losses");
    let label = "lost by two threads without a lock";
    figures.add("lost_threads", label, Share, lost_by_threads()?);
    let label = "lost by tasks without a lock";
    figures.add("lost_tasks", label, Share, lost_by_tasks()?);

    let servers = [(3, "by hand"), (9, "windlass")];
    ch02::serve_in_turn(&servers, &["cpu"], progress, &mut figures)?;
    Ok(figures)
}

/// The figures of single additions.
fn additions(figures: &Figures) -> Figures {
    let mut additions = figures.clone();
    additions
        .list
        .retain(|figure| figure.label.starts_with("add "));
    additions
}

/// The CPU time per addition, which other programs do not disturb.
fn addition(mut add: impl FnMut()) -> io::Result<Sample> {
    let count = effort(4_000_000, 500_000);
    rounds(|| {
        let start = thread_cpu();
        (0..count).for_each(|_| add());
        Ok((thread_cpu() - start).as_nanos() as f64 / count as f64)
    })
}

/// A lock whose guard may live across an await. It is free here.
fn under_async_lock() -> io::Result<Sample> {
    let count = effort(1_000_000, 100_000);
    let total = windlass::sync::Mutex::new(0_u64);
    rounds(|| {
        let start = thread_cpu();
        windlass::block_on(async {
            for _ in 0..count {
                *black_box(&total).lock().await += 1;
            }
        });
        Ok((thread_cpu() - start).as_nanos() as f64 / count as f64)
    })
}

/// The time per addition of two threads that add to the same number.
fn under_contended_lock() -> io::Result<Sample> {
    let total = Mutex::new(0_u64);
    two_threads(|| *black_box(&total).lock().unwrap() += 1)
}

/// The share of additions that two threads lose, if each reads the number and stores the sum.
fn lost_by_threads() -> io::Result<Sample> {
    let total = AtomicI64::new(0);
    let count = additions_of_two_threads();
    rounds(|| {
        total.store(0, SeqCst);
        run_two_threads(|| total.store(total.load(SeqCst) + 1, SeqCst));
        Ok(1.0 - total.load(SeqCst) as f64 / count as f64)
    })
}

fn two_threads(add: impl Fn() + Sync) -> io::Result<Sample> {
    rounds(|| {
        let start = Instant::now();
        run_two_threads(&add);
        Ok(start.elapsed().as_nanos() as f64 / additions_of_two_threads() as f64)
    })
}

fn additions_of_two_threads() -> usize {
    2 * effort(8_000_000, 500_000)
}

fn run_two_threads(add: impl Fn() + Sync) {
    let (start, count) = (Barrier::new(2), additions_of_two_threads() / 2);
    let work = || {
        start.wait();
        (0..count).for_each(|_| add());
    };
    thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// The share of additions that tasks lose, if each reads the number and stores the sum.
fn lost_by_tasks() -> io::Result<Sample> {
    let (tasks, turns) = (20, effort(50_000, 5_000));
    rounds(|| {
        let total = Rc::new(Cell::new(0));
        windlass::block_on(async {
            let add = |total: Rc<Cell<usize>>| async move {
                for _ in 0..turns {
                    let before = total.get();
                    total.set(before + 1);
                    windlass::yield_now().await;
                }
            };
            let tasks: Vec<_> = (0..tasks)
                .map(|_| windlass::spawn(add(total.clone())))
                .collect();
            for task in tasks {
                task.await;
            }
        });
        Ok(1.0 - total.get() as f64 / (tasks * turns) as f64)
    })
}

#[test]
fn the_average_is_of_all_clients() -> io::Result<()> {
    use futures::{AsyncBufReadExt, AsyncWriteExt, io::BufReader};
    use windlass::net::{TcpListener, TcpStream};

    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let board = Rc::new(RefCell::new(program::Board::default()));
        let mut tasks = Vec::new();
        for (lines, replies) in [("5\n7\n", "5\n12\n"), ("9\naverage\n", "9\n7\n")] {
            let mut client = BufReader::new(TcpStream::connect(listener.local_addr()?).await?);
            let (stream, _) = listener.accept().await?;
            tasks.push(windlass::spawn(program::session(stream, board.clone())));
            client.write_all(lines.as_bytes()).await?;
            let mut received = String::new();
            while received.len() < replies.len() {
                assert_ne!(client.read_line(&mut received).await?, 0);
            }
            assert_eq!(received, replies);
        }
        Ok(())
    })
}
