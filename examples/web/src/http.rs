//! HTTP/1.1 and HTTP/2 by hyper, with limits for slow or hostile clients.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures::io::{AsyncRead, AsyncWrite};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::server::conn::auto;
use windlass::hyper::{Executor, Io, Timer};
use windlass::task::StopToken;

use crate::pace::{Download, Pace, Paced, ServerTurn};
use crate::upload::Upload;

/// The limits of clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time limit for the head of a request, from the end of the previous one.
    pub head_time: Duration,
    /// Maximum size of a request's head in bytes, at least 8 KiB. Larger heads are answered with
    /// status 431. Also the amount of a body that is read at once.
    pub head_bytes: u32,
    /// Time limit for a client to transfer 4 KiB while the server waits for it, during a body in
    /// either direction or while the connection is idle. A slower upload ends with an error for its
    /// handler. A slower connection is closed when it is idle, or after as much time again. The
    /// time that the server itself takes doesn't count.
    pub time_limit: Duration,
    /// Maximum number of concurrent requests per HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_time: Duration::from_secs(15),
            head_bytes: 64 * 1024,
            time_limit: Duration::from_secs(20),
            streams: 100,
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// An HTTP server. Each connection has a clone of it.
#[derive(Clone)]
pub struct Http {
    builder: auto::Builder<Executor>,
    time_limit: Duration,
}

impl Http {
    /// Creates a server with these limits.
    pub fn new(limits: Limits) -> Http {
        let mut builder = auto::Builder::new(Executor);
        builder
            .http1()
            .timer(Timer)
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head_bytes as usize);
        builder
            .http2()
            .timer(Timer)
            .keep_alive_interval(limits.head_time) // pings detect dead clients
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.head_bytes);
        Http {
            builder,
            time_limit: limits.time_limit,
        }
    }

    /// Serves a connection until it ends. Detects the version by the first bytes. When stopped, it
    /// finishes the requests that have begun.
    ///
    /// Nothing has to be `Send`. Errors of the service or of a body end the connection and are
    /// printed. Errors of the client are not printed.
    pub async fn serve<T, S, B>(self, stream: T, stop: StopToken, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Upload>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let pace = Pace::new(self.time_limit);
        let stream = Paced::new(stream, pace.clone());
        let service = {
            let pace = pace.clone();
            service_fn(move |request: Request<Incoming>| {
                let (ours, pace) = (ServerTurn::begin(&pace), pace.clone());
                let answer = service.call(request.map(|body| Upload::new(body, self.time_limit)));
                async move {
                    let response = answer.await?;
                    drop(ours);
                    Ok::<_, S::Error>(response.map(|body| Download::new(body, pace)))
                }
            })
        };
        // TCP, or TLS on top of it. Both write the head and the body of a response with one call.
        let stream = Io::new(stream).vectored();
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let stalled = pin!(pace.stalled());
        let ended = match select(connection.as_mut(), select(stop.stopped(), stalled)).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => {
                // Closes idle connections now. Others continue as long as they make progress.
                connection.as_mut().graceful_shutdown();
                match select(connection, pin!(pace.stalled())).await {
                    Either::Left((ended, _)) => ended,
                    Either::Right(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            report(error);
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
