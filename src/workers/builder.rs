//! How many workers, of which kind, with which listeners.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::pin::Pin;
use std::time::Duration;

use super::log::Outlet;
use super::message::{Command, Exchange, Parent};
use super::payload::describe_panic;
use super::supervisor::{Event, Kind, Settings, Sockets, Supervisor};
use super::thread::Threads;
use super::worker::{Post, Worker};
use crate::Task;
use crate::sync::mpsc;

/// How many workers there may be.
const MOST: usize = 1024;

/// As good as for ever, and still a time that the clock can show.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How many events wait for the supervisor until those who tell of them have to.
const EVENTS: usize = 64;

/// Workers to be started. Made by [`workers`](crate::workers()).
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
    /// How many sockets each call of `listen` is to have: one, or one for each worker.
    per_worker: Vec<bool>,
    parent: Option<ParentFn>,
    #[cfg(unix)]
    figures_at: Option<std::path::PathBuf>,
    /// What systemd has handed over, and nobody has asked for yet; None before it was looked at.
    #[cfg(unix)]
    activated: Option<std::collections::VecDeque<TcpListener>>,
    /// In a worker: what it got from its parent.
    #[cfg(unix)]
    inheritance: io::Result<Option<super::process::Inheritance>>,
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
            #[cfg(unix)]
            figures_at: None,
            #[cfg(unix)]
            activated: None,
            #[cfg(unix)]
            inheritance: super::process::Inheritance::take(),
        }
    }

    /// So many workers. If it isn't called, as many as this process may use cores.
    pub fn count(mut self, count: usize) -> Builder {
        self.count = Some(count);
        self
    }

    /// Each worker is a process: the program, run again. So a crash costs one worker, memory is
    /// returned, and the program can be replaced while it runs. See the [module](super#processes)
    /// for what that means for `main`.
    #[cfg(unix)]
    pub fn processes(mut self) -> Builder {
        self.are_processes = true;
        self
    }

    /// Each worker is a thread: the default.
    pub fn threads(mut self) -> Builder {
        self.are_processes = false;
        self
    }

    /// Pins each worker to a core. On Linux only; elsewhere the workers fail.
    pub fn pin_to_cores(mut self) -> Builder {
        self.is_pinned = true;
        self
    }

    /// Listens on a TCP address, with one socket for all workers: a connection wakes one that
    /// waits, and they take turns. May be called again for another address.
    ///
    /// If systemd has handed over TCP sockets (`LISTEN_FDS`), the first call takes the first of
    /// them, and so on: then the unit says on which address, and this one isn't used. Sockets of
    /// other kinds stay open in the parent, for the program's own use.
    ///
    /// The parent keeps the socket for as long as it runs. So connections are never refused while
    /// workers are started again or replaced; they wait.
    ///
    /// # Errors
    ///
    /// If the port is in use, or not permitted: the address is in the text. Or if what systemd says
    /// about its sockets makes no sense.
    pub fn listen(self, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        self.listen_as(false, addr)
    }

    /// Listens on a TCP address, with a socket for each worker (`SO_REUSEPORT`): the system deals
    /// the connections out by a hash of their addresses. On Linux only.
    ///
    /// No worker ever wakes for nothing, and there is one accept queue for each; that may be better
    /// for very many short connections. But a connection goes to its worker also if that one is
    /// busy or dead and others wait. [`listen`](Builder::listen) is the better choice for most. A
    /// socket that systemd has handed over is one for all workers all the same.
    ///
    /// # Errors
    ///
    /// As [`listen`](Builder::listen).
    #[cfg(target_os = "linux")]
    pub fn listen_per_worker(self, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        self.listen_as(true, addr)
    }

    fn listen_as(mut self, per_worker: bool, addr: impl ToSocketAddrs) -> io::Result<Builder> {
        let (mut sockets, mut is_given) = (Vec::new(), false);
        if !self.is_worker() {
            let activated = self.activated()?;
            is_given = activated.is_some();
            sockets.push(match activated {
                Some(socket) => socket,
                None => super::bind::bind(addr, per_worker)?,
            });
        }
        self.sockets.push(sockets);
        self.per_worker.push(per_worker && !is_given);
        Ok(self)
    }

    /// How long a worker may give no sign of life: 10 s, if not chosen. The sign is given by its
    /// loop, so a worker that is stuck in a task gives none. It's killed, and another is started. A
    /// thread can't be killed: it's left to itself.
    ///
    /// # Panics
    ///
    /// If it's less than 100 ms.
    pub fn heartbeat(mut self, limit: Duration) -> Builder {
        assert!(
            limit >= Duration::from_millis(100),
            "a heartbeat of less than 100 ms"
        );
        self.heartbeat = limit.min(LONGEST);
        self
    }

    /// How long a worker that is to end may take to finish what it has begun: 20 s, if not chosen.
    /// Then it's killed, and must have ended 2 s later.
    pub fn drain_limit(mut self, limit: Duration) -> Builder {
        self.drain_limit = limit.min(LONGEST);
        self
    }

    /// What runs beside the workers in the parent, on its loop: it sends them messages, gets
    /// theirs, and sees their figures. It's dropped when the workers have ended and it has taken
    /// what they have sent, for which it has 1 s, or what is left of the
    /// [`drain_limit`](Builder::drain_limit). It must not block, since the supervision is on
    /// the same loop. Direct writes to standard error can block, and so can a panic, which the
    /// panic hook reports there.
    ///
    /// If it panics, the workers are drained, and [`run`](Builder::run) returns an error. If it
    /// returns, the workers go on, and their messages to it are lost.
    pub fn parent<F, Fut>(mut self, parent: F) -> Builder
    where
        F: FnOnce(Parent) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.parent = Some(Box::new(|handle| Box::pin(parent(handle))));
        self
    }

    /// Serves the [`Figures`](super::Figures) of all workers in Prometheus' text format, by HTTP,
    /// on a Unix socket of that name:
    ///
    /// ```sh
    /// curl --unix-socket figures.sock http://localhost/metrics
    /// ```
    ///
    /// A socket that a past program has left there is replaced. A file of another kind, or a socket
    /// on which somebody listens, is an error of [`run`](Builder::run). Whoever may write to the
    /// file may read the figures.
    ///
    /// The head of a request must arrive within 1 s (else the status is 408), within 16 KiB and 64
    /// header fields (431), and be a valid (400) GET or HEAD (405) of HTTP/1. Up to 64 clients are
    /// served concurrently. The next one disconnects the oldest.
    #[cfg(unix)]
    pub fn figures_at(mut self, path: impl Into<std::path::PathBuf>) -> Builder {
        self.figures_at = Some(path.into());
        self
    }

    /// Runs the workers, until all have returned `Ok`, or the signals say that they are to end. In
    /// each, `run` is called, and its future is the main task of a loop of its own.
    ///
    /// A worker that returns an error, panics, or dies is started again. In a process that is a
    /// worker this doesn't return: the process ends.
    ///
    /// # Errors
    ///
    /// If workers can't be started, or die at once again and again. If a second signal to end has
    /// come. If what [`parent`](Builder::parent) runs has panicked. If the count is 0 or more than
    /// 1,024. All workers have ended by then, except those that the error names.
    ///
    /// `TimedOut` if a worker was killed and has not ended within 2 s: a process that is traced or
    /// hangs in the kernel, or a thread that blocks. The error names its number and its PID.
    ///
    /// `QuotaExceeded` if the system has no processes, threads or file descriptors left to start
    /// the workers. If they run out later, restarts are retried until they succeed.
    ///
    /// # Panics
    ///
    /// Inside of a task.
    pub fn run<F, Fut>(mut self, run: F) -> io::Result<()>
    where
        F: Fn(Worker) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>>,
    {
        #[cfg(unix)]
        if let Some(inheritance) = std::mem::replace(&mut self.inheritance, Ok(None))? {
            super::process::live(inheritance, &self, &run);
        }
        self.complete()?;
        let kind: Box<dyn Kind> = match self.are_processes {
            #[cfg(unix)]
            true => Box::new(super::process::Processes::new()?),
            _ => Box::new(Threads::new(run)),
        };
        assert!(
            !windlass_executor::in_task(),
            "`run` inside of a task would stop all other tasks: call it on a thread of its own"
        );
        super::try_block_on(self.supervise(kind))?
    }

    /// Checks what was chosen, and makes the sockets that are still missing.
    fn complete(&mut self) -> io::Result<()> {
        let count = match self.count {
            Some(count) => count,
            None => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        };
        if !(1..=MOST).contains(&count) {
            let text = format!("{count} workers: 1 to {MOST} can be had");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.count = Some(count);
        #[cfg(unix)]
        if let Some(left) = self
            .activated
            .as_ref()
            .map(|left| left.len())
            .filter(|&left| left > 0)
        {
            let text =
                format!("systemd hands over {left} sockets more than the program listens on");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for (sockets, _) in self
            .sockets
            .iter_mut()
            .zip(&self.per_worker)
            .filter(|(_, each)| **each)
        {
            for _ in 1..count {
                let more = super::bind::bind(sockets[0].local_addr()?, true)?;
                sockets.push(more);
            }
        }
        Ok(())
    }

    async fn supervise(self, kind: Box<dyn Kind>) -> io::Result<()> {
        let outlet = Outlet::new();
        #[cfg(unix)]
        let (notify, watchdog) = super::systemd::notifier(&outlet);
        #[cfg(not(unix))]
        let (notify, watchdog) = (Box::new(|_| ()), None);
        let (events, incoming) = mpsc::channel(EVENTS);
        let commands = Box::new(commander(events.clone()));
        let _signals = super::signals::listen(events.clone())?;
        let post = Post {
            index: 0,
            count: self.count.unwrap_or(1),
            beat: (self.heartbeat / 4).min(Duration::from_secs(1)),
            is_pinned: self.is_pinned,
        };
        let (exchange, parent) = Exchange::new(post.count, commands).open(self.parent.is_some());
        #[cfg(unix)]
        let _scraped = match self.figures_at {
            Some(path) => Some(super::metrics_server::listen(&path, exchange.clone()).await?),
            None => None,
        };
        let parent = self.parent.zip(parent);
        let parent = parent.map(|(run, handle)| run_parent(run, handle, events.clone()));
        let settings = Settings {
            post,
            heartbeat: self.heartbeat,
            drain_limit: self.drain_limit,
            watchdog,
        };
        let sockets = Sockets(self.sockets);
        let (exchanged, said) = (exchange.clone(), outlet.clone());
        let supervisor = Supervisor::new(kind, sockets, settings, exchanged, events, notify, said);
        supervisor.run(incoming).await?;
        exchange.flush().await;
        match parent.filter(Task::is_finished) {
            // It may have panicked after the end of the supervision.
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

    /// The next socket that systemd has handed over.
    #[cfg(unix)]
    fn activated(&mut self) -> io::Result<Option<TcpListener>> {
        if self.activated.is_none() {
            self.activated = Some(super::systemd::sockets()?.into());
        }
        Ok(self
            .activated
            .as_mut()
            .and_then(|sockets| sockets.pop_front()))
    }

    #[cfg(not(unix))]
    fn activated(&mut self) -> io::Result<Option<TcpListener>> {
        Ok(None)
    }
}

/// Runs the parent's own code, and reports its panic.
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
            "the parent's own code panicked: {}",
            describe_panic(panic.into_inner())
        );
        // Fails if the supervision is over.
        let _ = events.send(Event::ParentPanicked(text.clone())).await;
        Err(text)
    })
}

/// Gives commands of the parent's own code to the supervisor.
fn commander(events: mpsc::Sender<Event>) -> impl Fn(Command) {
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
