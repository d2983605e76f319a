//! Chapter 13: the gain and the limits of several processes.

pub mod broken;
pub mod program;
mod service;

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    ch11::broken::is_prime,
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Bytes, Nanoseconds, Number},
    },
    measure::{Progress, Sample, effort, rounds},
    server::raise_descriptor_limit,
};
use service::{Client, Program, Service};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 13,
    title: "All cores, and a night in production",
    measure,
    picture,
    broken: broken::run,
    serve: None,
};

/// A prime with the root 31,623. A search for its divisors takes about a tenth of a millisecond.
const PRIME: &str = "999999937";

/// Runs the processes of a program. `main` calls it in the parent and in each of them.
///
/// # Errors
///
/// Returns an error if the number is none, or the error of the program.
pub fn run_processes(is_broken: bool, address: &str, count: &str) -> io::Result<()> {
    raise_descriptor_limit();
    let count = count.parse().map_err(io::Error::other)?;
    if is_broken {
        broken::run_processes(address, count)
    } else {
        program::run(address, count)
    }
}

fn picture(yours: &Figures, ours: &Figures) -> String {
    let rates = |figures: &Figures| {
        let mut rates = figures.clone();
        rates.list.retain(|figure| figure.key.starts_with("rate"));
        rates
    };
    let title = "Requests per second (log scale)";
    chart::bars(title, &rates(yours), &rates(ours), Number)
}

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    let mut figures = Figures::here();
    progress.steps(7);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    measure_rates(cores, progress, &mut figures)?;

    let count = cores.max(2);
    let service = Service::start(Program::Good, count)?;
    let processes = service.processes(count)?;
    progress.step("totals");
    let mut client = Client::connect(service.address)?;
    let own = request(&mut client, "1")?;
    figures.add("own", "a number, in one process", Nanoseconds, own);
    let all = request(&mut client, "total")?;
    figures.add("all", "the total of all processes", Nanoseconds, all);
    let memory = exact(service::memory(processes[0])?);
    figures.add("memory", "memory of a process", Bytes, memory);
    drop(client);

    progress.step("kill");
    let restart = restart(&service, count)?;
    figures.add("restart", "replace a killed process", Nanoseconds, restart);
    progress.step("reload");
    let load = Load::default();
    let reload = load.during(service.address, || reload(&service, count))?;
    figures.add("reload", "reload all processes", Nanoseconds, reload);
    let [replies, refused, lost] =
        [load.replies, load.refused, load.lost].map(|count| exact(count.into_inner() as f64));
    figures.add("replies", "replies during the reloads", Number, replies);
    figures.add("refused", "refused connections", Number, refused);
    figures.add("lost", "requests without a reply", Number, lost);
    Ok(figures)
}

fn exact(median: f64) -> Sample {
    Sample {
        median,
        spread: 0.0,
    }
}

/// The rates of computations with one process, a process per core, all clients at one of them, and
/// a thread per client.
fn measure_rates(cores: usize, progress: &mut Progress, figures: &mut Figures) -> io::Result<()> {
    let clients = 2 * cores;
    progress.step("one process");
    let one = Service::start(Program::Good, 1)?;
    let rate_one = rate(one.clients(&one.processes(1)?, clients)?)?;
    figures.add("rate_one", "one process", Number, rate_one);
    drop(one);
    let all = Service::start(Program::Good, cores)?;
    let processes = all.processes(cores)?;
    progress.step("a process per core");
    let even = rate(all.clients(&processes, 2)?)?;
    figures.add("rate_even", "a process per core", Number, even);
    progress.step("uneven");
    let uneven = rate(all.clients(&processes[..1], clients)?)?;
    figures.add("rate_uneven", "the same, uneven clients", Number, uneven);
    drop(all);
    progress.step("threads");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(|| serve_by_threads(listener));
    let connect = |_| Client::connect(address);
    let threads = rate((0..clients).map(connect).collect::<io::Result<_>>()?)?;
    figures.add("rate_threads", "a thread for each", Number, threads);
    Ok(())
}

