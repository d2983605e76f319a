//! The configuration of the workers.

#[cfg(unix)]
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::pin::Pin;
use std::time::Duration;

use super::describe_panic;
use super::log::Log;
use super::message::{Command, Exchange, Parent};
use super::supervisor::{Event, Launcher, Settings, Sockets, Supervisor};
use super::thread::Threads;
use super::worker::{Assignment, Worker};
use crate::Task;
use crate::inspect::loops::metrics_of_thread;
use crate::inspect::watchdog;
use crate::sync::mpsc;

/// Maximum number of workers.
const MAX_WORKERS: usize = 1024;

/// An upper bound for durations, so that adding one to the current time cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Capacity of the supervisor's queue of events.
const EVENT_CAPACITY: usize = 64;

/// Configures and runs workers. Created by [`workers`](crate::workers()).
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// windlass::workers()
///     .count(4)
///     .heartbeat(Duration::from_secs(5))
///     .drain_limit(Duration::from_secs(30))
///     .listen("0.0.0.0:7000")?
///     .run(|worker| async move { worker.serve(|_stream, _peer| async {}).await })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "nothing is started until `run`"]
pub struct Builder {
    count: Option<usize>,
    pub(super) is_pinned: bool,
    are_processes: bool,
    heartbeat: Duration,
    drain_limit: Duration,
    pub(super) sockets: Vec<Vec<TcpListener>>,
    /// For each call of `listen`: whether it needs one socket per worker.
    per_worker: Vec<bool>,
    parent: Option<ParentFn>,
    stall_threshold: Option<Duration>,
    #[cfg(unix)]
    figures_at: Option<std::path::PathBuf>,
    /// Sockets from systemd that no `listen` has taken yet. `None` before the first call of
    /// `listen`.
    #[cfg(unix)]
    activated: Option<VecDeque<TcpListener>>,
    /// In a worker, the file descriptors and the assignment passed by the parent.
    #[cfg(unix)]
    inheritance: io::Result<Option<super::process::Inherited>>,
}

