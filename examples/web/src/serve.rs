//! A server's loop: from a listener to its connections' good end.

use std::cell::Cell;
use std::error::Error;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use futures::io::{AsyncRead, AsyncWrite};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use windlass::hyper::{Executor, Io, Timer};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopToken, TaskGroup};
use windlass::time::{sleep, timeout};

/// What clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many connections are served at once. Further ones wait in the system's queue.
    pub connections: usize,
    /// How long a client may take for the head of a request, from the end of the one before.
    pub head_time: Duration,
    /// How large the head of a request may be, in bytes, 8 KiB at the least: beyond, the answer is
    /// 431. It's also how much of a body is read at once.
    pub head_bytes: u32,
    /// How many requests of one HTTP/2 connection are handled at once.
    pub streams: u32,
    /// How long requests may take once the server was told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            head_time: Duration::from_secs(15),
            head_bytes: 64 * 1024,
            streams: 100,
            grace: Duration::from_secs(10),
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Serves HTTP/1.1 and HTTP/2 (that of clients that know it beforehand) until it's told to stop.
/// Then it takes no more connections, finishes the requests that have begun, and returns: how many
/// connections it had to cut off when [`Limits::grace`] was over.
///
/// Nothing need be `Send`. An error of the service or of a body ends its connection and is printed;
/// what clients do wrong isn't.
///
/// # Cancel safety
///
/// When the future is dropped, so are all connections.
pub async fn serve<S, B>(
    listener: TcpListener,
    stop: StopToken,
    limits: Limits,
    service: S,
) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let mut connections = TaskGroup::independent().limit(limits.connections);
    let server = Rc::new(Server {
        http: http(&limits),
        head_time: limits.head_time,
        stop: stop.clone(),
    });
    let start = |connections: &TaskGroup<()>, stream: TcpStream| {
        let (server, service) = (server.clone(), service.clone());
        connections.spawn(async move { server.converse(stream, service).await });
    };
    let accept = async |connections: &mut TaskGroup<()>| {
        connections.room().await;
        listener.accept().await
    };
    while let Some(accepted) = stop.run(accept(&mut connections)).await {
        match accepted {
            Ok((stream, _)) => start(&connections, stream),
            Err(error) => eprintln!("{error}"), // no descriptor left, say: accept rests by itself
        }
    }
    // Those that the system has already said yes to are served as well, as many as one turn of the
    // reactor takes: after it, the listener knows of them.
    sleep(Duration::ZERO).await;
    while let Some(Ok((stream, _))) = accept(&mut connections).now_or_never() {
        start(&connections, stream);
    }
    drop(listener);
    finish(connections, limits.grace).await
}

/// Waits for them until the grace is over. How many are cut off then?
async fn finish(mut connections: TaskGroup<()>, grace: Duration) -> usize {
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(grace, all).await;
    connections.len()
}

fn http(limits: &Limits) -> auto::Builder<Executor> {
    let mut http = auto::Builder::new(Executor);
    http.http1()
        .timer(Timer)
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes as usize);
    http.http2()
        .timer(Timer)
        .keep_alive_interval(limits.head_time) // pings: is the client still there?
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes);
    http
}

struct Server {
    http: auto::Builder<Executor>,
    head_time: Duration,
    stop: StopToken,
}

impl Server {
    async fn converse<T, S, B>(&self, stream: T, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let has_asked = Rc::new(Cell::new(false));
        let asked = has_asked.clone();
        let service = service_fn(move |request| {
            asked.set(true);
            service.call(request)
        });
        let mut connection = pin!(self.http.serve_connection(Io::new(stream), service));
        let silence = pin!(self.silence(&has_asked));
        let time_to_end = select(self.stop.stopped(), silence);
        let ended = match select(connection.as_mut(), time_to_end).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            report(error);
        }
    }

    /// Comes to an end if the client makes no request in time. hyper has the time of heads, but not
    /// that of the first bytes, by which HTTP/1 and HTTP/2 are told apart.
    async fn silence(&self, has_asked: &Cell<bool>) {
        sleep(self.head_time).await;
        if has_asked.get() {
            pending().await
        }
    }
}

fn report(error: BoxError) {
    let ours = error.downcast_ref().is_some_and(hyper::Error::is_user);
    if ours {
        eprintln!(
            "{error}: {}",
            error.source().map(ToString::to_string).unwrap_or_default()
        );
    }
}