/// How many computations per second the clients get, if each always waits for one.
fn rate(mut clients: Vec<Client>) -> io::Result<Sample> {
    let each = effort(1_000, 200) / clients.len();
    let total = (each * clients.len()) as f64;
    for client in &mut clients {
        client.request(PRIME)?;
    }
    rounds(|| {
        let start = Instant::now();
        thread::scope(|scope| {
            let work = move |client: &mut Client| {
                (0..each).try_for_each(|_| client.request("prime").map(drop))
            };
            let started: Vec<_> = clients
                .iter_mut()
                .map(|client| scope.spawn(move || work(client)))
                .collect();
            started
                .into_iter()
                .try_for_each(|client| client.join().expect("a client does not panic"))
        })?;
        Ok(total / start.elapsed().as_secs_f64())
    })
}

/// The server of chapter 2, with the computation.
fn serve_by_threads(listener: TcpListener) -> io::Result<()> {
    let session = |stream: TcpStream| -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut number = 0;
        for line in BufReader::new(&stream).lines() {
            let line = line?;
            number = line.parse().unwrap_or(number);
            let reply = is_prime(number);
            (&stream).write_all(format!("{reply}\n").as_bytes())?;
        }
        Ok(())
    };
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || session(stream));
    }
    Ok(())
}

/// The time of one request at a time.
fn request(client: &mut Client, line: &str) -> io::Result<Sample> {
    let count = effort(2_000, 100);
    rounds(|| {
        let start = Instant::now();
        for _ in 0..count {
            client.request(line)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / count as f64)
    })
}

/// The time from the end of a process until another one serves in its place.
fn restart(service: &Service, count: usize) -> io::Result<Sample> {
    let times = (0..effort(3, 2)).map(|_| {
        let before = service.processes(count)?;
        // A process that crashes in its first second is restarted after a pause.
        thread::sleep(Duration::from_millis(1_100));
        let start = Instant::now();
        service::kill(before[0])?;
        service.wait_for(|process| !before.contains(&process))?;
        Ok(start.elapsed().as_nanos() as f64)
    });
    Ok(Sample::of(times.collect::<io::Result<_>>()?))
}

/// The time from the signal until all processes are new.
fn reload(service: &Service, count: usize) -> io::Result<Sample> {
    let times = (0..effort(5, 2)).map(|_| {
        let before = service.processes(count)?;
        let start = Instant::now();
        service.signal(Signal::HUP)?;
        let mut new = Vec::new();
        while new.len() < count {
            new.push(service.wait_for(|it| !before.contains(&it) && !new.contains(&it))?);
        }
        Ok(start.elapsed().as_nanos() as f64)
    });
    Ok(Sample::of(times.collect::<io::Result<_>>()?))
}

/// Clients that send numbers all the time, and connect again after a `bye`.
#[derive(Debug, Default)]
struct Load {
    is_over: AtomicBool,
    replies: AtomicUsize,
    refused: AtomicUsize,
    lost: AtomicUsize,
}

impl Load {
    fn during<T>(&self, address: SocketAddr, run: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| self.client(address));
            }
            let result = run();
            self.is_over.store(true, Relaxed);
            result
        })
    }

    fn client(&self, address: SocketAddr) {
        let mut client = None;
        while !self.is_over.load(Relaxed) {
            if client.is_none() {
                client = Client::connect(address).ok();
            }
            let counter = match client.as_mut().map(|client| client.request("1")) {
                None => &self.refused,
                Some(Err(_)) => {
                    client = None;
                    &self.lost
                }
                Some(Ok(reply)) => {
                    if reply.ends_with("bye") {
                        client = None;
                    }
                    &self.replies
                }
            };
            counter.fetch_add(1, Relaxed);
        }
    }
}
