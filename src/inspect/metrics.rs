//! The metrics of the loops of the process.

use std::time::Duration;

use super::{loops, report};
use crate::blocking;
use crate::counters::poll_times::{PollTimes, nanos};

/// Metrics of one or all loops of the process.
///
/// [`inspect::metrics`](metrics) returns the sums over all loops, and
/// [`Runtime::metrics`](crate::Runtime::metrics) the values of one runtime. Totals only grow. The
/// fields `loops`, `live`, `loop_lag`, `sources`, `ring_operations`, `pool_threads` and
/// `pool_queue` describe the present.
///
/// Loops store their counters anyway, so metrics cost nothing until they are read. Another thread
/// reads the counters one by one, so they may belong to successive polls.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, inspect, yield_now};
///
/// let before = inspect::metrics();
/// block_on(async { yield_now().await });
/// assert!(inspect::metrics().polls > before.polls);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// The loops that exist. Each runtime has one.
    pub loops: u64,
    /// Turns of the loops. While a loop turns without waiting, other threads see the number as of
    /// its last wait.
    pub turns: u64,
    /// Polls of tasks and of main futures.
    pub polls: u64,
    /// Wakes that made a task ready. This is the number of polls without the first one of each
    /// task, so a wake counts when its poll begins.
    pub wakes: u64,
    /// Wakes from other threads. Several wakes of a task between two of its polls count once.
    pub remote_wakes: u64,
    /// Spawned tasks, and main futures.
    pub spawned: u64,
    /// Tasks that have not ended, and main futures.
    pub live: u64,
    /// Timers that were started. Each wait for a deadline starts one.
    pub timers_set: u64,
    /// Timers that have fired.
    pub timers_fired: u64,
    /// How late the timers fired, in total. Timers that fire in one turn count as late as the first
    /// of them.
    pub total_lateness: Duration,
    /// The largest lateness of a timer since the start of the process or thread.
    pub max_lateness: Duration,
    /// For how long a loop has polled the same task by now. It is measured from one reading of
    /// metrics to the next, so it is zero unless two readings find the loop in the same poll. Of
    /// several loops, the maximum.
    pub loop_lag: Duration,
    /// System calls of the loops, by purpose. They exclude the reads and writes of sockets and
    /// files.
    pub system_calls: SystemCalls,
    /// Sources: sockets, pipes and other watched file descriptors.
    pub sources: u64,
    /// File operations in the kernel's ring.
    pub ring_operations: u64,
    /// Threads of all [`Pool`](crate::Pool)s of the process.
    pub pool_threads: u64,
    /// Closures that wait for a thread of a pool.
    pub pool_queue: u64,
    /// Closures that the pools were given.
    pub pool_closures: u64,
    /// Stalls of loops that the [watchdog](super::Watchdog) has found.
    pub stalls: u64,
    /// How long these stalls were in total, including those that last.
    pub stalled: Duration,
    /// The durations of sampled polls, while [`sample_polls`](super::sample_polls) is on.
    pub poll_times: PollTimes,
}

/// System calls of loops, by purpose.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{Runtime, time::sleep};
///
/// let runtime = Runtime::new()?;
/// runtime.block_on(sleep(Duration::from_millis(1)));
/// assert!(runtime.metrics().system_calls.waits > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct SystemCalls {
    /// Waits for events: one per turn.
    pub waits: u64,
    /// Registrations of file descriptors with the poller, and their changes.
    pub registrations: u64,
    /// Settings of the timer that ends a wait.
    pub timer_settings: u64,
    /// Notifications that end a wait, mostly from other threads.
    pub notifications: u64,
    /// Submissions of file operations to the kernel's ring.
    pub ring_submits: u64,
}

/// Returns the metrics of all loops of the process, from any thread.
///
/// The totals include loops that have ended. The call takes a lock, and time in proportion
/// to the number of loops.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use windlass::{block_on, inspect};
///
/// thread::spawn(|| block_on(async {})).join().unwrap();
/// println!("{}", inspect::metrics().to_prometheus());
/// ```
pub fn metrics() -> Metrics {
    let mut sum = loops::metrics_of_all();
    sum.add_process();
    sum
}

