//! Storms of connections: 4,000 that arrive at once and keep asking, and short ones that never stop
//! coming while others are served.
//!
//! ```text
//! cargo run --release -p windlass-benches --bin storm -- [ROUNDS [CONTENDER ...]]
//! ```
//!
//! The same echo server on windlass, on tokio's `current_thread`, and as a bare epoll loop that
//! accepts all connections before it serves one. The server has one core and the client the other.
//! The contenders alternate, and the values are medians over rounds.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, ErrorKind::WouldBlock, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    io::Errno,
};

const CONTENDERS: [&str; 3] = ["windlass", "tokio", "bare epoll"];
const ROUNDS: usize = 5;
const SIZE: usize = 64;
/// Connections of a burst. They arrive while the server is stopped, so all of them have to fit into
/// its accept queue, which Linux limits to 4,096 by default.
const BURST: usize = 4_000;
/// Connections that are served, and short ones that are open at a time, during a lasting storm.
const SERVED: usize = 64;
const SHORT: usize = 512;
const LASTING: Duration = Duration::from_secs(1);
/// Time limit of a wait for events.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Of a burst: the wait for the first reply (median, p99, maximum, in ms), and until the last one
/// the CPU time of the server (ms) and the further replies.
/// Of a lasting storm: replies to served connections, their latency (median, p99, in ms), short
/// connections, and their p99 (ms).
type Figures = [f64; 10];

fn main() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [serve, contender] if serve == "serve" => return self::serve(contender),
        _ => {}
    }
    let rounds = args.first().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let is_chosen = |who: &&str| args.len() < 2 || args[1..].iter().any(|name| name == who);
    let contenders: Vec<&str> = CONTENDERS.into_iter().filter(is_chosen).collect();
    pin_to(1)?;
    let mut found = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let who = (round + turn) % contenders.len();
            found[who].push(measure(contenders[who])?);
        }
    }
    let heads = [
        "4,000 at once | first reply: p50 (ms) | p99 | longest | CPU (ms) | other replies",
        "a lasting storm | replies to 64 | p50 (ms) | p99 | short connections | p99 (ms)",
    ];
    for (half, head) in heads.iter().enumerate() {
        println!("| {head} |\n|---|---:|---:|---:|---:|---:|");
        for (who, rounds) in contenders.iter().zip(&found) {
            let figures = (5 * half..5 * half + 5).map(|what| median_of(rounds, what));
            let words: Vec<String> = figures.map(|figure| format!("{figure:.0}")).collect();
            println!("| {who} | {} |", words.join(" | "));
        }
        println!();
    }
    Ok(())
}

fn median_of(rounds: &[Figures], figure: usize) -> f64 {
    percentile(rounds.iter().map(|figures| figures[figure]).collect(), 0.5)
}

fn pin_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("two cores are needed")
}

fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share) as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// A server in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(contender: &str) -> Result<Server> {
        let mut process = Command::new(env::current_exe()?)
            .args(["serve", contender])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .context("the server has printed no address")?;
        Ok(Server { process, address })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(clock_gettime(ClockId::pid_cpu_clock_id(self.pid())?)?.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take()); // ends it
        let _ = self.process.wait();
    }
}

fn measure(contender: &str) -> Result<Figures> {
    let mut figures = Figures::default();
    figures[..5].copy_from_slice(&burst(&Server::start(contender)?)?);
    figures[5..].copy_from_slice(&lasting(&Server::start(contender)?)?);
    Ok(figures)
}

/// The client, a loop without a runtime.
struct Client {
    address: SocketAddr,
    epoll: OwnedFd,
    events: Vec<Event>,
    peers: Vec<Peer>,
}

struct Peer {
    stream: TcpStream,
    asked: Instant,
    received: usize,
    replies: usize,
}

impl Client {
    fn new(server: &Server) -> Result<Client> {
        Ok(Client {
            address: server.address,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
            peers: Vec::new(),
        })
    }

    /// Connects and sends a request.
    fn connect(&self, key: usize) -> Result<Peer> {
        let asked = Instant::now();
        let stream = TcpStream::connect(self.address).context("connect")?;
        stream.set_nodelay(true)?;
        (&stream).write_all(&[7; SIZE])?;
        stream.set_nonblocking(true)?;
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(key as u64), flags)?;
        Ok(Peer {
            stream,
            asked,
            received: 0,
            replies: 0,
        })
    }

    fn add(&mut self) -> Result<()> {
        let peer = self.connect(self.peers.len())?;
        self.peers.push(peer);
        Ok(())
    }

    /// Waits for events, and passes each peer that has a reply to `replied`.
    fn wait(
        &mut self,
        mut replied: impl FnMut(&Client, usize, &mut Peer) -> Result<()>,
    ) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let mut peers = std::mem::take(&mut self.peers);
        events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
        ensure!(!events.is_empty(), "no reply for {} s", PATIENCE.tv_sec);
        for event in &events {
            let key = event.data.u64() as usize;
            if peers[key].receive()? {
                replied(self, key, &mut peers[key])?;
            }
        }
        (self.events, self.peers) = (events, peers);
        Ok(())
    }
}

