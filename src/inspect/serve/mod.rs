//! A page on the running program, and its metrics, by HTTP.

mod history;
mod json;
mod stalls;
mod state;
mod tasks;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{self, IpAddr, SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net as unix;
#[cfg(unix)]
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use futures_channel::oneshot;
use windlass_executor::publish_polls;
use windlass_reactor::fork::Origin;

use self::history::{History, PERIOD};
use self::json::Json;
use self::tasks::Tasks;
#[cfg(unix)]
use crate::page_server::SocketFile;
use crate::page_server::{Clients, Request, Response};
use crate::time::sleep;
use crate::{Runtime, spawn};

/// Serves a page on this process by HTTP, on a thread of its own. This needs the feature
/// `inspect-outside`, which is on by default.
///
/// `at` is a TCP address such as `127.0.0.1:6060`, or the path of a Unix socket. A path contains a
/// slash. Port 0 selects a free port.
///
/// The page shows the loops and their lag over the last minute, the tasks with their waits, and the
/// last stalls that a [watchdog](super::Watchdog) has found. It answers also while loops are
/// stalled. A browser opens it, and programs read these:
///
/// | path | content |
/// |---|---|
/// | `/` | the page, which is one file |
/// | `/metrics` | the metrics, by [`to_prometheus`](super::Metrics::to_prometheus) |
/// | `/tasks.json` | the tasks, with their waits |
/// | `/stalls.json` | the last stalls, with their stacks |
/// | `/state.json` | all content of the page |
///
/// The formats of the JSON may change. Tasks are listed on 64-bit Linux. They are read from the
/// memory of the process, so the list has descriptors, timers and joined tasks, and lacks the locks
/// and channels of [`sync`](crate::sync).
///
/// # Security
///
/// The page shows the names of tasks, and where in the source they were spawned. The owner of a
/// Unix socket alone may connect to it (mode 0600). Any user of the machine may connect to a TCP
/// port.
/// [`ServerBuilder::allow_remote`] permits addresses that other machines can reach.
///
/// A request over TCP is refused if its header field `Host` is a name other than `localhost`. So a
/// web page that uses DNS rebinding cannot read the state. Requests have the limits of
/// [`workers::Builder::figures_at`](crate::workers::Builder::figures_at).
///
/// # Cost
///
/// While the server runs, it reads the counters of all loops 10 times per second. Each poll costs
/// two instructions more, because the loops publish the task that they poll.
///
/// # Errors
///
/// Fails if the address is in use, not permitted, or reachable by other machines, and if the
/// process is out of threads or file descriptors.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// let server = windlass::inspect::serve("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(server.local_addr().unwrap())?;
/// client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.contains("windlass_polls_total"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A Unix socket, for `curl --unix-socket /run/service/inspect.sock http://localhost/metrics`:
///
/// ```no_run
/// windlass::inspect::serve("/run/service/inspect.sock")?.detach();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn serve(at: &str) -> io::Result<Server> {
    Server::builder().serve(at)
}

/// The running server of [`serve`]. Dropping it stops the server, and removes the file of a Unix
/// socket.
///
/// # Examples
///
/// ```
/// let server = windlass::inspect::serve("127.0.0.1:0")?;
/// println!("http://{}", server.local_addr().unwrap());
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "the server stops when this is dropped: keep it, or `detach` it"]
pub struct Server {
    local_addr: Option<SocketAddr>,
    running: Option<Running>,
}

struct Running {
    origin: Origin,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    polls: PublishedPolls,
}

/// The loops publish the tasks that they poll until this is dropped.
struct PublishedPolls;

impl PublishedPolls {
    fn new() -> PublishedPolls {
        publish_polls(true);
        PublishedPolls
    }
}

impl Drop for PublishedPolls {
    fn drop(&mut self) {
        publish_polls(false);
    }
}

