//! The cost of a request by `windlass::http`, beside reqwest on tokio's current-thread runtime.
//! Both use the same nginx. The clients take turns, each run in a process of its own.
//!
//! ```sh
//! cargo run --release -p windlass-ecosystem --features tokio --example http_cost -- 20000 5
//! ```
//!
//! The arguments are the requests of a run and the rounds.

use std::env;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use windlass_ecosystem::services::Service;

const BODY: usize = 1000;

/// The time of the processor that this process has used.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Runs the requests, and prints their rate and their time of the processor.
async fn measure<F: Future<Output = usize>>(requests: usize, at_once: usize, get: impl Fn() -> F) {
    stream::iter(0..at_once)
        .for_each_concurrent(at_once, |_| async {
            get().await;
        })
        .await;
    let (start, before) = (Instant::now(), cpu());
    let lengths = stream::iter(0..requests)
        .map(|_| get())
        .buffer_unordered(at_once);
    let bytes = lengths
        .fold(0, |sum, length| async move { sum + length })
        .await;
    assert_eq!(bytes, requests * BODY);
    let (time, used) = (start.elapsed(), cpu() - before);
    let rate = requests as f64 / time.as_secs_f64();
    println!("{rate} {}", used.as_secs_f64() * 1e6 / requests as f64);
}

fn run(client: &str, url: &str, requests: usize, at_once: usize) {
    match client {
        "windlass" => windlass::block_on(async {
            let client = windlass::http::Client::new();
            let get = || async {
                let response = client.get(url).await.unwrap();
                response.into_body().bytes(BODY).await.unwrap().len()
            };
            measure(requests, at_once, get).await;
        }),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let client = reqwest::Client::new();
                let get = || async {
                    let response = client.get(url).send().await.unwrap();
                    response.bytes().await.unwrap().len()
                };
                measure(requests, at_once, get).await;
            });
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize, default| {
        let argument = arguments.get(at).and_then(|argument| argument.parse().ok());
        argument.unwrap_or(default)
    };
    if let [client, url, ..] = &arguments[..] {
        if url.starts_with("http") {
            return run(client, url, number(2, 1), number(3, 1));
        }
    }

    let (requests, rounds) = (number(0, 20_000), number(1, 5));
    let server = Service::nginx(|addr, folder| {
        fs::write(folder.join("page"), vec![b'x'; BODY]).unwrap();
        let root = folder.display();
        format!("server {{ listen {addr}; root {root}; keepalive_requests 1000000000; }}")
    });
    let Some(server) = server.unwrap() else {
        return;
    };
    let url = format!("http://{}/page", server.addr);
    println!(
        "{:>10} {:>8} {:>12} {:>16}",
        "client", "at once", "requests/s", "CPU per request"
    );
    for at_once in [1, 16, 64] {
        let mut results = [vec![], vec![]];
        for _ in 0..rounds {
            for (client, results) in ["windlass", "reqwest"].iter().zip(&mut results) {
                let mut child = Command::new(env::current_exe().unwrap());
                child.args([client, &*url, &requests.to_string(), &at_once.to_string()]);
                let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
                let (rate, used) = output
                    .trim()
                    .split_once(' ')
                    .expect("a run prints its figures");
                results.push((rate.parse::<f64>().unwrap(), used.parse::<f64>().unwrap()));
            }
        }
        for (client, mut results) in ["windlass", "reqwest"].iter().zip(results) {
            let middle = results.len() / 2;
            results.sort_by(|a, b| a.0.total_cmp(&b.0));
            let rate = results[middle].0;
            results.sort_by(|a, b| a.1.total_cmp(&b.1));
            println!(
                "{client:>10} {at_once:>8} {rate:>12.0} {:>13.1} µs",
                results[middle].1
            );
        }
    }
}
