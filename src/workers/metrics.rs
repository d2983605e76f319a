//! What workers count, and how it is shown.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::time::Duration;

/// What a worker has counted since it was started.
///
/// # Examples
///
/// ```
/// use windlass::workers::Parent;
///
/// fn connections(parent: &Parent) -> u64 {
///     parent.figures().iter().map(|worker| worker.open).sum()
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Figures {
    /// Connections that it has accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Requests, as [`Worker::count_request`](super::Worker::count_request) has counted them.
    pub requests: u64,
    /// Connections that could not be accepted, for want of descriptors say.
    pub errors: u64,
    /// How late its loop came to its last sign of life.
    pub lag: Duration,
    /// How many times a worker of this number was started again after a crash.
    pub restarts: u64,
    /// Messages that were lost because a queue was full: those for the workers of this number, and
    /// those of these workers for the parent.
    pub lost: u64,
}

impl Figures {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let lag = u64::try_from(self.lag.as_nanos()).unwrap_or(u64::MAX);
        let numbers = [self.accepted, self.open, self.requests, self.errors, lag];
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Figures> {
        let mut numbers = bytes.chunks_exact(8).map(|chunk| {
            let mut number = [0; 8];
            number.copy_from_slice(chunk);
            u64::from_le_bytes(number)
        });
        let mut next = || numbers.next();
        Some(Figures {
            accepted: next()?,
            open: next()?,
            requests: next()?,
            errors: next()?,
            lag: Duration::from_nanos(next()?),
            ..Figures::default()
        })
    }
}

/// One line for a person.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            accepted,
            open,
            requests,
            errors,
            lag,
            restarts,
            lost,
        } = self;
        write!(
            f,
            "{accepted} connections accepted, {open} open, {errors} failed, {requests} requests, \
             {restarts} restarts, {lost} messages lost, {lag:?} late"
        )
    }
}

/// The figures, while they are counted.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: Cell<u64>,
    pub(super) open: Cell<u64>,
    pub(super) requests: Cell<u64>,
    pub(super) errors: Cell<u64>,
    pub(super) lag: Cell<Duration>,
}

impl Counters {
    pub(super) fn read(&self) -> Figures {
        Figures {
            accepted: self.accepted.get(),
            open: self.open.get(),
            requests: self.requests.get(),
            errors: self.errors.get(),
            lag: self.lag.get(),
            ..Figures::default()
        }
    }
}

type Metric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Figures) -> f64,
);

/// What is told of each worker: the name, whether it only grows, what it means, and the value.
#[cfg_attr(not(unix), allow(dead_code))]
const METRICS: [Metric; 7] = [
    (
        "connections_total",
        "counter",
        "Connections accepted.",
        |it| it.accepted as f64,
    ),
    (
        "connections_open",
        "gauge",
        "Connections that are open.",
        |it| it.open as f64,
    ),
    ("requests_total", "counter", "Requests counted.", |it| {
        it.requests as f64
    }),
    (
        "accept_errors_total",
        "counter",
        "Connections not accepted.",
        |it| it.errors as f64,
    ),
    ("restarts_total", "counter", "Starts after a crash.", |it| {
        it.restarts as f64
    }),
    (
        "messages_lost_total",
        "counter",
        "Messages for which there was no room.",
        |it| it.lost as f64,
    ),
    (
        "loop_lag_seconds",
        "gauge",
        "How late the loop was.",
        |it| it.lag.as_secs_f64(),
    ),
];

/// The figures of all workers in [Prometheus' text
/// format](https://prometheus.io/docs/instrumenting/exposition_formats/).
#[cfg_attr(not(unix), allow(dead_code))]
pub(super) fn prometheus(all: &[Figures]) -> String {
    let mut text = String::new();
    for (name, kind, help, read) in METRICS {
        let name = format!("windlass_worker_{name}");
        // Writing to a string doesn't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (worker, figures) in all.iter().enumerate() {
            let _ = writeln!(text, "{name}{{worker=\"{worker}\"}} {}", read(figures));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_same_after_their_way_as_bytes() {
        let figures = Figures {
            accepted: 5,
            open: 4,
            requests: 1 << 40,
            errors: 2,
            lag: Duration::from_micros(7),
            ..Figures::default()
        };
        assert_eq!(Figures::from_bytes(&figures.to_bytes()), Some(figures));
        assert_eq!(Figures::from_bytes(&[0; 39]), None);
    }

    #[test]
    fn prometheus_reads_a_type_and_a_line_for_each_worker() {
        let two = [
            Figures::default(),
            Figures {
                requests: 3,
                ..Figures::default()
            },
        ];
        let text = prometheus(&two);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.contains("requests"))
            .collect();
        assert_eq!(
            lines,
            [
                "# HELP windlass_worker_requests_total Requests counted.",
                "# TYPE windlass_worker_requests_total counter",
                "windlass_worker_requests_total{worker=\"0\"} 0",
                "windlass_worker_requests_total{worker=\"1\"} 3",
            ]
        );
    }
}
