//! The floors are the cost without a runtime. One is a deque of boxed futures with a no-op waker.
//! The other is a bare epoll loop, edge-triggered with RDHUP, that treats a short read as the end
//! of the data. Its only other descriptor is an eventfd, which is written and never read.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    future::Future,
    io::{self, ErrorKind::WouldBlock, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    pin::Pin,
    sync::{Arc, atomic::Ordering::Acquire},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::{
    buffer::spare_capacity,
    event::{
        EventfdFlags, Timespec,
        epoll::{self, Event, EventData, EventFlags},
        eventfd,
    },
};

use super::meter::{Params, print, process_cpu};
use super::runtime::yield_once;
use super::server::{ANY, Proto, Server};
use super::{unsupported, wake};

pub(crate) fn work(work: &str, params: &Params) -> Result<()> {
    match work {
        "yield" => yields(params),
        "wake" => woken(params)?,
        _ => return unsupported("there is no floor for it"),
    }
    Ok(())
}

fn yields(params: &Params) {
    let tasks = params.or("tasks", 1);
    let each = params
        .number("ops")
        .map(|ops| ops / tasks)
        .unwrap_or_else(|| {
            let few = (100_000 / tasks).max(3);
            let more = params.window().as_secs_f64() / polled(tasks, few).1.as_secs_f64();
            ((few as f64 * more) as u64).max(3)
        });
    let (cpu, _) = polled(tasks, each);
    print("cpu_ns", cpu as f64 / (each * tasks) as f64);
}

fn polled(tasks: u64, each: u64) -> (u64, Duration) {
    let mut queue: VecDeque<Pin<Box<dyn Future<Output = ()>>>> = VecDeque::new();
    for _ in 0..tasks {
        queue.push_back(Box::pin(async {
            loop {
                yield_once().await;
            }
        }));
    }
    let mut cx = Context::from_waker(Waker::noop());
    let start = (process_cpu(), Instant::now());
    for _ in 0..each * tasks {
        let mut task = queue.pop_front().expect("none ends");
        if task.as_mut().poll(&mut cx).is_pending() {
            queue.push_back(task);
        }
    }
    (process_cpu() - start.0, start.1.elapsed())
}

fn woken(params: &Params) -> Result<()> {
    let shared = Arc::new(wake::Shared::default());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(File::from(bell));
    let flags = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, &*bell, EventData::new_u64(0), flags)?;
    let theirs = bell.clone(); // stays open until the loop has received the last notification
    let partner = wake::partner(params, shared.clone(), move || {
        (&*theirs).write_all(&1_u64.to_ne_bytes()).expect("a bell");
    });
    let look = (params.text("loop") == Some("busy")).then(Timespec::default);
    let mut events = Vec::<Event>::with_capacity(8);
    let meter = wake::Meter::start();
    while !shared.over.load(Acquire) {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), look.as_ref())?;
        shared.answer(partner.thread());
    }
    meter.print(&shared);
    partner.join().expect("the partner has no fault");
    Ok(())
}

pub(crate) fn serve(server: &Server) -> Result<()> {
    if server.timeout.is_some() || server.idle_timers > 0 {
        return unsupported("the bare loop has no timers");
    }
    match server.proto {
        Proto::Echo | Proto::Churn => {
            let listener = TcpListener::bind(ANY)?;
            listener.set_nonblocking(true)?;
            server.listens(listener.local_addr()?);
            turn(server, &listener, || {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok::<TcpStream, _>(stream)
            })
        }
        Proto::Unix => {
            let listener = UnixListener::bind(server.path())?;
            listener.set_nonblocking(true)?;
            server.listens(server.path().display());
            turn(server, &listener, || {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok::<UnixStream, _>(stream)
            })
        }
        Proto::Udp => udp(server),
    }
}

/// The loop. A connection has a buffer only while a reply did not fit into the socket.
fn turn<S: Read + Write + AsFd + AsRawFd>(
    server: &Server,
    listener: impl AsFd,
    accept: impl Fn() -> io::Result<S>,
) -> Result<()> {
    let epoll: OwnedFd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let edge = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, &listener, EventData::new_u64(u64::MAX), edge)?;
    let flags = edge | EventFlags::OUT | EventFlags::RDHUP;
    let mut connections: HashMap<u64, Connection<S>> = HashMap::new();
    let mut buffer = vec![0; server.buffer()];
    let mut events = Vec::<Event>::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key != u64::MAX {
                let connection = connections.get_mut(&key).expect("it is open");
                if connection
                    .serve(&mut buffer, event.flags, server)
                    .unwrap_or(true)
                {
                    connections.remove(&key);
                }
                continue;
            }
            while let Some(stream) = ready(accept())? {
                let key = stream.as_raw_fd() as u64;
                let mut connection = Connection {
                    stream,
                    unsent: Vec::new(),
                };
                if server.proto == Proto::Churn
                    && connection.serve(&mut buffer, EventFlags::empty(), server)?
                {
                    continue; // its request has arrived already
                }
                epoll::add(&epoll, &connection.stream, EventData::new_u64(key), flags)?;
                connections.insert(key, connection);
            }
        }
    }
}

struct Connection<S> {
    stream: S,
    unsent: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// Returns true if the connection has ended.
    fn serve(&mut self, buffer: &mut [u8], flags: EventFlags, server: &Server) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        while self.unsent.is_empty() {
            let Some(n) = ready(self.stream.read(buffer))? else {
                return Ok(false);
            };
            if n == 0 {
                return Ok(true);
            }
            self.send(&buffer[..n])?;
            if server.proto == Proto::Churn && n >= server.size {
                return Ok(true);
            }
            if n < buffer.len() && !flags.contains(EventFlags::RDHUP) {
                return Ok(false); // a short read: there is no more data, or another event follows
            }
        }
        Ok(false)
    }

    fn send(&mut self, mut reply: &[u8]) -> io::Result<()> {
        while !reply.is_empty() {
            let Some(n) = ready(self.stream.write(reply))? else {
                self.unsent = reply.to_vec();
                break;
            };
            reply = &reply[n..];
        }
        Ok(())
    }
}

fn udp(server: &Server) -> Result<()> {
    let socket = UdpSocket::bind(ANY)?;
    socket.set_nonblocking(true)?;
    server.listens(socket.local_addr()?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let edge = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, &socket, EventData::new_u64(0), edge)?;
    let mut buffer = vec![0; server.buffer()];
    let mut events = Vec::<Event>::with_capacity(8);
    loop {
        while let Some((n, from)) = ready(socket.recv_from(&mut buffer))? {
            socket.send_to(&buffer[..n], from)?;
        }
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
    }
}

fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
