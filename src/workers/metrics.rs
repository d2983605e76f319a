//! Metrics of workers, and their text formats.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::inspect::Metrics;
#[cfg_attr(not(unix), allow(unused_imports))]
use crate::inspect::write_all;

/// Metrics of a worker, counted since it was started.
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
    /// Accepted connections.
    pub accepted: u64,
    /// Open connections.
    pub open: u64,
    /// Requests, counted by [`Worker::count_request`](super::Worker::count_request).
    pub requests: u64,
    /// Failed attempts to accept a connection, for example because the process was out of file
    /// descriptors.
    pub errors: u64,
    /// How late the loop was at the last heartbeat.
    pub lag: Duration,
    /// Restarts after a crash of the workers with this index.
    pub restarts: u64,
    /// Messages that were dropped because a queue was full: messages to the workers with this
    /// index, and their messages to the parent.
    pub lost: u64,
    /// The metrics of the worker's loop, and for a process the sums over all its loops.
    pub runtime: Metrics,
}

impl Figures {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let lag = u64::try_from(self.lag.as_nanos()).unwrap_or(u64::MAX);
        let numbers = [self.accepted, self.open, self.requests, self.errors, lag];
        let numbers = numbers.into_iter().chain(self.runtime.to_numbers());
        numbers.flat_map(u64::to_le_bytes).collect()
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
            // A worker of an earlier version of the program sends none.
            runtime: Metrics::from_numbers(numbers),
            ..Figures::default()
        })
    }

    #[cfg_attr(not(unix), allow(dead_code))]
    fn values(&self) -> [f64; 7] {
        [
            self.accepted as f64,
            self.open as f64,
            self.requests as f64,
            self.errors as f64,
            self.restarts as f64,
            self.lost as f64,
            self.lag.as_secs_f64(),
        ]
    }
}

/// Formats the metrics as one line for humans.
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
            ..
        } = self;
        write!(
            f,
            "{accepted} connections accepted, {open} open, {errors} failed, {requests} requests, \
             {restarts} restarts, {lost} messages lost, {lag:?} late"
        )
    }
}

/// Name and description of each metric, in the order of [`Figures::values`].
#[cfg_attr(not(unix), allow(dead_code))]
const METRICS: [(&str, &str); 7] = [
    ("connections_total", "Connections accepted."),
    ("connections_open", "Open connections."),
    ("requests_total", "Requests counted."),
    (
        "accept_errors_total",
        "Failed attempts to accept a connection.",
    ),
    ("restarts_total", "Restarts after a crash."),
    (
        "messages_lost_total",
        "Messages dropped because a queue was full.",
    ),
    (
        "loop_lag_seconds",
        "Lag of the event loop at the last heartbeat.",
    ),
];

/// Formats the metrics of all workers in [Prometheus' text
/// format](https://prometheus.io/docs/instrumenting/exposition_formats/).
#[cfg_attr(not(unix), allow(dead_code))]
pub(super) fn prometheus(all: &[Figures]) -> String {
    let mut text = String::new();
    for (metric, (name, help)) in METRICS.into_iter().enumerate() {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let name = format!("windlass_worker_{name}");
        // Writing to a string is infallible.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (worker, figures) in all.iter().enumerate() {
            let value = figures.values()[metric];
            let _ = writeln!(text, "{name}{{worker=\"{worker}\"}} {value}");
        }
    }
    let runtimes = all.iter().enumerate();
    let labelled = |(worker, figures): (usize, _)| (format!("worker=\"{worker}\""), figures);
    let runtimes = runtimes.map(|(worker, figures)| (worker, &figures.runtime));
    write_all(&mut text, &runtimes.map(labelled).collect::<Vec<_>>());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_metrics_are_decoded_to_the_same_values() {
        let mut runtime = Metrics {
            polls: 1 << 50,
            max_lateness: Duration::from_millis(3),
            ..Metrics::default()
        };
        runtime.system_calls.ring_submits = 4;
        runtime.poll_times.buckets[11] = 2;
        let figures = Figures {
            accepted: 5,
            open: 4,
            requests: 1 << 40,
            errors: 2,
            lag: Duration::from_micros(7),
            runtime,
            ..Figures::default()
        };
        assert_eq!(Figures::from_bytes(&figures.to_bytes()), Some(figures));
        let of_earlier_version = Figures::from_bytes(&figures.to_bytes()[..40]).unwrap();
        assert_eq!(of_earlier_version.runtime, Metrics::default());
        assert_eq!(Figures::from_bytes(&[0; 39]), None);
    }

    #[test]
    fn prometheus_text_has_a_type_and_a_line_per_worker() {
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
            .filter(|line| line.contains("requests") || line.contains("tasks_live"))
            .collect();
        assert_eq!(
            lines,
            [
                "# HELP windlass_worker_requests_total Requests counted.",
                "# TYPE windlass_worker_requests_total counter",
                "windlass_worker_requests_total{worker=\"0\"} 0",
                "windlass_worker_requests_total{worker=\"1\"} 3",
                "# HELP windlass_tasks_live Tasks that have not ended.",
                "# TYPE windlass_tasks_live gauge",
                "windlass_tasks_live{worker=\"0\"} 0",
                "windlass_tasks_live{worker=\"1\"} 0",
            ]
        );
    }
}