impl Server {
    /// Returns a builder with further options.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            allows_remote: false,
            hosts: Vec::new(),
        }
    }

    /// Returns the TCP address, or `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Lets the server run until the end of the process.
    pub fn detach(mut self) {
        if let Some(running) = self.running.take() {
            std::mem::forget((running.stop, running.polls));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A forked child lacks the thread.
        if let Some(running) = self.running.take().filter(|it| it.origin.is_here()) {
            drop(running.stop);
            let _ = running.thread.join(); // fails if it has panicked
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Options of a [`Server`].
///
/// # Examples
///
/// ```
/// use windlass::inspect::Server;
///
/// let server = Server::builder()
///     .allow_host("service.internal")
///     .serve("127.0.0.1:0")?;
/// # drop(server);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `serve`"]
pub struct ServerBuilder {
    allows_remote: bool,
    hosts: Vec<String>,
}

impl ServerBuilder {
    /// Permits addresses that other machines can reach. The page has no passwords and no
    /// encryption, so this is for networks in which every machine may read it.
    pub fn allow_remote(mut self) -> ServerBuilder {
        self.allows_remote = true;
        self
    }

    /// Permits requests to the server by this name, in addition to `localhost` and IP addresses.
    pub fn allow_host(mut self, name: &str) -> ServerBuilder {
        self.hosts.push(name.to_ascii_lowercase());
        self
    }

    /// Starts the server at an address or path, as [`serve`] does.
    ///
    /// # Errors
    ///
    /// Fails as [`serve`] does.
    pub fn serve(self, at: &str) -> io::Result<Server> {
        let listener = self.listen(at)?;
        let local_addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel();
        let (started, result) = mpsc::channel();
        let serve = move || {
            let runtime = Runtime::builder().unlisted().build();
            let runtime = runtime.and_then(|it| Ok((it, listener.into_async()?)));
            match runtime {
                Ok((runtime, listener)) => {
                    let _ = started.send(Ok(())); // the caller waits for it
                    runtime.block_on(run(listener, self.hosts, stopped));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("windlass-inspect".into());
        let running = Running {
            origin: Origin::here(),
            stop,
            thread: thread.spawn(serve)?,
            polls: PublishedPolls::new(),
        };
        let died = |_| Err(io::Error::other("the server's thread has panicked"));
        result.recv().unwrap_or_else(died)?;
        Ok(Server {
            local_addr,
            running: Some(running),
        })
    }

    fn listen(&self, at: &str) -> io::Result<Bound> {
        #[cfg(unix)]
        if at.contains('/') {
            let (file, listener) = SocketFile::bind(Path::new(at), Some(0o600))?;
            return Ok(Bound::Unix(file, listener));
        }
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("can't serve a page at {at:?}: {error}"),
            )
        };
        let addrs: Vec<_> = at.to_socket_addrs().map_err(named)?.collect();
        if !self.allows_remote && !addrs.iter().all(|addr| addr.ip().is_loopback()) {
            let text = "other machines could connect to this address: call `allow_remote`";
            let error = io::Error::new(io::ErrorKind::PermissionDenied, text);
            return Err(named(error));
        }
        net::TcpListener::bind(&*addrs)
            .map(Bound::Tcp)
            .map_err(named)
    }
}

/// A listening socket that has no thread yet.
enum Bound {
    Tcp(net::TcpListener),
    #[cfg(unix)]
    Unix(SocketFile, unix::UnixListener),
}

enum Listener {
    Tcp(crate::net::TcpListener),
    #[cfg(unix)]
    Unix {
        listener: crate::net::unix::UnixListener,
        /// Removes the file at the end.
        _file: SocketFile,
    },
}

impl Bound {
    fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Bound::Unix(..) => None,
        }
    }

    /// Moves the socket to the reactor of this thread.
    fn into_async(self) -> io::Result<Listener> {
        Ok(match self {
            Bound::Tcp(listener) => Listener::Tcp(listener.try_into()?),
            #[cfg(unix)]
            Bound::Unix(file, listener) => Listener::Unix {
                listener: listener.try_into()?,
                _file: file,
            },
        })
    }
}

/// Serves until `stopped` is ready.
async fn run(listener: Listener, hosts: Vec<String>, mut stopped: oneshot::Receiver<()>) {
    let pages = Rc::new(Pages {
        history: RefCell::default(),
        hosts: matches!(listener, Listener::Tcp(_)).then_some(hosts),
    });
    let sampled = pages.clone();
    let _sampler = spawn(async move {
        loop {
            sampled.history.borrow_mut().sample();
            sleep(PERIOD).await;
        }
    });
    let mut accepting = pin!(accept(&listener, pages));
    poll_fn(|cx| {
        let _ = accepting.as_mut().poll(cx); // never ready
        Pin::new(&mut stopped).poll(cx).map(drop)
    })
    .await;
}

async fn accept(listener: &Listener, pages: Rc<Pages>) {
    let mut clients = Clients::default();
    loop {
        let pages = pages.clone();
        let respond = move |request: &Request| pages.respond(request);
        // After an error, the next call pauses before it tries again.
        match listener {
            Listener::Tcp(listener) => {
                if let Ok((stream, _)) = listener.accept().await {
                    clients.serve(stream, respond);
                }
            }
            #[cfg(unix)]
            Listener::Unix { listener, .. } => {
                if let Ok((stream, _)) = listener.accept().await {
                    clients.serve(stream, respond);
                }
            }
        }
    }
}

/// What the server responds with.
struct Pages {
    history: RefCell<History>,
    /// The permitted names of the server. `None` permits all.
    hosts: Option<Vec<String>>,
}

const PAGE: &str = include_str!("page.html");

/// No other page may show this one in a frame. The page itself has the rest of its policy.
const PAGE_FIELDS: &str = "Content-Security-Policy: frame-ancestors 'none'\r\n";

/// Browsers use the content as the declared type, keep no copy, and pass it to no other site.
const FIELDS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
     Cross-Origin-Resource-Policy: same-origin\r\n";

impl Pages {
    fn respond(&self, request: &Request) -> Response {
        if !self.permits(request.host.as_deref()) {
            return Response::error("421 Misdirected Request");
        }
        let json = |text: String| Response::new("application/json", text);
        let response = match &*request.path {
            "/" => Response::new("text/html; charset=utf-8", PAGE).with_fields(PAGE_FIELDS),
            "/metrics" => Response::new("text/plain; version=0.0.4", self.metrics()),
            "/tasks.json" => json(Json::of(|json| Tasks::read().write(json, usize::MAX))),
            "/stalls.json" => json(Json::of(stalls::write_stalls)),
            "/state.json" => json(self.json(state::write_state)),
            _ => Response::error("404 Not Found"),
        };
        response.with_fields(FIELDS)
    }

    fn metrics(&self) -> String {
        super::metrics().to_prometheus()
    }

    fn json(&self, write: impl FnOnce(&mut Json, &History)) -> String {
        Json::of(|json| write(json, &self.history.borrow()))
    }

    /// A page of another site reaches this server by a name of that site that resolves to this
    /// machine. Addresses and `localhost` are no such names.
    fn permits(&self, host: Option<&str>) -> bool {
        let Some(hosts) = &self.hosts else {
            return true;
        };
        host.is_some_and(|host| {
            let ip = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || ip.parse::<IpAddr>().is_ok()
                || hosts.iter().any(|name| name == host)
        })
    }
}
