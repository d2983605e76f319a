//! Chapter 7: the steps of a wake, and a server of tasks beside those of chapters 2 and 3.

pub mod broken;
pub mod program;
pub mod server;
mod steps;

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use program::Reactor;
use server::Source;
use steps::{Mark, mark, record};

use crate::{
    ch01, ch02,
    ch06::program::Executor,
    chapter::Chapter,
    chart,
    figures::{Figures, Unit::Nanoseconds},
    measure::{Progress, Sample, effort, per_call},
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 7,
    title: "The reactor and the life of a wake",
    measure,
    picture,
    broken: broken::run,
    serve: Some(server::serve),
};

/// The figures of the steps, each with its label, its first mark and its last.
const STEPS: [(&str, &str, &str, &str); 6] = [
    ("try", "1: try to read, nothing is there", "try", "blocked"),
    ("keep", "2: keep the waker", "blocked", "kept"),
    ("park", "3: back to the loop, and park", "kept", "park"),
    ("event", "4: from the request to the event", "sent", "wait"),
    ("wake", "5: find the waker and wake", "wait", "wake"),
    ("poll", "6: poll the task", "wake", "try"),
];

/// The steps that the runtime takes without the system.
const OWN: [&str; 4] = ["keep", "park", "wake", "poll"];

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(5);
    progress.step("the steps of a wake");
    let requests = steps()?;
    let median = |value: &dyn Fn(&Request) -> Duration| {
        let nanos = |request| value(request).as_nanos() as f64;
        without_outliers(requests.iter().map(nanos).collect())
    };
    for (key, label, first, last) in STEPS {
        let sample = median(&|request| request.between(first, last));
        figures.add(key, label, Nanoseconds, sample);
    }
    let own = |request: &Request| {
        let steps = STEPS.iter().filter(|(key, ..)| OWN.contains(key));
        steps
            .map(|(_, _, first, last)| request.between(first, last))
            .sum()
    };
    figures.add(
        "own",
        "steps 2, 3, 5 and 6 together",
        Nanoseconds,
        median(&own),
    );
    let clock = record_cost();
    figures.add("clock", "the clock, once in each step", Nanoseconds, clock);
    progress.step("thread switch");
    let switch = ch01::thread_switch()?;
    figures.add("switch", "switch to another thread", Nanoseconds, switch);
    let servers = [(2, "threads"), (3, "loop"), (7, "tasks")];
    ch02::serve_in_turn(&servers, &["cpu", "memory"], progress, &mut figures)?;
    Ok(figures)
}

/// The marks of a request, from the time when the client has sent it.
struct Request(Vec<Mark>);

impl Request {
    /// The time from a mark to the first of another kind.
    fn between(&self, first: &str, last: &str) -> Duration {
        let end = self.0.iter().position(|mark| mark.0 == last);
        let end = end.expect("each request has all marks");
        let start = self.0[..end].iter().rposition(|mark| mark.0 == first);
        let start = start.expect("each request has all marks");
        self.0[end].1 - self.0[start].1
    }
}

/// The marks of a request, in their order. The last three belong to the wait for the next one.
const ORDER: [&str; 10] = [
    "wait", "wake", "try", "done", "try", "done", "try", "blocked", "kept", "park",
];

/// Sends requests to a session, and records its steps.
fn steps() -> io::Result<Vec<Request>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<Vec<Mark>> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (reactor, executor) = (Reactor::new()?, Executor::default());
        let client = Source::new(&reactor, stream)?;
        let session = server::session(client, Rc::new(Cell::new(0)));
        executor.spawn(async { drop(session.await) });
        let mut result = Ok(());
        let marks = record(|| result = reactor.block_on(executor.run()));
        result.map(|()| marks)
    });
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut replies, mut reply) = (BufReader::new(&stream), String::new());
    let mut sent = Vec::new();
    for _ in 0..effort(2_000, 200) {
        // By then the loop is parked.
        thread::sleep(Duration::from_micros(300));
        sent.push(Instant::now());
        (&stream).write_all(b"1\n")?;
        reply.clear();
        replies.read_line(&mut reply)?;
    }
    drop(replies);
    drop(stream);
    let marks = server.join().expect("the server does not panic")?;
    let windows = marks.windows(ORDER.len());
    let whole = windows.filter(|marks| marks.iter().map(|mark| mark.0).eq(ORDER));
    let request = |marks: &[Mark]| {
        let before = sent.partition_point(|sent| *sent < marks[0].1);
        let first = ("sent", sent[before.checked_sub(1)?]);
        Some(Request([&[first], marks].concat()))
    };
    let requests: Vec<_> = whole.filter_map(request).collect();
    match requests.is_empty() {
        true => Err(io::Error::other("no request took the six steps in order")),
        false => Ok(requests),
    }
}

/// The median, and the spread without the tenth at either end, when other programs ran.
fn without_outliers(mut values: Vec<f64>) -> Sample {
    values.sort_by(f64::total_cmp);
    let tenth = values.len() / 10;
    Sample::of(values[tenth..values.len() - tenth].to_vec())
}

/// The time that a mark takes.
fn record_cost() -> Sample {
    let mut sample = None;
    record(|| sample = Some(per_call(8_000, || mark("clock"))));
    sample.expect("it was measured")
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let shown = |figures: &Figures| {
        let mut figures = figures.clone();
        let is_step = |key: &str| STEPS.iter().any(|step| step.0 == key);
        let is_shown = |key: &str| is_step(key) || key == "own" || key == "switch";
        figures.list.retain(|figure| is_shown(&figure.key));
        figures
    };
    let title = "The six steps of a wake (log scale)";
    chart::bars(title, &shown(yours), &shown(ours), Nanoseconds)
}
