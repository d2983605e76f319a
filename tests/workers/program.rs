//! The program under test is a small HTTP server with requests that make it misbehave.

use std::io::{self, Write};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::TcpStream;
use windlass::sync::Semaphore;
use windlass::workers::{Builder, Parent, Party, Worker};

/// Options are arguments of the form `key=value`.
pub(crate) fn main(args: &[String]) -> io::Result<()> {
    let get = |key: &str| {
        args.iter()
            .find_map(|arg| arg.strip_prefix(key)?.strip_prefix('='))
    };
    let millis = |text: &str| Duration::from_millis(text.parse().unwrap());
    if let (Some(limit), Ok(_)) = (get("descriptors"), std::env::var("WINDLASS_WORKER")) {
        limit_descriptors(limit.parse().unwrap())?;
    }
    let mut workers = windlass::workers();
    if get("kind") == Some("processes") {
        workers = workers.processes();
    }
    if let Some(count) = get("count") {
        workers = workers.count(count.parse().unwrap());
    }
    if let Some(limit) = get("heartbeat") {
        workers = workers.heartbeat(millis(limit));
    }
    if let Some(limit) = get("drain") {
        workers = workers.drain_limit(millis(limit));
    }
    if let Some(path) = get("figures") {
        workers = workers.figures_at(path);
    }
    if get("pin").is_some() {
        workers = workers.pin_to_cores();
    }
    if let Some(addr) = get("listen") {
        workers = listen(workers, addr, get("each").is_some())?;
    }
    workers = match get("parent") {
        Some("echo") => workers.parent(broadcast_all),
        Some("flood") => workers.parent(flood),
        Some("count") => workers.parent(count),
        Some("panic") => workers.parent(panic_at_a_message),
        Some("bomb") => workers.parent(bomb_at_a_message),
        Some("stop") => workers.parent(stop_at_a_message),
        Some("deaf") => workers.parent(never_receive),
        Some("limit") => workers.parent(limit_processes_at_a_signal),
        _ => workers,
    };
    let behave = get("behave").unwrap_or("serve").to_owned();
    workers.run(move |worker| run(worker, behave.clone()))
}

fn listen(workers: Builder, addr: &str, each: bool) -> io::Result<Builder> {
    if each {
        workers.listen_per_worker(addr)
    } else {
        workers.listen(addr)
    }
}

/// The parent's future, which broadcasts each message that it receives.
async fn broadcast_all(mut parent: Parent) {
    loop {
        let message = parent.recv().await;
        if parent.broadcast(message.body).await.is_err() {
            return;
        }
    }
}

/// Sends all workers more messages than any queue holds.
async fn flood(mut parent: Parent) {
    parent.recv().await;
    for wave in 1..=1000 {
        let mut body = format!("wave {wave}").into_bytes();
        body.resize(16 * 1024, b'\0');
        parent.broadcast(body).await.unwrap();
    }
    std::future::pending().await
}

/// Counts messages, and yields in between so that they queue up.
async fn count(mut parent: Parent) {
    for count in 1.. {
        parent.recv().await;
        print_line(&format!("the parent has got {count}"));
        for _ in 0..20 {
            windlass::yield_now().await;
        }
    }
}

async fn panic_at_a_message(mut parent: Parent) {
    parent.recv().await;
    panic!("the mast broke");
}

async fn bomb_at_a_message(mut parent: Parent) {
    parent.recv().await;
    std::panic::panic_any(Bomb);
}

async fn stop_at_a_message(mut parent: Parent) {
    parent.recv().await;
    parent.stop();
    print_line("the parent has called stop");
    std::future::pending().await
}

async fn never_receive(_parent: Parent) {
    std::future::pending().await
}

/// At each signal, sets the limit of processes and threads to zero, or back to the original value.
async fn limit_processes_at_a_signal(_parent: Parent) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nproc);
    let current = Some(0);
    let none = Rlimit { current, ..before };
    let mut signals = windlass::signal::Signals::new([windlass::signal::Signal::USR2]).unwrap();
    print_line("the limit can be changed");
    for limits in [none, before].into_iter().cycle() {
        signals.recv().await.unwrap();
        setrlimit(Resource::Nproc, limits).unwrap();
        print_line("the limit is changed");
    }
}

/// A panic payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the value of the panic is dropped");
    }
}

/// Called in a worker before it receives the descriptors from its parent.
fn limit_descriptors(limit: u64) -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = Some(limit);
    Ok(setrlimit(Resource::Nofile, limits)?)
}