impl Metrics {
    /// Returns the mean lateness of the timers that have fired.
    ///
    /// ```
    /// let metrics = windlass::inspect::metrics();
    /// assert!(metrics.mean_lateness() <= metrics.max_lateness);
    /// ```
    pub fn mean_lateness(&self) -> Duration {
        let total = nanos(self.total_lateness);
        Duration::from_nanos(total.checked_div(self.timers_fired).unwrap_or(0))
    }

    /// Adds the values that belong to the process rather than to a loop.
    pub(crate) fn add_process(&mut self) {
        let pools = blocking::totals();
        self.pool_threads = pools.threads as u64;
        self.pool_queue = pools.waiting as u64;
        self.pool_closures = pools.closures;
        let stalls = report::stall_totals();
        (self.stalls, self.stalled) = (stalls.stalls, stalls.stalled);
    }

    /// Adds the metrics of another loop. Of a loop that has ended, the totals and the maximum
    /// lateness count.
    pub(crate) fn add(&mut self, other: &Metrics, has_ended: bool) {
        let mut other = *other;
        for (mine, other) in self.totals().into_iter().zip(other.totals()) {
            *mine = mine.wrapping_add(*other);
        }
        self.total_lateness = self.total_lateness.saturating_add(other.total_lateness);
        self.max_lateness = self.max_lateness.max(other.max_lateness);
        self.poll_times.add(&other.poll_times);
        if !has_ended {
            self.loops += other.loops;
            self.live += other.live;
            self.sources += other.sources;
            self.ring_operations += other.ring_operations;
            self.loop_lag = self.loop_lag.max(other.loop_lag);
        }
    }

    /// Subtracts earlier totals.
    pub(crate) fn since(mut self, earlier: &Metrics) -> Metrics {
        let mut earlier = *earlier;
        for (mine, earlier) in self.totals().into_iter().zip(earlier.totals()) {
            *mine = mine.saturating_sub(*earlier);
        }
        self.total_lateness = self.total_lateness.saturating_sub(earlier.total_lateness);
        self.poll_times.subtract(&earlier.poll_times);
        self
    }

    /// The numbers of loops that are summed up. A runtime that is dropped does this, so it is
    /// faster than the table.
    #[inline]
    fn totals(&mut self) -> [&mut u64; 12] {
        [
            &mut self.turns,
            &mut self.polls,
            &mut self.wakes,
            &mut self.remote_wakes,
            &mut self.spawned,
            &mut self.timers_set,
            &mut self.timers_fired,
            &mut self.system_calls.waits,
            &mut self.system_calls.registrations,
            &mut self.system_calls.timer_settings,
            &mut self.system_calls.notifications,
            &mut self.system_calls.ring_submits,
        ]
    }

    /// Returns the values in the order of [`FIELDS`], then the histogram.
    pub(crate) fn to_numbers(self) -> impl Iterator<Item = u64> {
        let PollTimes { buckets, total } = self.poll_times;
        let fields = FIELDS.iter().map(move |field| field.get(&self));
        fields.chain([nanos(total)]).chain(buckets)
    }

    /// Reads the result of `to_numbers`. Numbers that are missing are zero.
    pub(crate) fn from_numbers(mut numbers: impl Iterator<Item = u64>) -> Metrics {
        let mut metrics = Metrics::default();
        let mut next = || numbers.next().unwrap_or(0);
        for field in FIELDS {
            field.set(&mut metrics, next());
        }
        metrics.poll_times.total = Duration::from_nanos(next());
        metrics.poll_times.buckets = std::array::from_fn(|_| next());
        metrics
    }
}

/// The kind of a value, which Prometheus' text format names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Total,
    /// A value of the present.
    Gauge,
}

/// A field of [`Metrics`], and its name in Prometheus' text format.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) label: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    value: Value,
}

#[derive(Clone, Copy)]
enum Value {
    Number(Number),
    Time(Time),
}

impl Field {
    const fn new(kind: Kind, name: &'static str, help: &'static str, value: Value) -> Field {
        Field {
            name,
            label: None,
            help,
            kind,
            value,
        }
    }

