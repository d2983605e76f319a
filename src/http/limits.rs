//! Time limits of requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::error::{Error, ErrorKind};
use crate::time::now;

/// The time limits of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Limit of the whole exchange, and the time at which it expires.
    pub(super) whole: Option<(Duration, Instant)>,
    /// Limit of a wait without progress.
    pub(super) idle: Option<Duration>,
}

impl Limits {
    /// Returns the time at which a wait ends that began, or made progress, at `start`.
    pub(super) fn next(&self, start: Instant) -> Option<Instant> {
        let idle = self.idle.and_then(|idle| start.checked_add(idle));
        let whole = self.whole.map(|(_, deadline)| deadline);
        idle.into_iter().chain(whole).min()
    }

    /// Returns the error of a wait that has ended at `now`.
    pub(super) fn error(&self, now: Instant, awaited: &str) -> Error {
        let text = match (self.whole, self.idle) {
            (Some((limit, deadline)), _) if deadline <= now => {
                format!("{awaited} did not arrive within the {limit:?} of `timeout`")
            }
            (_, Some(idle)) => {
                format!("{awaited} did not arrive within the {idle:?} of `idle_timeout`")
            }
            _ => format!("{awaited} did not arrive in time"),
        };
        Error::new(ErrorKind::Timeout, text)
    }
}

/// The time at which the body of a request was last read.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    nanos: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            start: now(),
            nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self) {
        let nanos = now().duration_since(self.start).as_nanos();
        self.nanos.store(nanos as u64, Relaxed);
    }

    pub(super) fn get(&self) -> Instant {
        self.start + Duration::from_nanos(self.nanos.load(Relaxed))
    }
}
