//! Clients for the servers of the chapters. Of many connections, a few are active at a time.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    measure::{Sample, effort},
    server::Server,
};

/// How many clients have a request in flight at the same time.
const ACTIVE: usize = 50;

/// What a number of connections costs a server.
#[derive(Debug)]
pub struct Cost {
    /// Resident memory per connection, in bytes.
    pub memory: f64,
    /// CPU time per request in the server, in nanoseconds.
    pub cpu: Sample,
    /// Switches between threads per request.
    pub switches: Sample,
    /// Time from a request to its reply that 99 of 100 requests stay below, in nanoseconds.
    pub p99: Sample,
}

/// Connects the clients, and measures the server under their requests.
///
/// # Errors
///
/// Returns an error if a connection fails, or if a reply is wrong or takes more than ten seconds.
pub fn measure(server: &mut Server, connections: usize) -> io::Result<Cost> {
    let before = server.usage()?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Client { stream, sum: 0 };
        client.send(1)?;
        client.receive()?;
        clients.push(client);
    }
    let memory = (server.usage()?.memory - before.memory) / connections as f64;

    let waves = effort(8_000, 1_000) / ACTIVE.min(connections);
    let (mut cpu, mut switches, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=effort(5, 3) {
        let start = server.usage()?;
        let mut latencies = Vec::new();
        for wave in 0..waves {
            requests(&mut clients, wave + round * waves, &mut latencies)?;
        }
        let end = server.usage()?;
        latencies.sort_unstable();
        if round > 0 {
            let count = latencies.len() as f64;
            cpu.push((end.cpu - start.cpu).as_nanos() as f64 / count);
            switches.push((end.switches - start.switches) / count);
            p99.push(latencies[latencies.len() * 99 / 100].as_nanos() as f64);
        }
    }
    let [cpu, switches, p99] = [cpu, switches, p99].map(Sample::of);
    Ok(Cost {
        memory,
        cpu,
        switches,
        p99,
    })
}

/// One request from each of some clients, which are others in the next wave.
fn requests(clients: &mut [Client], wave: usize, latencies: &mut Vec<Duration>) -> io::Result<()> {
    let (count, active) = (clients.len(), ACTIVE.min(clients.len()));
    // A step that shares no factor with the count reaches all of them in turn.
    let number = |i: usize| (wave * active + i).wrapping_mul(7919) % count;
    let mut sent = Vec::with_capacity(active);
    for i in 0..active {
        sent.push(Instant::now());
        clients[number(i)].send(wave as i64)?;
    }
    for (i, sent) in sent.into_iter().enumerate() {
        clients[number(i)].receive()?;
        latencies.push(sent.elapsed());
    }
    Ok(())
}

/// A client that checks the replies.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    sum: i64,
}

impl Client {
    fn send(&mut self, number: i64) -> io::Result<()> {
        self.sum += number;
        self.stream.write_all(format!("{number}\n").as_bytes())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut reply = [0; 32];
        let mut length = 0;
        while !reply[..length].ends_with(b"\n") {
            match self.stream.read(&mut reply[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => length += count,
            }
        }
        let text = String::from_utf8_lossy(&reply[..length]);
        if text.trim().parse() == Ok(self.sum) {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "{text:?} is not the sum {}",
                self.sum
            )))
        }
    }
}
