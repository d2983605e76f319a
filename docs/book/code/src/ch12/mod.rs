//! Chapter 12: the frames of a window, and the requests of a server on the window's thread.

pub mod broken;
pub mod program;

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use futures::AsyncReadExt;
use windlass::{Async, Runtime, yield_now};

use crate::{
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Nanoseconds, Number, Share},
    },
    measure::{Progress, Sample, effort, per_call, rounds},
    server::raise_descriptor_limit,
};
use program::{FRAME, Window, editor, game, serve};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 12,
    title: "A guest in somebody's loop",
    measure,
    picture: |yours, ours| {
        chart::bars(
            "The guest and its host (log scale)",
            yours,
            ours,
            Nanoseconds,
        )
    },
    broken: broken::run,
    serve: None,
};

/// The connections that are busy at the same time.
const CLIENTS: usize = 1_000;

/// A frame that comes later after the last one is not in time.
const IN_TIME: Duration = FRAME.saturating_add(Duration::from_millis(2));

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(7);
    progress.step("draw");
    let mut window = Window::default();
    let draw = per_call(80, || window.draw(300));
    figures.add("draw", "draw a frame", Nanoseconds, draw);
    let (idle, full) = turns()?;
    figures.add("idle", "a turn, nothing to do", Nanoseconds, idle);
    figures.add("full", "a turn, far too much to do", Nanoseconds, full);

    progress.step("frames");
    let alone = frames(None)?.0;
    figures.add("alone", "frames in time, alone", Share, alone);
    progress.step("frames with a guest");
    raise_descriptor_limit();
    let (shared, rate) = frames(Some(effort(CLIENTS, CLIENTS / 10)))?;
    figures.add("shared", "frames in time, with the guest", Share, shared);
    figures.add("rate", "requests per second", Number, rate);

    let idle = exact(idle_turns()? as f64);
    for (key, label, host) in [
        ("own", "a request, loop of its own", own as Host),
        ("editor", "a request, message loop", message_loop),
        ("game", "a request, loop of frames", frame_loop),
    ] {
        progress.step(label);
        figures.add(key, label, Nanoseconds, request(host)?);
    }
    figures.add("turns", "turns of an idle guest", Number, idle);
    Ok(figures)
}

fn exact(median: f64) -> Sample {
    Sample {
        median,
        spread: 0.0,
    }
}

/// The time of a turn with nothing to do, and with more than fits into its budget.
fn turns() -> io::Result<(Sample, Sample)> {
    let guest = Runtime::new()?;
    let turn = || drop(guest.turn_for(Duration::from_millis(2)));
    let idle = per_call(20_000, turn);
    for _ in 0..CLIENTS {
        let busy = async {
            loop {
                yield_now().await;
            }
        };
        guest.spawn(busy).detach();
    }
    let full = rounds(|| {
        let times = (0..effort(50, 20)).map(|_| {
            let start = Instant::now();
            turn();
            start.elapsed().as_nanos() as f64
        });
        Ok(Sample::of(times.collect()).median)
    })?;
    Ok((idle, full))
}

/// The share of frames that are in time, and the requests per second of the guest's clients.
fn frames(clients: Option<usize>) -> io::Result<(Sample, Sample)> {
    let (guest, total) = (Runtime::new()?, Rc::new(Cell::new(0)));
    let load = Arc::new(Load::default());
    let mut thread = None;
    if let Some(count) = clients {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, load) = (listener.local_addr()?, load.clone());
        guest.spawn(serve(listener, total.clone())).detach();
        thread = Some(thread::spawn(move || load.run(address, count)));
    }
    let is_running = || thread.as_ref().is_some_and(|thread| !thread.is_finished());
    // Until the clients are connected.
    game(&guest, &total, || {
        is_running() && load.replies.load(Relaxed) == 0
    })?;
    let count = effort(40, 20);
    let (mut shares, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (before, start) = (load.replies.load(Relaxed), Instant::now());
        shares.push(punctual(&guest, &total, count)?);
        let replies = load.replies.load(Relaxed) - before;
        rates.push(replies as f64 / start.elapsed().as_secs_f64());
    }
    load.is_over.store(true, Relaxed);
    game(&guest, &total, is_running)?;
    if let Some(thread) = thread {
        thread.join().expect("the clients do not panic")?;
    }
    Ok((Sample::of(shares), Sample::of(rates)))
}

