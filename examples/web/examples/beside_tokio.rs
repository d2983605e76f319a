//! Compares hyper on windlass with hyper on tokio's `current_thread`. Both run the same service,
//! and wrk loads them alternately. Needs wrk, and strace for the system calls.
//!
//! ```text
//! cargo run --release -p windlass-web --example beside_tokio      # 5 rounds of 5 s each: -- 5 5
//! ```

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;

const RUNTIMES: [&str; 2] = ["windlass", "tokio"];
const HEAD_TIME: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("windlass") => on_windlass(),
        Some("tokio") => on_tokio(),
        rounds => {
            let rounds = rounds.map_or(Ok(5), str::parse)?;
            let seconds = args.get(1).map_or(Ok(5), |it| it.parse())?;
            compare(rounds, seconds)
        }
    }
}

async fn answer() -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"ahoy\n"))))
}

fn on_windlass() -> anyhow::Result<()> {
    use windlass::hyper::{Io, Timer};

    windlass::block_on(async {
        let listener = windlass::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = http1::Builder::new()
                .timer(Timer)
                .header_read_timeout(HEAD_TIME)
                .serve_connection(Io::new(stream), service_fn(|_| answer()));
            windlass::spawn(connection).detach();
        }
    })
}

fn on_tokio() -> anyhow::Result<()> {
    use hyper_util::rt::{TokioIo, TokioTimer};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service_fn(|_| answer()));
            tokio::spawn(connection);
        }
    })
}

/// The results of one run of wrk.
struct Found {
    requests_per_second: f64,
    cpu_per_request: Duration,
}

fn compare(rounds: usize, seconds: u32) -> anyhow::Result<()> {
    println!("connections  runtime    requests/s    CPU/request  requests, ratio  CPU, ratio");
    for connections in [64, 1000] {
        let mut found = [const { Vec::new() }; 2];
        for round in 0..rounds {
            // Alternates, and each starts equally often.
            for turn in 0..2 {
                let which = (round + turn) % 2;
                found[which].push(measure(RUNTIMES[which], connections, seconds)?);
            }
        }
        for (which, name) in RUNTIMES.iter().enumerate() {
            let requests = |it: &Found| it.requests_per_second;
            let cpu = |it: &Found| it.cpu_per_request.as_secs_f64() * 1e6;
            println!(
                "{connections:11}  {name:9} {:11.0} {:11.2} µs {:16.3} {:11.3}",
                median(found[which].iter().map(requests)),
                median(found[which].iter().map(cpu)),
                ratio(&found[which], &found[1], requests),
                ratio(&found[which], &found[1], cpu),
            );
        }
    }
    for name in RUNTIMES {
        match system_calls(name) {
            Ok(calls) => println!("system calls per request, {name}, 64 connections: {calls}"),
            Err(error) => println!("system calls, {name}: SKIPPED: {error:#}"),
        }
    }
    Ok(())
}

/// The median over the rounds, for each value separately.
fn ratio(ours: &[Found], theirs: &[Found], figure: impl Fn(&Found) -> f64) -> f64 {
    median(
        ours.iter()
            .zip(theirs)
            .map(|(ours, theirs)| figure(ours) / figure(theirs)),
    )
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A server in its own process, which is killed on drop.
struct Server {
    process: Child,
    addr: String,
}

impl Server {
    fn start(command: &mut Command) -> anyhow::Result<Server> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut addr = String::new();
        let output = process.stdout.take().context("it's piped")?;
        BufReader::new(output).read_line(&mut addr)?;
        let addr = addr.trim_end().to_owned();
        let server = Server { process, addr };
        ensure!(!server.addr.is_empty(), "the server has not started");
        Ok(server)
    }

    /// Answered requests, and requests per second. Fails if there were errors.
    fn ask(&self, connections: usize, seconds: u32) -> anyhow::Result<(f64, f64)> {
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
            .arg(format!("http://{}/", self.addr))
            .output()
            .context("wrk")?;
        let text = String::from_utf8(output.stdout)?;
        let is_good = !text.contains("Socket errors") && !text.contains("Non-2xx");
        ensure!(is_good && output.status.success(), "wrk: {text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let before = |word| {
            words
                .iter()
                .position(|it| *it == word)
                .map(|i| words[i - 1])
        };
        let after = |word| {
            words
                .iter()
                .position(|it| *it == word)
                .map(|i| words[i + 1])
        };
        let requests = before("requests").context("wrk says no requests")?;
        let rate = after("Requests/sec:").context("wrk says no rate")?;
        Ok((requests.parse()?, rate.parse()?))
    }

    /// CPU time of the server's thread in nanoseconds, from the scheduler.
    fn cpu(&self) -> anyhow::Result<f64> {
        let times = fs::read_to_string(format!("/proc/{}/schedstat", self.process.id()))?;
        Ok(times.split(' ').next().context("it's empty")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn measure(runtime: &str, connections: usize, seconds: u32) -> anyhow::Result<Found> {
    let server = Server::start(Command::new(env::current_exe()?).arg(runtime))?;
    server.ask(connections, 1)?; // warm-up
    let before = server.cpu()?;
    let (requests, requests_per_second) = server.ask(connections, seconds)?;
    let cpu = server.cpu()? - before;
    Ok(Found {
        requests_per_second,
        cpu_per_request: Duration::from_nanos((cpu / requests) as u64),
    })
}

fn system_calls(runtime: &str) -> anyhow::Result<String> {
    let server = Server::start(Command::new(env::current_exe()?).arg(runtime))?;
    let counts = env::temp_dir().join(format!("calls-{}", server.process.id()));
    // strace runs for longer than wrk. An idle server makes no system calls.
    let mut strace = Command::new("timeout")
        .args([
            "-s",
            "INT",
            "5",
            "strace",
            "-f",
            "-c",
            "-U",
            "calls,name",
            "-o",
        ])
        .arg(&counts)
        .args(["-p", &server.process.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut attached = String::new();
    let said = strace.stderr.take().context("it's piped")?;
    BufReader::new(said).read_line(&mut attached)?;
    ensure!(attached.contains("attached"), "strace: {attached}");
    let (requests, _) = server.ask(64, 2)?;
    strace.wait()?;
    let table = fs::read_to_string(&counts)?;
    let _ = fs::remove_file(counts);
    Ok(per_request(&table, requests))
}

/// strace's counts, without the rare ones.
fn per_request(table: &str, requests: f64) -> String {
    let calls = table.lines().filter_map(|line| {
        let (count, name) = line.trim().split_once(' ')?;
        let each = count.parse::<f64>().ok()? / requests;
        (each > 0.005).then(|| format!("{} {each:.2}", name.trim()))
    });
    calls.collect::<Vec<_>>().join(", ")
}