impl Peer {
    /// Returns true once the reply is complete.
    fn receive(&mut self) -> Result<bool> {
        let mut buffer = [0; 2 * SIZE];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the server has closed a connection"),
            Ok(n) => {
                ensure!(buffer[..n].iter().all(|byte| *byte == 7), "a wrong reply");
                self.received += n;
            }
            Err(error) if error.kind() == WouldBlock => {}
            Err(error) => return Err(error).context("reply"),
        }
        let is_complete = self.received == SIZE;
        if is_complete {
            (self.received, self.replies) = (0, self.replies + 1);
        }
        Ok(is_complete)
    }

    fn ask(&mut self) -> Result<()> {
        self.asked = Instant::now();
        self.stream.write_all(&[7; SIZE]).context("request")
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn burst(server: &Server) -> Result<[f64; 5]> {
    let mut client = Client::new(server)?;
    let (mut waits, mut others) = (Vec::new(), 0);
    let cpu = server.cpu()?;
    kill(server.pid(), Signal::SIGSTOP)?;
    (0..BURST).try_for_each(|_| client.add())?;
    let start = Instant::now();
    kill(server.pid(), Signal::SIGCONT)?;
    while waits.len() < BURST {
        client.wait(|_, _, peer| {
            match peer.replies {
                1 => waits.push(ms(start.elapsed())),
                _ => others += 1,
            }
            peer.ask()
        })?;
    }
    let cpu = server.cpu()? - cpu;
    let wait = |share| percentile(waits.clone(), share);
    Ok([wait(0.5), wait(0.99), wait(1.0), ms(cpu), others as f64])
}

fn lasting(server: &Server) -> Result<[f64; 5]> {
    let mut client = Client::new(server)?;
    (0..SERVED).try_for_each(|_| client.add())?;
    (0..SHORT).try_for_each(|_| client.add())?;
    let (mut served, mut short) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < LASTING {
        client.wait(|client, key, peer| {
            let wait = ms(peer.asked.elapsed());
            if key < SERVED {
                served.push(wait);
                return peer.ask();
            }
            short.push(wait);
            *peer = client.connect(key)?; // closes the old one
            Ok(())
        })?;
    }
    let replies = [served.len() as f64, short.len() as f64];
    let (p50, p99) = (percentile(served.clone(), 0.5), percentile(served, 0.99));
    Ok([replies[0], p50, p99, replies[1], percentile(short, 0.99)])
}

/// Prints the address, and serves until the standard input ends.
fn serve(contender: &str) -> Result<()> {
    pin_to(0)?;
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match contender {
        "windlass" => windlass::block_on(by_windlass()),
        "tokio" => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build()?.block_on(by_tokio())
        }
        "bare epoll" => by_epoll(),
        other => bail!("{other} is none of {CONTENDERS:?}"),
    }
}

async fn by_windlass() -> Result<()> {
    use futures::{AsyncReadExt, AsyncWriteExt};
    let listener = windlass::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept().await?;
        let echo = async move {
            let mut buffer = [0; SIZE];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        };
        windlass::spawn(echo).detach();
    }
}

async fn by_tokio() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpSocket::new_v4()?;
    listener.bind(([127, 0, 0, 1], 0).into())?;
    let listener = listener.listen(4096)?; // as windlass does
    println!("{}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = [0; SIZE];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn by_epoll() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, &listener, EventData::new_u64(u64::MAX), flags)?;
    let mut connections = HashMap::<u64, TcpStream>::new();
    let mut events = Vec::<Event>::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue, // the process was stopped
            result => result?,
        };
        for event in &events {
            let key = event.data.u64();
            if key == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    let key = stream.as_raw_fd() as u64;
                    let flags = flags | EventFlags::RDHUP;
                    epoll::add(&epoll, &stream, EventData::new_u64(key), flags)?;
                    connections.insert(key, stream);
                }
            } else if !connections.get(&key).is_some_and(echo_once) {
                connections.remove(&key);
            }
        }
    }
}

/// Returns false once the connection has ended.
fn echo_once(mut stream: &TcpStream) -> bool {
    let mut buffer = [0; SIZE];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => stream.write_all(&buffer[..n]).is_ok(),
        Err(error) => error.kind() == WouldBlock,
    }
}
