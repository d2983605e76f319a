//! HTTP/1.1 and HTTP/2 on a connection, by hyper, with limits for those who misbehave.

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

use crate::pace::{Download, Ours, Pace, Paced};
use crate::upload::Upload;

/// What clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a client may take for the head of a request, from the end of the one before.
    pub head_time: Duration,
    /// How large the head of a request may be, in bytes, 8 KiB at the least: beyond, the answer is
    /// 431. It's also how much of a body is read at once.
    pub head_bytes: u32,
    /// How long a client may keep the server waiting while a body goes either way, or while nothing
    /// goes at all, until 4 KiB have moved. An upload that is slower ends in an error for its
    /// handler. A connection that is slower ends when it's idle; if it isn't, it's cut off when as
    /// much time has passed again. What the server takes itself doesn't count.
    pub patience: Duration,
    /// How many requests of one HTTP/2 connection are handled at once.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_time: Duration::from_secs(15),
            head_bytes: 64 * 1024,
            patience: Duration::from_secs(20),
            streams: 100,
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// A server's HTTP: for each of its connections there's a clone.
#[derive(Clone)]
pub struct Http {
    builder: auto::Builder<Executor>,
    patience: Duration,
}

impl Http {
    /// With these limits.
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
            .keep_alive_interval(limits.head_time) // pings: is the client still there?
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.head_bytes);
        Http {
            builder,
            patience: limits.patience,
        }
    }

    /// Serves a connection to its end. Which version it is its first bytes tell. Told to stop, it
    /// finishes the requests that have begun.
    ///
    /// Nothing need be `Send`. An error of the service or of a body ends its connection and is
    /// printed; what clients do wrong isn't.
    pub async fn serve<T, S, B>(self, stream: T, stop: StopToken, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Upload>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: Body + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let pace = Pace::new(self.patience);
        let stream = Paced::new(stream, pace.clone());
        let service = {
            let pace = pace.clone();
            service_fn(move |request: Request<Incoming>| {
                let (ours, pace) = (Ours::begin(&pace), pace.clone());
                let answer = service.call(request.map(|body| Upload::new(body, self.patience)));
                async move {
                    let response = answer.await?;
                    drop(ours);
                    Ok::<_, S::Error>(response.map(|body| Download::new(body, pace)))
                }
            })
        };
        // TCP, or TLS on top of it. Both write head and body of an answer with one call.
        let stream = Io::new(stream).vectored();
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let stalled = pin!(pace.stalled());
        let ended = match select(connection.as_mut(), select(stop.stopped(), stalled)).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => {
                // Idle, it ends now. If it isn't, it goes on, as long as it gets on.
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
