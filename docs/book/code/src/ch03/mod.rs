//! Chapter 3: one thread and a loop, beside the threads of chapter 2.

pub mod broken;
pub mod program;

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
};

use crate::{
    ch02,
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Bytes, Number},
    },
    measure::{Progress, effort, rounds},
    server::Server,
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 3,
    title: "A loop by hand",
    measure,
    picture,
    broken: broken::run,
    serve: Some(program::serve),
};

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(7);
    progress.step("system calls");
    figures.add("calls", "system calls per request", Number, system_calls()?);
    let mut threads = Figures::default();
    ch02::serve_many(2, &[100, 1_000, 10_000], progress, &mut threads)?;
    let mut tasks = Figures::default();
    ch02::serve_many(3, &[100, 1_000, 10_000], progress, &mut tasks)?;
    for (side, mut found) in [("threads", threads), ("loop", tasks)] {
        for figure in &mut found.list {
            figure.label = format!("{side}, {}", figure.label);
        }
        figures.list.extend(found.list);
        figures.missing.extend(
            found
                .missing
                .into_iter()
                .map(|why| format!("{side}, {why}")),
        );
    }
    Ok(figures)
}

/// Counts the system calls of the loop while one client sends requests.
fn system_calls() -> io::Result<crate::measure::Sample> {
    let mut server = Server::start(3)?;
    let stream = TcpStream::connect(server.address)?;
    stream.set_nodelay(true)?;
    let mut replies = BufReader::new(&stream);
    let mut reply = String::new();
    let requests = effort(2_000, 500);
    rounds(|| {
        let before = server.usage()?.calls;
        for _ in 0..requests {
            (&stream).write_all(b"1\n")?;
            reply.clear();
            replies.read_line(&mut reply)?;
        }
        Ok((server.usage()?.calls - before) / requests as f64)
    })
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let mut lines = Vec::new();
    lines.extend(ch02::line("threads", 'a', 2, "memory", yours, ours));
    lines.extend(ch02::line("loop", 'b', 3, "memory", yours, ours));
    chart::lines("Memory of each connection", "connections", Bytes, &lines)
}