type ParentFn = Box<dyn FnOnce(Parent) -> Pin<Box<dyn Future<Output = ()>>>>;

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            count: None,
            is_pinned: false,
            are_processes: false,
            heartbeat: Duration::from_secs(10),
            drain_limit: Duration::from_secs(20),
            sockets: Vec::new(),
            per_worker: Vec::new(),
            parent: None,
            stall_threshold: Some(watchdog::DEFAULT_THRESHOLD),
            #[cfg(unix)]
            figures_at: None,
            #[cfg(unix)]
            activated: None,
            #[cfg(unix)]
            inheritance: super::process::Inherited::take(),
        }
    }

    /// Sets the number of workers. The default is the number of cores that this process may use.
    pub fn count(mut self, count: usize) -> Builder {
        self.count = Some(count);
        self
    }

    /// Makes each worker a process that runs the same program again. A crash then affects one
    /// worker, a restart returns all memory to the system, and the program can be replaced while
    /// the service runs. The [module](super#processes) explains the consequences for `main`.
    #[cfg(unix)]
    pub fn processes(mut self) -> Builder {
        self.are_processes = true;
        self
    }

    /// Makes each worker a thread. This is the default.
    pub fn threads(mut self) -> Builder {
        self.are_processes = false;
        self
    }

    /// Pins each worker to a core. Supported on Linux only; elsewhere the workers fail.
    pub fn pin_to_cores(mut self) -> Builder {
        self.is_pinned = true;
        self
    }

    /// Listens on a TCP address with one socket for all workers. A connection wakes one waiting
    /// worker, and the workers take turns. Can be called several times for several addresses.
    ///
    /// If systemd has passed TCP sockets (`LISTEN_FDS`), the first call takes the first of them,
    /// the second call the second, and so on. The address is then set by the unit, and `addr` is
    /// unused. Sockets of other types stay open in the parent, for use by the program.
    ///
    /// The parent keeps the socket open as long as it runs. Connections that arrive while workers
    /// are restarted or reloaded wait in the accept queue and are not refused.
    ///
    /// # Errors
    ///
    /// Returns an error that contains the address if the port is in use or not permitted, and an
    /// error if the variables set by systemd are malformed.
    pub fn listen(self, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        self.listen_as(false, addr)
    }

    /// Listens on a TCP address with one socket per worker (`SO_REUSEPORT`). The kernel distributes
    /// connections by a hash of their addresses. Linux only.
    ///
    /// There are no spurious wake-ups, and each worker has its own accept queue, which can be
    /// better for very many short connections. But the kernel assigns a connection to a worker even
    /// if that worker is busy or dead while others are idle, so [`listen`](Builder::listen) is the
    /// better choice for most services. A socket passed by systemd is shared by all workers in
    /// either case.
    ///
    /// # Errors
    ///
    /// The same as for [`listen`](Builder::listen).
    #[cfg(target_os = "linux")]
    pub fn listen_per_worker(self, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        self.listen_as(true, addr)
    }

    fn listen_as(mut self, per_worker: bool, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        let (mut sockets, mut is_activated) = (Vec::new(), false);
        if !self.is_worker() {
            let activated = self.activated()?;
            is_activated = activated.is_some();
            sockets.push(match activated {
                Some(socket) => socket,
                None => super::bind::bind(addr, per_worker)?,
            });
        }
        self.sockets.push(sockets);
        self.per_worker.push(per_worker && !is_activated);
        Ok(self)
    }

    /// Sets the time limit between heartbeats of a worker. The default is 10 s. The loop of the
    /// worker sends the heartbeats, so a worker that is stuck in a task sends none. The parent then
    /// kills the worker and starts another. A thread cannot be killed and is abandoned.
    ///
    /// # Panics
    ///
    /// Panics if the limit is less than 100 ms.
    pub fn heartbeat(mut self, limit: Duration) -> Builder {
        assert!(
            limit >= Duration::from_millis(100),
            "the heartbeat limit must be at least 100 ms"
        );
        self.heartbeat = limit.min(MAX_DURATION);
        self
    }

    /// Sets the threshold of the [watchdog](crate::inspect::Watchdog), which reports tasks that
    /// block the loop of a worker. The default is 50 ms. `None` switches it off.
    ///
    /// A watchdog that the program has started itself stays as it is, and so does the one of the
    /// environment variable `WINDLASS_WATCH`.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// windlass::workers()
    ///     .stall_threshold(Some(Duration::from_millis(200)))
    ///     .run(|_worker| async { Ok(()) })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stall_threshold(mut self, threshold: Option<Duration>) -> Builder {
        self.stall_threshold = threshold;
        self
    }

    /// Sets the time limit for a worker to finish its open work when it drains. The default is 20
    /// s. After that the worker is killed, and has 2 s to exit.
    pub fn drain_limit(mut self, limit: Duration) -> Builder {
        self.drain_limit = limit.min(MAX_DURATION);
        self
    }

    /// Sets a future that runs in the parent, on the loop of the supervisor. It can send messages
    /// to the workers, receive theirs, and read their metrics. It is dropped after the workers have
    /// exited and it has received their messages. For that it has 1 s, or the rest of the
    /// [`drain_limit`](Builder::drain_limit) if that is less. It must not block, because that would
    /// block the supervisor. Direct writes to standard error can block, and so can a panic, because
    /// the panic hook writes there.
    ///
    /// If the future panics, the workers are drained and [`run`](Builder::run) returns an error. If
    /// it returns, the workers continue, and their messages to the parent are dropped.
    pub fn parent<F, Fut>(mut self, parent: F) -> Builder
    where
        F: FnOnce(Parent) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.parent = Some(Box::new(|handle| Box::pin(parent(handle))));
        self
    }

    /// Serves the [metrics](super::Figures) of all workers in Prometheus' text format, by HTTP on a
    /// Unix socket at this path:
    ///
    /// ```sh
    /// curl --unix-socket figures.sock http://localhost/metrics
    /// ```
    ///
    /// A socket file that was left there by an earlier program is replaced. If the path is a file
    /// of another type, or a socket with a listener, [`run`](Builder::run) returns an error. Every
    /// user with write access to the file may read the metrics.
    ///
    /// The head of a request must arrive within 1 s (otherwise the status is 408), have at most 16
    /// KiB and 64 header fields (431), and be a valid (400) GET or HEAD (405) of HTTP/1. Up to 64
    /// clients are served concurrently. The next one disconnects the oldest.
    #[cfg(unix)]
    pub fn figures_at(mut self, path: impl Into<std::path::PathBuf>) -> Builder {
        self.figures_at = Some(path.into());
        self
    }

    /// Runs the workers until all have returned `Ok` or a signal stops them. Each worker calls
    /// `run` and polls the returned future as the main task of its own event loop.
    ///
    /// A worker that returns an error, panics or dies is restarted. In a worker process this
    /// function does not return, because the process exits.
    ///
    /// # Errors
    ///
    /// Returns an error if workers cannot be started or keep crashing at their start, if a second
    /// stop signal arrives, if the future of [`parent`](Builder::parent) panics, or if the count is
    /// 0 or more than 1,024. All workers have exited by then, except those that the error names.
    ///
    /// The kind is `TimedOut` if a worker was killed and has not exited within 2 s. Such a process
    /// is traced or hangs in the kernel, and such a thread blocks. The error names its index and
    /// its PID.
    ///
    /// The kind is `QuotaExceeded` if the system is out of processes, threads or file descriptors
    /// when the workers are first started. If they run out later, restarts are retried until they
    /// succeed.
    ///
    /// # Panics
    ///
    /// Panics when called inside a task.
    pub fn run<F, Fut>(mut self, run: F) -> io::Result<()>
    where
        F: Fn(Worker) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>>,
    {
        if let Some(threshold) = self.stall_threshold {
            watchdog::start_default(threshold);
        }
        #[cfg(unix)]
        if let Some(inheritance) = std::mem::replace(&mut self.inheritance, Ok(None))? {
            super::process::run_as_worker(inheritance, &self, &run);
        }
        self.validate()?;
        let launcher: Box<dyn Launcher> = match self.are_processes {
            #[cfg(unix)]
            true => Box::new(super::process::Processes::new()?),
            _ => Box::new(Threads::new(run)),
        };
        assert!(
            !windlass_executor::in_task(),
            "`run` was called inside a task and would block its loop: call it on a separate thread"
        );
        super::try_block_on(self.supervise(launcher))?
    }

    /// Validates the options, and creates the remaining sockets of `listen_per_worker`.
    fn validate(&mut self) -> io::Result<()> {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let count = self.count.unwrap_or_else(cores);
        if !(1..=MAX_WORKERS).contains(&count) {
            let text = format!("{count} workers: the count must be 1 to {MAX_WORKERS}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.count = Some(count);
        #[cfg(unix)]
        let left = self.activated.as_ref().map_or(0, VecDeque::len);
        #[cfg(unix)]
        if left > 0 {
            let text = format!("systemd passed {left} more sockets than the program listens on");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for (sockets, &per_worker) in self.sockets.iter_mut().zip(&self.per_worker) {
            while per_worker && sockets.len() < count {
                sockets.push(super::bind::bind(sockets[0].local_addr()?, true)?);
            }
        }
        Ok(())
    }

    fn settings(&self, watchdog: Option<Duration>) -> Settings {
        let assignment = Assignment {
            index: 0,
            count: self.count.unwrap_or(1),
            interval: (self.heartbeat / 4).min(Duration::from_secs(1)),
            is_pinned: self.is_pinned,
            read_runtime: metrics_of_thread,
        };
        Settings {
            assignment,
            heartbeat: self.heartbeat,
            drain_limit: self.drain_limit,
            watchdog,
        }
    }

    async fn supervise(self, launcher: Box<dyn Launcher>) -> io::Result<()> {
        let log = Log::new();
        #[cfg(unix)]
        let (notify, watchdog) = super::systemd::notifier(&log);
        #[cfg(not(unix))]
        let (notify, watchdog) = (Box::new(|_| ()), None);
        let (events, incoming) = mpsc::channel(EVENT_CAPACITY);
        let commands = Box::new(command_sender(events.clone()));
        let _signals = super::signals::listen(events.clone())?;
        let settings = self.settings(watchdog);
        let count = settings.assignment.count;
        let exchange = Exchange::new(count, commands);
        let (exchange, parent) = exchange.open(self.parent.is_some());
        #[cfg(unix)]
        let _metrics_server = match self.figures_at {
            Some(path) => Some(super::metrics_server::listen(&path, exchange.clone())?),
            None => None,
        };
        let parent = self.parent.zip(parent);
        let parent = parent.map(|(run, handle)| run_parent(run, handle, events.clone()));
        let sockets = Sockets(self.sockets);
        let (router, supervisor_log) = (exchange.clone(), log.clone());
        let supervisor = Supervisor::new(
            launcher,
            sockets,
            settings,
            router,
            events,
            notify,
            supervisor_log,
        );
        supervisor.run(incoming).await?;
        exchange.flush().await;
        match parent.filter(Task::is_finished) {
            // It may have panicked after the supervisor ended.
            Some(parent) => parent.await.map_err(io::Error::other),
            None => Ok(()),
        }
    }

    #[cfg(unix)]
    fn is_worker(&self) -> bool {
        !matches!(self.inheritance, Ok(None))
    }

    #[cfg(not(unix))]
    fn is_worker(&self) -> bool {
        false
    }

    /// Takes the next socket that systemd has passed.
    #[cfg(unix)]
    fn activated(&mut self) -> io::Result<Option<TcpListener>> {
        let mut sockets = match self.activated.take() {
            Some(sockets) => sockets,
            None => super::systemd::sockets()?.into(),
        };
        let next = sockets.pop_front();
        self.activated = Some(sockets);
        Ok(next)
    }

    #[cfg(not(unix))]
    fn activated(&mut self) -> io::Result<Option<TcpListener>> {
        Ok(None)
    }
}

/// Runs the future of `parent`, and reports its panic.
fn run_parent(
    run: ParentFn,
    handle: Parent,
    events: mpsc::Sender<Event>,
) -> Task<Result<(), String>> {
    let running = crate::spawn(async move { run(handle).await });
    crate::spawn(async move {
        let Err(panic) = running.catch().await else {
            return Ok(());
        };
        let text = format!(
            "the parent's future panicked: {}",
            describe_panic(panic.into_inner())
        );
        // Fails if the supervisor has ended.
        let _ = events.send(Event::ParentPanicked(text.clone())).await;
        Err(text)
    })
}

/// Returns a function that sends commands to the supervisor.
fn command_sender(events: mpsc::Sender<Event>) -> impl Fn(Command) {
    move |command| {
        let events = events.clone();
        crate::spawn(async move { events.send(Event::Command(command)).await }).detach();
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("count", &self.count)
            .field("are_processes", &self.are_processes)
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}