/// Plays some frames, and returns the share of those that are in time.
fn punctual(guest: &Runtime, total: &Cell<i64>, count: usize) -> io::Result<f64> {
    let (mut played, mut in_time, mut last) = (0, 0, Instant::now());
    game(guest, total, || {
        in_time += usize::from(last.elapsed() < IN_TIME);
        last = Instant::now();
        played += 1;
        played <= count
    })?;
    Ok(in_time as f64 / played as f64)
}

/// Many clients, each with a request in flight.
#[derive(Debug, Default)]
struct Load {
    is_over: AtomicBool,
    replies: AtomicUsize,
}

impl Load {
    fn run(&self, address: SocketAddr, count: usize) -> io::Result<()> {
        let connect = |_| TcpStream::connect(address);
        let streams: Vec<_> = (0..count).map(connect).collect::<io::Result<_>>()?;
        let mut reply = [0; 32];
        while !self.is_over.load(Relaxed) {
            for mut stream in &streams {
                stream.write_all(b"1\n")?;
            }
            for mut stream in &streams {
                // A reply is short, so it arrives whole.
                if stream.read(&mut reply)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.replies.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }
}

/// Serves on this thread until the other end of the stream is closed.
type Host = fn(&Runtime, &Rc<Cell<i64>>, UnixStream) -> io::Result<()>;

fn own(guest: &Runtime, _: &Rc<Cell<i64>>, keyboard: UnixStream) -> io::Result<()> {
    let mut keyboard = Async::new(keyboard)?;
    guest.block_on(async { keyboard.read(&mut [0]).await.map(drop) })
}

fn message_loop(guest: &Runtime, total: &Rc<Cell<i64>>, keyboard: UnixStream) -> io::Result<()> {
    editor(guest, total, keyboard).map(drop)
}

fn frame_loop(guest: &Runtime, total: &Rc<Cell<i64>>, mut keyboard: UnixStream) -> io::Result<()> {
    keyboard.set_nonblocking(true)?;
    game(guest, total, || keyboard.read(&mut [0]).is_err())
}

/// Runs a host on a thread, with the server as its guest, as long as the function needs it.
fn with_host<T>(host: Host, use_it: impl FnOnce(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut keys, keyboard) = UnixStream::pair()?;
    let thread = thread::spawn(move || {
        let (guest, total) = (Runtime::new()?, Rc::new(Cell::new(0)));
        guest.spawn(serve(listener, total.clone())).detach();
        host(&guest, &total, keyboard)
    });
    let result = use_it(address)?;
    keys.write_all(b"q")?;
    thread.join().expect("the host does not panic")?;
    Ok(result)
}

/// The time of one request at a time, at different times of a frame.
fn request(host: Host) -> io::Result<Sample> {
    with_host(host, |address| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut reply = [0; 32];
        rounds(|| {
            let mut times = Vec::new();
            for i in 0..effort(15, 10) {
                // Clients do not know when a frame begins.
                thread::sleep(Duration::from_millis(i as u64 * 5 % 17));
                let start = Instant::now();
                stream.write_all(b"1\n")?;
                stream.read_exact(&mut reply[..1])?;
                times.push(start.elapsed().as_nanos() as f64);
                while reply[0] != b'\n' {
                    stream.read_exact(&mut reply[..1])?;
                }
            }
            Ok(Sample::of(times).median)
        })
    })
}

/// How many turns an editor gives to a guest with silent clients in some time.
fn idle_turns() -> io::Result<usize> {
    let (mut keys, keyboard) = UnixStream::pair()?;
    let editor = thread::spawn(move || {
        let (guest, total) = (Runtime::new()?, Rc::new(Cell::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        guest.spawn(serve(listener, total.clone())).detach();
        // The first turn starts the server, and registers its listener.
        guest.turn(Some(Duration::ZERO))?;
        editor(&guest, &total, keyboard)
    });
    thread::sleep(Duration::from_millis(500));
    keys.write_all(b"q")?;
    editor.join().expect("the editor does not panic")
}
