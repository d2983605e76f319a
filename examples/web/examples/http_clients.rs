//! The cost of a request by `windlass::http`, or by reqwest on tokio's `current_thread`. The part
//! `services` of the benchmarks starts it beside an nginx.
//!
//! ```text
//! cargo run --release -p windlass-web --example http_clients -- windlass http://127.0.0.1:80/ 16 5
//! ```
//!
//! The arguments are the client (or `reqwest`), the URL, the requests at once, and the seconds.
//! It prints the requests, the seconds, the CPU time in seconds, and the 99th percentile in ms.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};

/// The most bytes of a body.
const BODY_BYTES: usize = 1 << 20;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [client, url, at_once, seconds] = &args[..] else {
        bail!("CLIENT URL AT_ONCE SECONDS");
    };
    let at_once = at_once.parse()?;
    let time = Duration::from_secs_f64(seconds.parse()?);
    match client.as_str() {
        "windlass" => windlass::block_on(async {
            let client = windlass::http::Client::new();
            let get = async || {
                let response = client.get(url.as_str()).await?;
                ensure!(response.status() == 200, "{}", response.status());
                Ok(response.into_body().bytes(BODY_BYTES).await?.len())
            };
            measure(at_once, time, get).await
        }),
        "reqwest" => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build()?.block_on(async {
                let client = reqwest::Client::new();
                let get = async || {
                    let response = client.get(url).send().await?;
                    ensure!(response.status() == 200, "{}", response.status());
                    Ok(response.bytes().await?.len())
                };
                measure(at_once, time, get).await
            })
        }
        other => bail!("the clients are windlass and reqwest, not {other}"),
    }
}

/// Sends requests for a time, after one per connection as a warm-up, and prints their cost.
async fn measure(
    at_once: usize,
    time: Duration,
    get: impl AsyncFn() -> Result<usize>,
) -> Result<()> {
    let all = async |end: Instant| {
        let times = RefCell::new(Vec::new());
        let failure = RefCell::new(None);
        let repeat = async |_| {
            loop {
                let start = Instant::now();
                match get().await {
                    Ok(length) if length > 0 => times.borrow_mut().push(start.elapsed()),
                    Ok(_) => *failure.borrow_mut() = Some(anyhow::anyhow!("an empty body")),
                    Err(error) => *failure.borrow_mut() = Some(error),
                }
                if Instant::now() >= end || failure.borrow().is_some() {
                    break;
                }
            }
        };
        stream::iter(0..at_once)
            .for_each_concurrent(at_once, repeat)
            .await;
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(times.into_inner()),
        }
    };
    all(Instant::now()).await?;
    let (start, before) = (Instant::now(), cpu()?);
    let mut times = all(start + time).await?;
    let (took, used) = (start.elapsed().as_secs_f64(), cpu()? - before);
    times.sort();
    let p99 = times[times.len() * 99 / 100].as_secs_f64() * 1e3;
    println!("{} {took} {used} {p99}", times.len());
    Ok(())
}

/// CPU time of this process's only thread in seconds, from the scheduler.
fn cpu() -> Result<f64> {
    let times = fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = times.split(' ').next().context("it is empty")?.parse()?;
    Ok(nanos / 1e9)
}