async fn run(worker: Worker, behave: String) -> io::Result<()> {
    match behave.as_str() {
        "fail" => return Err(io::Error::other("no rope")),
        "panic" => panic!("the rope broke"),
        "bomb" => std::panic::panic_any(Bomb),
        "traced" => {
            // Fails where Yama does not restrict tracing, and then tracing needs no permission.
            let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
        }
        "finish" => return Ok(()),
        "farewell" => {
            for _ in 0..200 {
                worker.send(Party::Parent, vec![b'!'; 32 * 1024]).await?;
            }
            return Ok(());
        }
        _ => {}
    }
    if let Some(listener) = worker.listeners().first() {
        // Only the first listener is printed.
        print_line(&format!(
            "serving {} {}",
            std::process::id(),
            listener.local_addr()
        ));
    }
    let (heard, is_deaf) = (worker.clone(), behave == "deaf" && worker.index() == 0);
    windlass::spawn(async move {
        if is_deaf {
            std::future::pending().await
        }
        let mut in_order = 0;
        while let Ok(message) = heard.recv().await {
            if message.body.starts_with(b"#") {
                in_order += usize::from(message.body == format!("#{in_order}").as_bytes());
                continue;
            }
            if message.body == b"count" {
                print_line(&format!("worker {} got {in_order} in order", heard.index()));
                continue;
            }
            print_line(&format!(
                "worker {} got {}",
                heard.index(),
                String::from_utf8_lossy(&message.body).trim_end_matches('\0')
            ));
        }
    })
    .detach();
    let own = worker.clone();
    let failing = std::rc::Rc::new(Semaphore::new(0));
    let fail = failing.clone();
    let serving = worker.serve(move |stream, _| {
        let (worker, fail) = (own.clone(), fail.clone());
        async move {
            let _ = answer(worker, stream, &fail).await;
        }
    });
    // Whichever completes first.
    let failed = failing.acquire(1);
    let (serving, failed) = (std::pin::pin!(serving), std::pin::pin!(failed));
    match futures::future::select(serving, failed).await {
        futures::future::Either::Left((served, _)) => served,
        futures::future::Either::Right(_) => Err(io::Error::other("asked to fail")),
    }
}

/// Sends more than any queue holds to the first worker and to the parent, then one message to all.
async fn send_much(worker: &Worker) -> io::Result<()> {
    for _ in 0..200 {
        worker.send(Party::Worker(0), vec![b'!'; 64 * 1024]).await?;
    }
    worker.send(Party::Parent, "ahoy").await?;
    worker
        .send(Party::Worker(worker.count() - 1), "ahoy")
        .await?;
    worker.broadcast("avast").await
}

/// Writes a line with one call, because other processes write as well.
fn print_line(text: &str) {
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// Sends more messages than a channel holds, but fewer bytes than a receiver's queue.
async fn send_a_burst(worker: &Worker) -> io::Result<()> {
    for number in 0..20_000 {
        worker.send(Party::Worker(0), format!("#{number}")).await?;
    }
    worker.send(Party::Worker(0), "count").await
}

/// Answers requests without a body. When the worker is stopped, the answer closes the connection.
async fn answer(worker: Worker, mut stream: TcpStream, fail: &Semaphore) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                n => request.extend(&buffer[..n]),
            }
        }
        worker.count_request();
        let text = String::from_utf8_lossy(&request).into_owned();
        match text.split(' ').nth(1) {
            Some("/crash") => std::process::abort(),
            Some("/panic") => panic!("asked to"),
            Some("/block") => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            Some("/slow") => windlass::time::sleep(Duration::from_millis(300)).await,
            Some("/send") => worker.send(Party::Parent, "ahoy").await?,
            Some("/fail") => fail.add_permits(1),
            Some("/burst") => send_a_burst(&worker).await?,
            Some("/much") => send_much(&worker).await?,
            Some("/others") => worker.broadcast("avast").await?,
            _ => {}
        }
        let closes = worker.stop_token().is_stopped() || text.contains("Connection: close");
        let mut body = format!("{} {}", worker.index(), std::process::id());
        if text.contains("/children") {
            let mut ls = windlass::process::Command::new("ls");
            let listed = ls.args(["-l", "/proc/self/fd"]).output().await?;
            body = String::from_utf8_lossy(&listed.stdout).into_owned();
        }
        let connection = if closes { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        if closes {
            return stream.close().await;
        }
        request.clear();
    }
}
