//! Chapter 4: what a coroutine costs, beside a thread and beside a state machine by hand.

pub mod broken;
pub mod program;

use std::{hint::black_box, io, pin::pin};

use windlass::coroutine::{Co, Coroutine, Exchange};

use crate::{
    ch01, ch02,
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Bytes, Nanoseconds},
    },
    measure::{Progress, Sample, effort, per_call},
    server::resident,
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 4,
    title: "A function that stops in the middle",
    measure,
    picture: |yours, ours| {
        chart::bars(
            "Stop here, continue there (log scale)",
            yours,
            ours,
            Nanoseconds,
        )
    },
    broken: broken::run,
    serve: Some(program::serve),
};

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(7);
    progress.step("resume");
    figures.add("resume", "resume a coroutine", Nanoseconds, resume());
    figures.add(
        "pinned",
        "resume a pinned coroutine",
        Nanoseconds,
        resume_pinned(),
    );
    progress.step("create");
    let create = per_call(200_000, || drop(black_box(Coroutine::new(counter))));
    figures.add("create", "create and drop a coroutine", Nanoseconds, create);
    progress.step("thread switch");
    figures.add(
        "switch",
        "switch to another thread",
        Nanoseconds,
        ch01::thread_switch()?,
    );

    let exchange = Exchange::new();
    let size = size_of_val(&exchange.body(program::session)) as f64;
    figures.add(
        "size",
        "state of a session",
        Bytes,
        Sample {
            median: size,
            spread: 0.0,
        },
    );
    progress.step("many");
    figures.add("many", "memory of a waiting session", Bytes, many());

    let servers = [(3, "by hand"), (4, "coroutines")];
    ch02::serve_in_turn(&servers, &["cpu"], progress, &mut figures)?;
    Ok(figures)
}

async fn counter(co: &mut Co<'_, u64, u64>, first: u64) {
    let mut sum = first;
    loop {
        sum += co.yield_(sum).await;
    }
}

fn resume() -> Sample {
    let mut coroutine = Coroutine::new(counter);
    per_call(4_000_000, || {
        black_box(coroutine.resume(black_box(1)));
    })
}

fn resume_pinned() -> Sample {
    let exchange = Exchange::new();
    let body = pin!(exchange.body(counter));
    let mut coroutine = Coroutine::pinned(&exchange, body);
    per_call(4_000_000, || {
        black_box(coroutine.resume(black_box(1)));
    })
}

/// The memory of a session that has answered one line and waits for the next.
fn many() -> Sample {
    let count = effort(200_000, 20_000);
    let before = resident();
    let sessions = (0..count).map(|_| {
        let mut session = Coroutine::new(program::session);
        session.resume("1".to_owned());
        session
    });
    let sessions: Vec<_> = sessions.collect();
    let used = resident().saturating_sub(before);
    drop(black_box(sessions));
    Sample {
        median: used as f64 / count as f64,
        spread: 0.0,
    }
}
