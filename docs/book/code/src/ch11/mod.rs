//! Chapter 11: a number of one client, while another one makes the server block or compute.

pub mod broken;
pub mod program;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use windlass::Runtime;

use crate::{
    chapter::Chapter,
    chart,
    figures::{Figures, Unit::Nanoseconds},
    measure::{Progress, Sample, effort, per_call, rounds},
};
use broken::request;
use program::{HELP, LIBRARY};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 11,
    title: "What must block",
    measure,
    picture: |yours, ours| {
        chart::bars(
            "A number, and the work of others (log scale)",
            yours,
            ours,
            Nanoseconds,
        )
    },
    broken: broken::run,
    serve: Some(program::serve),
};

/// A prime. A search for divisors tries all numbers up to its root, which are three million.
const PRIME: &str = "9999999999971";

/// How many clients send `sign` at the same time.
const CROWD: u32 = 12;

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(9);
    let (in_loop, off_loop) = (start(broken::serve)?, start(program::serve)?);
    for (key, label, address, other) in [
        ("alone", "a number, no other work", off_loop, None),
        ("blocked", "a call in the loop", in_loop, Some("sign")),
        ("pool", "the call on the pool", off_loop, Some("sign")),
        ("busy", "a computation", in_loop, Some("prime")),
        (
            "yields",
            "a computation that yields",
            off_loop,
            Some("prime"),
        ),
    ] {
        progress.step(label);
        figures.add(key, label, Nanoseconds, number(address, other)?);
    }
    progress.step("crowd");
    let crowd = crowd(off_loop)?;
    figures.add("crowd", "twelve calls, four threads", Nanoseconds, crowd);
    progress.step("hand over");
    figures.add(
        "hand_over",
        "to the pool and back",
        Nanoseconds,
        hand_over()?,
    );
    progress.step("files");
    let read = per_call(20_000, || drop(fs::read_to_string(HELP)));
    figures.add("file", "read a cached file, std", Nanoseconds, read);
    let read = read_file()?;
    figures.add("file_async", "the same, windlass", Nanoseconds, read);
    Ok(figures)
}

fn start(serve: fn(TcpListener) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || serve(listener));
    Ok(address)
}

/// The time that a client waits for a sum, while another one sends the same line all the time.
fn number(address: SocketAddr, other: Option<&str>) -> io::Result<Sample> {
    let (is_over, stream) = (AtomicBool::new(false), TcpStream::connect(address)?);
    stream.set_nodelay(true)?;
    thread::scope(|scope| {
        if let Some(line) = other {
            let (is_over, heavy) = (&is_over, TcpStream::connect(address)?);
            request(&heavy, PRIME)?;
            scope.spawn(
                move || {
                    while !is_over.load(Relaxed) && request(&heavy, line).is_ok() {}
                },
            );
        }
        let result = rounds(|| median(effort(15, 7), || request(&stream, "1").map(drop)));
        is_over.store(true, Relaxed);
        result
    })
}

/// The median of the times of some calls, which are a pause apart.
fn median(calls: usize, mut call: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..calls {
        thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    Ok(Sample::of(times).median)
}

/// The time until each client of a crowd has its signature.
fn crowd(address: SocketAddr) -> io::Result<Sample> {
    let connect = |_| TcpStream::connect(address);
    let clients: Vec<_> = (0..CROWD).map(connect).collect::<io::Result<_>>()?;
    rounds(|| {
        let start = Instant::now();
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| request(client, "sign"));
            }
        });
        Ok(start.elapsed().as_nanos() as f64)
    })
}

/// The time of an empty closure on the pool, from the loop's point of view.
fn hand_over() -> io::Result<Sample> {
    let runtime = Runtime::new()?;
    let calls = effort(2_000, 200);
    rounds(|| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..calls {
                LIBRARY.run(|| ())?.await;
            }
            Ok(start.elapsed().as_nanos() as f64 / calls as f64)
        })
    })
}

fn read_file() -> io::Result<Sample> {
    let runtime = Runtime::new()?;
    let calls = effort(10_000, 1_000);
    rounds(|| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..calls {
                windlass::fs::read_to_string(HELP).await?;
            }
            Ok(start.elapsed().as_nanos() as f64 / calls as f64)
        })
    })
}
