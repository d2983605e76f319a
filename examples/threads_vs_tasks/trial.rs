//! One step with one kind of server and a number of clients.

use std::{fmt, rc::Rc, time::Duration};

use anyhow::{Error, Result, anyhow, ensure};
use indicatif::HumanCount;
use windlass::{
    Task,
    time::{sleep, timeout},
};

use crate::{
    clients::{self, Client, Tally},
    descriptors,
    options::Side,
    progress::Progress,
    server_process::{Refusal, ServerProcess},
    usage::Usage,
};

/// Time limit of a step in addition to the measurement. It usually takes a second.
const OVERHEAD_LIMIT: Duration = Duration::from_secs(30);

/// The pause between two checks of the clients.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) side: Side,
    pub(crate) connections: usize,
    /// The mean pause of a client between a reply and its next request.
    pub(crate) think: Duration,
    /// Duration of the measurement.
    pub(crate) measured: Duration,
    /// Bytes of a request, and of its reply.
    pub(crate) size: usize,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Measured(Figures),
    /// This machine doesn't allow this server so many connections.
    Refused(String),
    /// An error, which is a wrong reply, a broken connection, or a time limit.
    Failed(Error),
}

#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) switches_per_request: f64,
    pub(crate) memory_kib_per_connection: f64,
    /// The clients' share of one core. Near 1, the clients are the bottleneck instead of the
    /// server.
    pub(crate) clients_load: f64,
}

impl Trial {
    pub(crate) fn run(&self, progress: &Progress) -> Outcome {
        match self.measure(progress) {
            Ok(figures) => Outcome::Measured(figures),
            Err(error) => match error.downcast::<Refusal>() {
                Ok(refusal) => Outcome::Refused(refusal.to_string()),
                Err(error) => Outcome::Failed(error),
            },
        }
    }

    fn measure(&self, progress: &Progress) -> Result<Figures> {
        descriptors::make_room(self.connections)?;
        let mut server = ServerProcess::start(self.side, self.size)?;
        let limit = self.measured + self.settling() + OVERHEAD_LIMIT;
        let load = timeout(limit, self.load(&mut server, progress));
        windlass::block_on(load)
            .unwrap_or_else(|_| Err(anyhow!("not done after {limit:?}")))
            .map_err(|error| server.explain(error))
    }

    async fn load(&self, server: &mut ServerProcess, progress: &Progress) -> Result<Figures> {
        // One connection first, to exclude one-time costs such as pages of code and first
        // allocations.
        Client::connect(server.address, 0, self.size).await?;
        let idle = server.usage()?;

        let clients = clients::connect(server.address, self.connections, self.size, |connected| {
            progress.show(
                0.2 * connected as f64 / self.connections as f64,
                "connecting",
            );
        });
        let tally = Rc::new(Tally::new()?);
        let _conversations = self.start_conversations(clients.await?, &tally);
        sleep(self.settling()).await;

        let before = (server.usage()?, Usage::of_this_process()?);
        tally.open();
        self.watch(&tally, progress).await?;
        tally.close();
        tally.settled().await?;
        let after = (server.usage()?, Usage::of_this_process()?);

        self.figures(&tally, idle, before, after)
    }

    fn start_conversations(&self, clients: Vec<Client>, tally: &Rc<Tally>) -> Vec<Task<()>> {
        let think = self.think;
        let start = |client: Client| {
            let tally = Rc::clone(tally);
            windlass::spawn(async move {
                if let Err(error) = client.converse(think, &tally).await {
                    tally.fail(error);
                }
            })
        };
        clients.into_iter().map(start).collect()
    }

    /// Each client starts at a random moment within its first think time. After that, all have
    /// started.
    fn settling(&self) -> Duration {
        self.think + TICK
    }

    async fn watch(&self, tally: &Tally, progress: &Progress) -> Result<()> {
        while tally.elapsed() < self.measured {
            sleep(TICK.min(self.measured - tally.elapsed())).await;
            tally.check()?;
            let part = tally.elapsed().div_duration_f64(self.measured).min(1.0);
            progress.show(0.2 + 0.8 * part, "measuring");
        }
        Ok(())
    }

    fn figures(
        &self,
        tally: &Tally,
        idle: Usage,
        (server_before, clients_before): (Usage, Usage),
        (server_after, clients_after): (Usage, Usage),
    ) -> Result<Figures> {
        let latencies = tally.latencies();
        ensure!(!latencies.is_empty(), "no request in {:?}", self.measured);
        let requests = latencies.len() as f64;
        let cpu = server_after.cpu - server_before.cpu;
        let switches = server_after.context_switches - server_before.context_switches;
        let memory = server_after.peak_resident.saturating_sub(idle.resident) as f64;
        let quantile_ms = |q| latencies.value_at_quantile(q) as f64 / 1e6;
        Ok(Figures {
            requests: latencies.len(),
            requests_per_second: requests / tally.elapsed().as_secs_f64(),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / requests,
            switches_per_request: switches as f64 / requests,
            memory_kib_per_connection: memory / 1024.0 / self.connections as f64,
            clients_load: (clients_after.cpu - clients_before.cpu)
                .div_duration_f64(tally.elapsed()),
        })
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {}",
            HumanCount(self.connections as u64),
            self.side
        )
    }
}
