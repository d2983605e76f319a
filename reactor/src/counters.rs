//! The counters of a reactor, which other threads may read.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// The values of a reactor that other threads may read. The reactor's thread writes them, with the
/// exception of `notifications`.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) turns: AtomicU64,
    pub(crate) timers_set: AtomicU64,
    timers_fired: AtomicU64,
    lateness: AtomicU64,
    max_lateness: AtomicU64,
    registrations: AtomicU64,
    timer_settings: AtomicU64,
    notifications: AtomicU64,
    pub(crate) sources: AtomicU64,
    /// The next end of a wait is reported to `ON_UNPARK`.
    reports_unpark: AtomicBool,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Counters {
            turns: zero(),
            timers_set: zero(),
            timers_fired: zero(),
            lateness: zero(),
            max_lateness: zero(),
            registrations: zero(),
            timer_settings: zero(),
            notifications: zero(),
            sources: zero(),
            reports_unpark: AtomicBool::new(false),
        }
    }

    /// Called when a wait has ended that may have blocked.
    #[inline]
    pub(crate) fn end_wait(&self, turn: u64) {
        self.set_turns(turn);
        self.report_unpark();
    }

    #[inline]
    pub(crate) fn set_turns(&self, turns: u64) {
        self.turns.store(turns, Relaxed);
    }

    #[inline]
    pub(crate) fn add_timer(&self) {
        add(&self.timers_set, 1);
    }

    /// Counts timers that have fired together, the first of them this late (ns).
    pub(crate) fn add_fired(&self, timers: usize, lateness: u64) {
        if timers == 0 {
            return; // the deadline is that of a completion source
        }
        add(&self.timers_fired, timers as u64);
        // A deadline may be far in the past.
        add(&self.lateness, lateness.saturating_mul(timers as u64));
        if lateness > self.max_lateness.load(Relaxed) {
            self.max_lateness.store(lateness, Relaxed);
        }
    }

    pub(crate) fn add_registration(&self) {
        add(&self.registrations, 1);
    }

    pub(crate) fn add_timer_setting(&self) {
        add(&self.timer_settings, 1);
    }

    /// Called on any thread.
    pub(crate) fn add_notification(&self) {
        self.notifications.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_sources(&self, sources: usize) {
        self.sources.store(sources as u64, Relaxed);
    }

    pub(crate) fn read(&self) -> ReactorReading {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        ReactorReading {
            turns: read(&self.turns),
            timers_set: read(&self.timers_set),
            timers_fired: read(&self.timers_fired),
            total_lateness: Duration::from_nanos(read(&self.lateness)),
            max_lateness: Duration::from_nanos(read(&self.max_lateness)),
            registrations: read(&self.registrations),
            timer_settings: read(&self.timer_settings),
            notifications: read(&self.notifications),
            sources: read(&self.sources),
        }
    }

    pub(crate) fn is_report_requested(&self) -> bool {
        self.reports_unpark.load(SeqCst)
    }

    pub(crate) fn request_report(&self, on_unpark: fn()) {
        ON_UNPARK.get_or_init(|| on_unpark);
        self.reports_unpark.store(true, SeqCst);
    }

    /// Called when the loop has stopped to sleep, on any thread.
    #[inline]
    pub(crate) fn report_unpark(&self) {
        if self.reports_unpark.load(SeqCst) {
            self.call_on_unpark();
        }
    }

    #[cold]
    fn call_on_unpark(&self) {
        self.reports_unpark.store(false, SeqCst);
        if let Some(on_unpark) = ON_UNPARK.get() {
            on_unpark();
        }
    }
}

/// Adds to a counter with one writer.
#[inline]
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(number), Relaxed);
}

static ON_UNPARK: OnceLock<fn()> = OnceLock::new();

/// The counters of a reactor at one moment.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReactorReading {
    /// How many turns were started before the last wait that could block, or before the last call
    /// of [`Reactor::pulse`](crate::Reactor::pulse). Each makes one system call to wait for events.
    pub turns: u64,
    /// How many timers were started.
    pub timers_set: u64,
    /// How many timers have fired.
    pub timers_fired: u64,
    /// How late the timers were that have fired, in total. Timers that one turn fires count as late
    /// as the first of them.
    pub total_lateness: Duration,
    /// The most that a timer was late.
    pub max_lateness: Duration,
    /// How many system calls have registered descriptors with the poller, or changed that.
    pub registrations: u64,
    /// How many system calls have set the timer descriptor.
    pub timer_settings: u64,
    /// How many system calls have notified the poller, from any thread.
    pub notifications: u64,
    /// How many sources exist: sockets, pipes and other watched descriptors.
    pub sources: u64,
}
