//! The body of a request, with a time limit for slow clients.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use windlass::time::{Sleep, sleep};

use crate::pace::LEAST;

/// The body of a request. If the client sends too slowly, it ends with an error of the kind
/// [`TimedOut`](ErrorKind::TimedOut). The time that the handler takes between two frames doesn't
/// count.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    time_limit: Duration,
    /// Bytes received and time left since the last sufficient progress.
    received: usize,
    left: Duration,
    /// When the current wait for the client started, and its timer.
    waiting: Option<(Instant, Sleep)>,
}

impl Upload {
    pub(crate) fn new(body: Incoming, time_limit: Duration) -> Upload {
        Upload {
            body,
            time_limit,
            received: 0,
            left: time_limit,
            waiting: None,
        }
    }

    fn received(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.received += bytes;
        if self.received >= LEAST {
            (self.received, self.left) = (0, self.time_limit);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = frame {
            let data = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.received(data.map_or(0, Bytes::len));
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let left = self.left;
        let (_, end) = self
            .waiting
            .get_or_insert_with(|| (Instant::now(), sleep(left)));
        Pin::new(end)
            .poll(cx)
            .map(|()| Some(Err(ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
