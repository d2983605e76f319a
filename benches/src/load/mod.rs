//! The load generator is a bare epoll loop on one thread that checks each reply.

mod churn;
mod peer;

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{time::ClockId, unistd::Pid};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, Event, EventData, EventFlags},
};

use crate::contend::{Params, percentile, print, raise_descriptors, read};
use peer::Peer;

/// Time limit for a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// `load <proto> addr=… [key=value …]`: measures a server, and prints the results.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (proto, params) = args.split_first().context("say what to load")?;
    let params = Params::parse(params).context("parameters are key=value")?;
    raise_descriptors()?;
    let load = Load {
        proto,
        address: params.text("addr").context("addr= is missing")?,
        connections: params.or("c", 1) as usize,
        depth: params.or("depth", 1) as usize,
        size: params.or("size", 64) as usize,
        ops: params.number("ops"),
        window: params.window(),
        server: params.number("pid").map(|pid| Pid::from_raw(pid as i32)),
    };
    match proto.as_str() {
        "idle" => load.idle(),
        "churn" => load.churn(),
        "echo" | "udp" | "unix" => load.echo(),
        other => bail!("no such load: {other}"),
    }
}

pub(crate) struct Load<'a> {
    proto: &'a str,
    address: &'a str,
    connections: usize,
    /// Requests in flight per connection.
    depth: usize,
    size: usize,
    /// An exact number of requests, or as many as fit into the window.
    ops: Option<u64>,
    window: Duration,
    server: Option<Pid>,
}

impl Load<'_> {
    fn idle(&self) -> Result<()> {
        let mut peers = self.connect()?;
        for peer in &mut peers {
            peer.exchange_blocking()?;
        }
        println!("open {}", peers.len());
        std::io::stdout().flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }

    fn connect(&self) -> Result<Vec<Peer>> {
        (0..self.connections)
            .map(|_| Peer::connect(self.proto, self.address, self.size))
            .collect()
    }

    fn echo(&self) -> Result<()> {
        let mut peers = self.connect()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (key, peer) in peers.iter_mut().enumerate() {
            // All connections are accepted before the measurement, because servers differ in how
            // many they accept while they serve others.
            peer.exchange_blocking()?;
            peer.set_nonblocking()?;
            epoll::add(&epoll, peer.fd(), EventData::new_u64(key as u64), flags)?;
        }
        let mut meter = Meter::new(self);
        for peer in &mut peers {
            let now = Instant::now();
            (0..self.depth).for_each(|_| meter.send(peer, now));
            peer.flush()?;
        }
        let mut buffer = vec![0; 256 << 10];
        let mut events = Vec::<Event>::with_capacity(1024);
        while !meter.is_over() {
            events.clear();
            let patience = PATIENCE.try_into()?;
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
            ensure!(!events.is_empty(), "no reply for {PATIENCE:?}");
            let now = Instant::now();
            for event in &events {
                let peer = &mut peers[event.data.u64() as usize];
                peer.receive(&mut buffer, |peer, sent| {
                    meter.took(now.saturating_duration_since(sent));
                    meter.send(peer, now);
                })?;
                peer.flush()?;
            }
            meter.look(now);
        }
        meter.print();
        Ok(())
    }
}

/// The measured interval, which is a window after a warm-up, or a fixed number of requests as a
/// whole.
pub(crate) struct Meter {
    ops: Option<u64>,
    window: Duration,
    server: Option<Pid>,
    begun: Instant,
    /// Minimum number of replies during the warm-up.
    first: u64,
    sent: u64,
    replies: u64,
    measured: Option<Start>,
    latencies: Vec<u64>,
    end: Option<(Instant, u64)>,
}

struct Start {
    at: Instant,
    cpu: u64,
    replies: u64,
}

impl Meter {
    pub(crate) fn new(load: &Load<'_>) -> Meter {
        let mut meter = Meter {
            ops: load.ops,
            window: load.window,
            server: load.server,
            begun: Instant::now(),
            first: (2 * load.connections * load.depth) as u64,
            sent: 0,
            replies: 0,
            measured: None,
            latencies: Vec::new(),
            end: None,
        };
        if meter.ops.is_some() {
            meter.start(meter.begun);
        }
        meter
    }

    fn start(&mut self, at: Instant) {
        let (cpu, replies) = (self.cpu(), self.replies);
        self.measured = Some(Start { at, cpu, replies });
    }

    fn cpu(&self) -> u64 {
        let clock = self
            .server
            .and_then(|pid| ClockId::pid_cpu_clock_id(pid).ok());
        clock.map_or(0, read)
    }

    /// Returns true if another request is due.
    pub(crate) fn goes_on(&mut self) -> bool {
        let goes_on = self.ops.is_none_or(|ops| self.sent < ops);
        self.sent += u64::from(goes_on);
        goes_on
    }

    fn send(&mut self, peer: &mut Peer, now: Instant) {
        if self.goes_on() {
            peer.request(now);
        }
    }

    pub(crate) fn took(&mut self, latency: Duration) {
        self.replies += 1;
        if self.measured.is_some() {
            self.latencies.push(latency.as_nanos() as u64);
        }
    }

    /// Starts and ends the measurement.
    pub(crate) fn look(&mut self, now: Instant) {
        let is_over = match (&self.measured, self.ops) {
            (_, Some(ops)) => self.replies >= ops,
            (Some(start), None) => now - start.at >= self.window,
            (None, None) => {
                if now - self.begun >= self.window / 5 && self.replies >= self.first {
                    self.start(now);
                }
                false
            }
        };
        if is_over {
            self.end = Some((Instant::now(), self.cpu()));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn print(mut self) {
        let (Some(start), Some((end, cpu))) = (self.measured, self.end) else {
            return;
        };
        let requests = (self.replies - start.replies) as f64;
        print("requests", requests);
        print("wall_ns", (end - start.at).as_nanos() as f64 / requests);
        print("p50_ns", percentile(&mut self.latencies, 0.5));
        print("p99_ns", percentile(&mut self.latencies, 0.99));
        if self.server.is_some() {
            print("cpu_ns", (cpu - start.cpu) as f64 / requests);
        }
    }
}
