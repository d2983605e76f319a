//! Threads of the standard library, one per task or connection.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    sync::{Arc, Barrier, atomic::Ordering::Acquire, mpsc},
    thread,
    time::Instant,
};

use anyhow::Result;
use futures::executor::block_on;

use super::meter::{Heap, Params, print, process_cpu, repeat, resident};
use super::server::{ANY, Proto, Server};
use super::{unsupported, wake};

pub(crate) fn work(work: &str, params: &Params) -> Result<()> {
    match work {
        "spawn" => spawn(params),
        "yield" if params.or("tasks", 1) > 10_000 => {
            return unsupported("so many threads can't be had");
        }
        "yield" => yields(params),
        "ping_pong" => ping_pong(params),
        "wake" if params.text("loop") == Some("parked") => parked(params),
        "idle_task" => idle_task(1_000),
        _ => return unsupported("a thread has nothing like it"),
    }
    Ok(())
}

fn spawn(params: &Params) {
    let batch = params.or("batch", 1) as usize;
    block_on(repeat(params, async |ops| {
        for _ in 0..ops.div_ceil(batch as u64) {
            let threads: Vec<_> = (0..batch)
                .map(|i| thread::spawn(move || black_box(i)))
                .collect();
            for thread in threads {
                black_box(thread.join().expect("no thread panics"));
            }
        }
    }));
}

fn yields(params: &Params) {
    let tasks = params.or("tasks", 1);
    let measured = |each: u64| {
        let barrier = Arc::new(Barrier::new(tasks as usize + 1));
        let threads: Vec<_> = (0..tasks)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || {
                    barrier.wait();
                    (0..each).for_each(|_| thread::yield_now());
                    barrier.wait();
                })
            })
            .collect();
        barrier.wait();
        let start = (process_cpu(), Instant::now());
        barrier.wait();
        let took = (process_cpu() - start.0, start.1.elapsed());
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no thread panics"));
        took
    };
    let each = params
        .number("ops")
        .map(|ops| ops / tasks)
        .unwrap_or_else(|| {
            let few = (10_000 / tasks).max(3);
            let more = params.window().as_secs_f64() / measured(few).1.as_secs_f64();
            ((few as f64 * more) as u64).max(3)
        });
    print("cpu_ns", measured(each).0 as f64 / (each * tasks) as f64);
}

fn ping_pong(params: &Params) {
    let (ping, pings) = mpsc::channel();
    let (pong, pongs) = mpsc::channel();
    thread::spawn(move || pings.iter().try_for_each(|number: u64| pong.send(number)));
    block_on(repeat(params, async |ops| {
        for number in 0..ops {
            ping.send(number).expect("the other is there");
            assert_eq!(pongs.recv(), Ok(number));
        }
    }));
}

fn parked(params: &Params) {
    let shared = Arc::new(wake::Shared::default());
    let this = thread::current();
    let partner = wake::partner(params, shared.clone(), move || this.unpark());
    let meter = wake::Meter::start();
    while !shared.over.load(Acquire) {
        shared.answer(partner.thread());
        thread::park();
    }
    meter.print(&shared);
    partner.join().expect("the partner has no fault");
}

fn idle_task(n: usize) {
    let before = (Heap::now().live, resident());
    let ready = Arc::new(Barrier::new(n + 1));
    for _ in 0..n {
        let ready = ready.clone();
        thread::spawn(move || {
            ready.wait();
            loop {
                thread::park();
            }
        });
    }
    ready.wait();
    print(
        "heap_bytes",
        (Heap::now().live - before.0) as f64 / n as f64,
    );
    print("rss_bytes", (resident() - before.1) as f64 / n as f64);
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    if server.is_shared || server.idle_timers > 0 {
        return unsupported("a thread has nothing like it");
    }
    match server.proto {
        Proto::Echo | Proto::Churn => {
            let listener = TcpListener::bind(ANY)?;
            server.listens(listener.local_addr()?);
            for stream in listener.incoming() {
                let (stream, server) = (stream?, server.clone());
                stream.set_nodelay(true)?;
                stream.set_read_timeout(server.timeout)?;
                thread::Builder::new().spawn(move || echo(stream, &server))?;
            }
        }
        Proto::Unix => {
            let listener = UnixListener::bind(server.path())?;
            server.listens(server.path().display());
            for stream in listener.incoming() {
                let (stream, server) = (stream?, server.clone());
                thread::Builder::new().spawn(move || echo(stream, &server))?;
            }
        }
        Proto::Udp => {
            let socket = UdpSocket::bind(ANY)?;
            server.listens(socket.local_addr()?);
            let mut buffer = vec![0; server.buffer()];
            loop {
                let (n, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..n], from)?;
            }
        }
    }
    Ok(())
}

fn echo(mut stream: impl Read + Write, server: &Server) -> io::Result<()> {
    let mut buffer = vec![0; server.buffer()];
    if server.proto == Proto::Churn {
        stream.read_exact(&mut buffer[..server.size])?;
        return stream.write_all(&buffer[..server.size]);
    }
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n])?;
    }
}