    /// Returns the number, or the time in nanoseconds.
    fn get(&self, metrics: &Metrics) -> u64 {
        let mut copy = *metrics;
        match self.value {
            Value::Number(value) => *value(&mut copy),
            Value::Time(value) => nanos(*value(&mut copy)),
        }
    }

    fn set(&self, metrics: &mut Metrics, number: u64) {
        match self.value {
            Value::Number(value) => *value(metrics) = number,
            Value::Time(value) => *value(metrics) = Duration::from_nanos(number),
        }
    }

    /// Returns the value in Prometheus' unit.
    pub(crate) fn value(&self, metrics: &Metrics) -> f64 {
        match self.value {
            Value::Number(_) => self.get(metrics) as f64,
            Value::Time(_) => self.get(metrics) as f64 / 1e9,
        }
    }
}

type Number = fn(&mut Metrics) -> &mut u64;
type Time = fn(&mut Metrics) -> &mut Duration;

const fn total(name: &'static str, help: &'static str, value: Number) -> Field {
    Field::new(Kind::Total, name, help, Value::Number(value))
}

const fn gauge(name: &'static str, help: &'static str, value: Number) -> Field {
    Field::new(Kind::Gauge, name, help, Value::Number(value))
}

const fn total_time(name: &'static str, help: &'static str, value: Time) -> Field {
    Field::new(Kind::Total, name, help, Value::Time(value))
}

const fn gauge_time(name: &'static str, help: &'static str, value: Time) -> Field {
    Field::new(Kind::Gauge, name, help, Value::Time(value))
}

const fn system_call(purpose: &'static str, value: Number) -> Field {
    let mut field = total("system_calls_total", "System calls of the loops.", value);
    field.label = Some(purpose);
    field
}

/// All fields except the histogram. Workers send the values in this order, so new fields go to the
/// end.
pub(crate) const FIELDS: &[Field] = &[
    gauge("loops", "Event loops that exist.", |it| &mut it.loops),
    total("turns_total", "Turns of the loops.", |it| &mut it.turns),
    total("polls_total", "Polls of tasks.", |it| &mut it.polls),
    total("wakes_total", "Wakes that led to a poll.", |it| {
        &mut it.wakes
    }),
    total("remote_wakes_total", "Wakes from other threads.", |it| {
        &mut it.remote_wakes
    }),
    total("tasks_spawned_total", "Spawned tasks.", |it| {
        &mut it.spawned
    }),
    gauge("tasks_live", "Tasks that have not ended.", |it| {
        &mut it.live
    }),
    total("timers_set_total", "Timers that were started.", |it| {
        &mut it.timers_set
    }),
    total("timers_fired_total", "Timers that have fired.", |it| {
        &mut it.timers_fired
    }),
    total_time(
        "timer_lateness_seconds_total",
        "Total lateness of timers.",
        |it| &mut it.total_lateness,
    ),
    gauge_time(
        "timer_lateness_max_seconds",
        "Largest lateness of a timer.",
        |it| &mut it.max_lateness,
    ),
    gauge_time(
        "loop_lag_seconds",
        "Time in the same poll, of the slowest loop.",
        |it| &mut it.loop_lag,
    ),
    system_call("wait", |it| &mut it.system_calls.waits),
    system_call("register", |it| &mut it.system_calls.registrations),
    system_call("set_timer", |it| &mut it.system_calls.timer_settings),
    system_call("notify", |it| &mut it.system_calls.notifications),
    system_call("submit", |it| &mut it.system_calls.ring_submits),
    gauge("sources", "Watched file descriptors.", |it| &mut it.sources),
    gauge(
        "ring_operations",
        "File operations in the kernel's ring.",
        |it| &mut it.ring_operations,
    ),
    gauge("pool_threads", "Threads for blocking closures.", |it| {
        &mut it.pool_threads
    }),
    gauge(
        "pool_queue",
        "Blocking closures that wait for a thread.",
        |it| &mut it.pool_queue,
    ),
    total(
        "pool_closures_total",
        "Blocking closures that the pools were given.",
        |it| &mut it.pool_closures,
    ),
    total(
        "stalls_total",
        "Stalls of loops that the watchdog has found.",
        |it| &mut it.stalls,
    ),
    total_time("stalled_seconds_total", "Duration of these stalls.", |it| {
        &mut it.stalled
    }),
];
