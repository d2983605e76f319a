//! Chapter 10: the price of ending a task, the resources left behind, and the requests lost.

pub mod broken;
pub mod program;

use std::{
    fs,
    future::pending,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::{AsyncBufReadExt, AsyncWriteExt, io::BufReader};
use windlass::{
    Task,
    net::{TcpListener, TcpStream},
    spawn,
    task::{StopSource, TaskGroup},
    time::{sleep, timeout},
    yield_now,
};

use crate::{
    chapter::Chapter,
    chart,
    figures::{
        Figures,
        Unit::{Nanoseconds, Number, Share},
    },
    measure::{Progress, Sample, effort, rounds, thread_cpu},
    server::raise_descriptor_limit,
};

/// The parts of the chapter.
pub const CHAPTER: Chapter = Chapter {
    number: 10,
    title: "Endings",
    measure,
    picture: |yours, ours| {
        let title = "From the decision to the end (log scale)";
        chart::bars(title, yours, ours, Nanoseconds)
    },
    broken: broken::run,
    serve: None,
};

/// Clients with a request in flight when the server is stopped.
const CLIENTS: usize = 100;

fn measure(progress: &mut Progress) -> io::Result<Figures> {
    raise_descriptor_limit();
    let mut figures = Figures::here();
    progress.steps(4);
    progress.step("cancel");
    figures.add(
        "wait",
        "cancel a task that waits",
        Nanoseconds,
        cancel_waits()?,
    );
    let label = "cancel a task that sleeps";
    figures.add("sleep", label, Nanoseconds, cancel_sleeps()?);
    let before = descriptors()?;
    progress.step("cancel sessions");
    let label = "cancel a session with its socket";
    figures.add("session", label, Nanoseconds, cancel_sessions()?);
    let left = descriptors()?.saturating_sub(before) as f64;
    figures.add("left", "sockets that are left", Number, exact(left));

    progress.step("stop");
    let mut stops = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..effort(7, 3) {
        let (graceful, took) = stop(true)?;
        let (dropped, _) = stop(false)?;
        let values = [graceful, took.as_nanos() as f64, dropped];
        for (values, value) in stops.iter_mut().zip(values) {
            values.push(value);
        }
    }
    let [graceful, took, dropped] = stops.map(Sample::of);
    figures.add("took", "graceful shutdown", Nanoseconds, took);
    figures.add(
        "graceful",
        "answered in a graceful shutdown",
        Share,
        graceful,
    );
    figures.add(
        "dropped",
        "answered if the server is dropped",
        Share,
        dropped,
    );

    for (is_mended, name) in [(false, "with the bug"), (true, "mended")] {
        let (_, lost) = broken::lost_by_cancels(is_mended);
        let label = format!("cancels that lose bytes, {name}");
        let key = format!("lost_{is_mended}");
        figures.add(key, label, Number, exact(lost as f64));
    }
    Ok(figures)
}

fn exact(median: f64) -> Sample {
    Sample {
        median,
        spread: 0.0,
    }
}

fn descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// The CPU time per task of a drop, after the first poll of each.
async fn cancel(tasks: Vec<Task<()>>) -> f64 {
    yield_now().await;
    let (count, start) = (tasks.len() as f64, thread_cpu());
    drop(tasks);
    (thread_cpu() - start).as_nanos() as f64 / count
}

fn cancel_waits() -> io::Result<Sample> {
    let count = effort(100_000, 10_000);
    let tasks = || (0..count).map(|_| spawn(pending())).collect();
    rounds(|| Ok(windlass::block_on(async { cancel(tasks()).await })))
}

fn cancel_sleeps() -> io::Result<Sample> {
    let count = effort(100_000, 10_000);
    let hour = Duration::from_secs(3600);
    let tasks = || (0..count).map(|_| spawn(sleep(hour))).collect();
    rounds(|| Ok(windlass::block_on(async { cancel(tasks()).await })))
}

/// The CPU time per session of the chapter, each with a connected client.
fn cancel_sessions() -> io::Result<Sample> {
    let count = effort(400, 100);
    rounds(|| {
        windlass::block_on(async {
            let stop = StopSource::new();
            let (address, server) = start(&stop).await?;
            let mut clients = Vec::new();
            for _ in 0..count {
                let mut client = Client::connect(address).await?;
                client.send().await?;
                clients.push(client);
            }
            for client in &mut clients {
                client.reply().await?;
            }
            let start = thread_cpu();
            drop(server);
            Ok((thread_cpu() - start).as_nanos() as f64 / count as f64)
        })
    })
}

async fn start(stop: &StopSource) -> io::Result<(SocketAddr, Task<io::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((address, spawn(program::serve(listener, stop.token()))))
}

/// Stops a server, or drops it, while each of its clients has a request in flight. Returns the
/// share of requests that are answered, and the time until the server has ended.
fn stop(is_graceful: bool) -> io::Result<(f64, Duration)> {
    windlass::block_on(async {
        let stop = StopSource::new();
        let (address, server) = start(&stop).await?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::connect(address).await?);
        }
        for client in &mut clients {
            client.send().await?;
        }
        // The sessions read their requests meanwhile.
        sleep(program::WORK / 5).await;
        let start = Instant::now();
        if is_graceful {
            stop.stop();
            server.await?;
        } else {
            drop(server);
        }
        let took = start.elapsed();
        let replies = TaskGroup::infallible();
        for mut client in clients {
            replies.spawn(async move { client.reply().await.is_ok() });
        }
        let answered = futures::StreamExt::fold(replies, 0, |sum, is_answered| async move {
            sum + usize::from(is_answered)
        });
        Ok((answered.await as f64 / CLIENTS as f64, took))
    })
}

/// A client that sends one request.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> io::Result<Client> {
        Ok(Client(BufReader::new(TcpStream::connect(address).await?)))
    }

    async fn send(&mut self) -> io::Result<()> {
        self.0.write_all(b"1\n").await
    }

    async fn reply(&mut self) -> io::Result<()> {
        let mut reply = String::new();
        timeout(Duration::from_secs(10), self.0.read_line(&mut reply)).await??;
        match reply.as_str() {
            "1\n" => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[test]
fn the_first_error_ends_a_gathering() -> io::Result<()> {
    windlass::block_on(async {
        let stop = StopSource::new();
        let (first, _first) = start(&stop).await?;
        let (second, _second) = start(&stop).await?;
        assert_eq!(program::gather(&[first, second], 21).await?, 42);

        let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let error = program::gather(&[first, closed, second], 21).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        Ok(())
    })
}
