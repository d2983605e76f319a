//! The clients are tasks on one windlass thread, for both kinds of server.

use std::{
    cell::{Cell, Ref, RefCell},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, ensure};
use fastrand::Rng;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use windlass::{net::TcpStream, time::sleep};

/// Maximum number of clients that connect at the same time. `std`'s listener queues 128
/// connections; beyond that the kernel drops the first packet of a connection, and the client sends
/// it again a second later.
const CONNECTING_AT_ONCE: usize = 64;

/// Time limit for the last replies after the last requests.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// One minute. A slower reply would be recorded as this, but no step waits that long.
const LATENCY_LIMIT_NS: u64 = 60_000_000_000;

pub(crate) struct Client {
    stream: TcpStream,
    /// Seeded with the client's number, so that each run sends the same bytes.
    random: Rng,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// The measurements of all clients together.
pub(crate) struct Tally {
    opened: Cell<Option<Instant>>,
    closed: Cell<Option<Instant>>,
    /// Requests sent in this interval that are not answered yet.
    pending: Cell<usize>,
    /// In nanoseconds, with three significant digits.
    latencies: RefCell<Histogram<u64>>,
    first_failure: Cell<Option<Error>>,
}

/// Connects `count` clients, and waits for the first reply to each, which shows that the server has
/// accepted them all.
pub(crate) async fn connect(
    address: SocketAddr,
    count: usize,
    size: usize,
    connected: impl Fn(usize),
) -> Result<Vec<Client>> {
    let connecting = (1..=count).map(|number| Client::connect(address, number, size));
    let mut connecting = stream::iter(connecting).buffer_unordered(CONNECTING_AT_ONCE);
    let mut clients = Vec::with_capacity(count);
    while let Some(client) = connecting.try_next().await? {
        clients.push(client);
        connected(clients.len());
    }
    Ok(clients)
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, number: usize, size: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("can't connect")?;
        stream.set_nodelay(true)?;
        let random = Rng::with_seed(number as u64);
        let mut client = Client {
            stream,
            random,
            request: vec![0; size],
            reply: vec![0; size],
        };
        client.exchange().await?;
        Ok(client)
    }

    /// Thinks, sends a request, and checks the reply, until the tally closes.
    pub(crate) async fn converse(mut self, think: Duration, tally: &Tally) -> Result<()> {
        // Otherwise all of them would send at the same moment.
        sleep(think.mul_f64(self.random.f64())).await;
        while !tally.is_closed() {
            let asked = tally.ask();
            self.exchange().await?;
            tally.answered(asked);
            sleep(think.mul_f64(0.5 + self.random.f64())).await;
        }
        Ok(())
    }

    async fn exchange(&mut self) -> Result<()> {
        self.request.fill_with(|| self.random.lowercase() as u8);
        self.stream
            .write_all(&self.request)
            .await
            .context("can't send a request")?;
        self.stream
            .read_exact(&mut self.reply)
            .await
            .context("can't read a reply")?;
        self.request.make_ascii_uppercase();
        ensure!(
            self.reply == self.request,
            "a wrong reply: {}",
            self.reply.escape_ascii()
        );
        Ok(())
    }
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        Ok(Tally {
            opened: Cell::new(None),
            closed: Cell::new(None),
            pending: Cell::new(0),
            latencies: RefCell::new(Histogram::new_with_max(LATENCY_LIMIT_NS, 3)?),
            first_failure: Cell::new(None),
        })
    }

    /// Requests count from here on.
    pub(crate) fn open(&self) {
        self.opened.set(Some(Instant::now()));
    }

    /// No more requests are sent from here on.
    pub(crate) fn close(&self) {
        self.closed.set(Some(Instant::now()));
    }

    fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// How long it has been open.
    pub(crate) fn elapsed(&self) -> Duration {
        let Some(opened) = self.opened.get() else {
            return Duration::ZERO;
        };
        self.closed.get().unwrap_or_else(Instant::now) - opened
    }

    /// Waits for the replies to requests sent while the tally was open, so that the slowest are
    /// included.
    pub(crate) async fn settled(&self) -> Result<()> {
        let closed = Instant::now();
        while self.pending.get() > 0 {
            self.check()?;
            let pending = self.pending.get();
            ensure!(
                closed.elapsed() < REPLY_LIMIT,
                "{pending} requests were never answered"
            );
            sleep(Duration::from_millis(1)).await;
        }
        self.check()
    }

    pub(crate) fn latencies(&self) -> Ref<'_, Histogram<u64>> {
        self.latencies.borrow()
    }

    /// Returns `None` if the tally isn't open yet; that request is not counted.
    fn ask(&self) -> Option<Instant> {
        self.opened.get().map(|_| {
            self.pending.set(self.pending.get() + 1);
            Instant::now()
        })
    }

    fn answered(&self, asked: Option<Instant>) {
        let Some(asked) = asked else { return };
        self.pending.set(self.pending.get() - 1);
        self.latencies
            .borrow_mut()
            .saturating_record(asked.elapsed().as_nanos() as u64);
    }

    pub(crate) fn fail(&self, error: Error) {
        let first = self.first_failure.take();
        self.first_failure.set(Some(first.unwrap_or(error)));
    }

    /// Returns the first error of a client.
    pub(crate) fn check(&self) -> Result<()> {
        self.first_failure.take().map_or(Ok(()), Err)
    }
}
