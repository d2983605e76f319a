//! Detects connections that make too little progress, so that they can be closed.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use hyper::body::{Body, Frame, SizeHint};
use windlass::time::sleep;

/// Bytes that a connection must transfer per time limit while the server waits for it. More than
/// the pings of an idle HTTP/2 connection.
pub(crate) const LEAST: usize = 4 * 1024;

/// The progress of a connection.
#[derive(Debug)]
pub(crate) struct Pace {
    time_limit: Duration,
    /// Bytes transferred recently, in both directions.
    transferred: Cell<usize>,
    /// Number of requests that wait for the server itself.
    ours: Cell<usize>,
}

impl Pace {
    pub(crate) fn new(time_limit: Duration) -> Rc<Pace> {
        Rc::new(Pace {
            time_limit,
            transferred: Cell::new(0),
            ours: Cell::new(0),
        })
    }

    /// Completes when the client has made the server wait for the whole time limit, and has
    /// transferred almost nothing.
    pub(crate) async fn stalled(&self) {
        loop {
            self.transferred.set(0);
            sleep(self.time_limit).await;
            if self.ours.get() == 0 && self.transferred.get() < LEAST {
                return;
            }
        }
    }

    fn transferred(&self, bytes: usize) {
        self.transferred
            .set(self.transferred.get().saturating_add(bytes));
    }
}

/// While this exists, the server is busy, and the client's time doesn't count.
pub(crate) struct ServerTurn(Rc<Pace>);

impl ServerTurn {
    pub(crate) fn begin(pace: &Rc<Pace>) -> ServerTurn {
        pace.ours.set(pace.ours.get() + 1);
        ServerTurn(pace.clone())
    }
}

impl Drop for ServerTurn {
    fn drop(&mut self) {
        self.0.ours.set(self.0.ours.get() - 1);
        self.0.transferred(LEAST); // the client's time starts now
    }
}

/// A stream that counts its bytes.
pub(crate) struct Paced<S> {
    stream: S,
    pace: Rc<Pace>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, pace: Rc<Pace>) -> Paced<S> {
        Paced { stream, pace }
    }

    fn count(&self, transferred: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = transferred {
            self.pace.transferred(bytes);
        }
        transferred
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The body of a response. While it has no data ready, the client's time doesn't count.
pub(crate) struct Download<B> {
    body: B,
    pace: Rc<Pace>,
    ours: Option<ServerTurn>,
}

impl<B> Download<B> {
    pub(crate) fn new(body: B, pace: Rc<Pace>) -> Download<B> {
        let ours = None;
        Download { body, pace, ours }
    }
}

impl<B: Body + Unpin> Body for Download<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.ours = None;
        } else if self.ours.is_none() {
            self.ours = Some(ServerTurn::begin(&self.pace));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
