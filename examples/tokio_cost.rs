//! What a request costs under `windlass::tokio::block_on`, beside either runtime alone.
//!
//! ```sh
//! cargo run --release --features tokio --example tokio_cost
//! strace -fc target/release/examples/tokio_cost client hosted 127.0.0.1:PORT 1 10000
//! ```
//!
//! A server in another process echoes 64 bytes. The client has some connections, with one request
//! in flight on each. The ways take turns, so that a busy machine disturbs all of them alike.
//!
//! `serve` prints the address of a server for `client`. With a delay in microseconds, it answers
//! late enough that each request waits, also under strace, which slows the client down.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A runtime with the sockets of a runtime.
const WAYS: [(&str, &str); 4] = [
    ("tokio", "tokio alone, its sockets"),
    (
        "hosted",
        "windlass::tokio, tokio's sockets in windlass's tasks",
    ),
    ("windlass", "windlass alone, its sockets"),
    (
        "ours",
        "windlass::tokio, windlass's sockets in windlass's tasks",
    ),
];
const ROUNDS: usize = 9;
const MESSAGE: usize = 64;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(|arg| &**arg).collect();
    match args[..] {
        [] => compare(),
        ["serve"] => serve(Duration::ZERO),
        ["serve", delay] => serve(Duration::from_micros(delay.parse()?)),
        ["idle"] => {
            idle();
            Ok(())
        }
        ["client", way, addr, connections, requests] => {
            println!(
                "{}",
                measure(way, addr.parse()?, connections.parse()?, requests.parse()?)?
            );
            Ok(())
        }
        _ => bail!(
            "expected no argument, `serve [DELAY]`, `idle` or \
             `client WAY ADDRESS CONNECTIONS REQUESTS`"
        ),
    }
}

fn serve(delay: Duration) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut message = [0; MESSAGE];
            while stream.read_exact(&mut message).is_ok() {
                if !delay.is_zero() {
                    std::thread::sleep(delay);
                }
                if stream.write_all(&message).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

fn compare() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let mut server = Command::new(&program)
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut addr = String::new();
    BufReader::new(server.stdout.take().context("it is piped")?).read_line(&mut addr)?;
    for (connections, requests) in [("1", "10000"), ("32", "64000")] {
        let mut results = vec![Vec::new(); WAYS.len()];
        for _ in 0..ROUNDS {
            for ((way, _), results) in WAYS.iter().zip(&mut results) {
                let args = ["client", way, addr.trim(), connections, requests];
                let output = Command::new(&program).args(args).output()?;
                let output = String::from_utf8(output.stdout)?;
                let figures: Vec<f64> = output
                    .split_whitespace()
                    .map(str::parse)
                    .collect::<Result<_, _>>()?;
                results.push(figures);
            }
        }
        println!("{connections} connections; medians of {ROUNDS} rounds, in µs per request");
        println!("{:>7} {:>7} {:>7}", "p50", "p99", "CPU");
        for ((_, name), results) in WAYS.iter().zip(&results) {
            let median = |column: usize| {
                let mut values: Vec<f64> = results.iter().map(|figures| figures[column]).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            println!(
                "{:7.1} {:7.1} {:7.1}  {name}",
                median(0),
                median(1),
                median(2)
            );
        }
    }
    server.kill()?;
    server.wait()?;
    let idle = Command::new(&program).arg("idle").output()?;
    print!("{}", String::from_utf8(idle.stdout)?);
    Ok(())
}

/// Measures one way. Returns the latency at the percentiles 50 and 99, and the processor time per
/// request, in microseconds.
fn measure(
    way: &str,
    addr: SocketAddr,
    connections: usize,
    requests: usize,
) -> anyhow::Result<String> {
    let each = requests / connections;
    let before = processor_time();
    let mut latencies: Vec<Duration> = match way {
        "tokio" => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let tasks = (0..connections).map(|_| tokio::spawn(ask_by_tokio(addr, each)));
                futures::future::join_all(tasks)
                    .await
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect()
            }),
        "hosted" => windlass::tokio::block_on(async {
            let tasks = (0..connections).map(|_| windlass::spawn(ask_by_tokio(addr, each)));
            futures::future::join_all(tasks).await.concat()
        }),
        "windlass" => windlass::block_on(ask_by_windlass(addr, connections, each)),
        "ours" => windlass::tokio::block_on(ask_by_windlass(addr, connections, each)),
        _ => bail!("no such way: {way}"),
    };
    let used = processor_time() - before;
    latencies.sort();
    let at = |percent: usize| latencies[latencies.len() * percent / 100].as_secs_f64() * 1e6;
    let used = used.as_secs_f64() * 1e6 / (each * connections) as f64;
    Ok(format!("{:.2} {:.2} {used:.2}", at(50), at(99)))
}

async fn ask_by_tokio(addr: SocketAddr, requests: usize) -> Vec<Duration> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(addr)
        .await
        .expect("the server listens");
    stream.set_nodelay(true).expect("it is open");
    let mut message = [0; MESSAGE];
    let mut latencies = Vec::with_capacity(requests);
    for _ in 0..requests {
        let start = Instant::now();
        stream.write_all(&message).await.expect("the server reads");
        stream
            .read_exact(&mut message)
            .await
            .expect("the server answers");
        latencies.push(start.elapsed());
    }
    latencies
}

async fn ask_by_windlass(addr: SocketAddr, connections: usize, requests: usize) -> Vec<Duration> {
    use futures::{AsyncReadExt, AsyncWriteExt};

    let tasks = (0..connections).map(|_| {
        windlass::spawn(async move {
            let mut stream = windlass::net::TcpStream::connect(addr)
                .await
                .expect("it listens");
            stream.set_nodelay(true).expect("it is open");
            let mut message = [0; MESSAGE];
            let mut latencies = Vec::with_capacity(requests);
            for _ in 0..requests {
                let start = Instant::now();
                stream.write_all(&message).await.expect("the server reads");
                stream
                    .read_exact(&mut message)
                    .await
                    .expect("the server answers");
                latencies.push(start.elapsed());
            }
            latencies
        })
    });
    futures::future::join_all(tasks).await.concat()
}

/// Prints the processor time of ten seconds in which tasks of both runtimes wait.
fn idle() {
    windlass::tokio::block_on(async {
        let (ours, _ours) = windlass::net::unix::UnixStream::pair().expect("there are descriptors");
        let (theirs, _theirs) = tokio::net::UnixStream::pair().expect("there are descriptors");
        let _ours = windlass::spawn(async move { ours.readable().await });
        tokio::spawn(async move { theirs.readable().await });
        windlass::time::sleep(Duration::from_millis(100)).await;
        let before = processor_time();
        windlass::time::sleep(Duration::from_secs(10)).await;
        println!("idle: {:?} of CPU in 10 s", processor_time() - before);
    });
}

fn processor_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};

    let used = getrusage(UsageWho::RUSAGE_SELF).expect("the call has no error");
    let micros =
        |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(micros(used.user_time()) + micros(used.system_time()))
}
