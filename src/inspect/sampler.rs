//! Decides from samples which loops stall.
//!
//! A thread makes progress when a loop of it starts a poll, ends a wait, sleeps, or leaves the
//! stack. Without progress for the threshold, it stalls.
//!
//! A [`Clock`] measures the time. It stops while the watchdog itself can't run, so neither a
//! stopped process nor a suspended machine stalls. It goes on while other threads have the CPU. The
//! time in which the thread was runnable, but not on a CPU, is subtracted before a task is blamed.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use windlass_executor::PulseReading;
use windlass_reactor::LoopState;

use super::loops::{self, Loop};
use super::report::{self, Limit};
use super::stall::{Phase, Stall, StalledTask};
use super::thread_notifier::Host;
use super::thread_state::{Activity, ThreadState, own_run_delay};

type Loops = MutexGuard<'static, Vec<Arc<Loop>>>;

/// After so many thresholds, a thread that was runnable but did not run is reported.
const UNSCHEDULED_LIMIT: u32 = 4;

/// A report of a stall.
pub(crate) struct Event {
    pub(crate) stall: Stall,
    pub(crate) thread: ThreadId,
}

/// The time in which the watchdog has run, has slept as planned, or has waited for a CPU.
struct Clock {
    now: Duration,
    overslept: Duration,
    /// The last call of `advance`.
    at: Instant,
    /// The time that the watchdog had spent in run queues when it was last read.
    run_delay: Duration,
    /// By how much all waits since then were longer than planned.
    unread: Duration,
}

impl Clock {
    fn new(at: Instant, run_delay: Duration) -> Clock {
        Clock {
            now: Duration::ZERO,
            overslept: Duration::ZERO,
            at,
            run_delay,
            unread: Duration::ZERO,
        }
    }

    /// Adds the time since the last call. If it is far longer than planned, and not in a run queue,
    /// the excess counts as overslept.
    ///
    /// The time in run queues costs several system calls to read. The delay of short excesses is
    /// not read, as long as they add up to less than the tolerance.
    fn advance(
        &mut self,
        at: Instant,
        planned: Duration,
        tolerance: Duration,
        read_run_delay: impl FnOnce() -> Duration,
    ) {
        let elapsed = at.saturating_duration_since(self.at);
        self.at = at;
        let mut overslept = elapsed.saturating_sub(planned);
        self.unread += overslept;
        if self.unread > tolerance || planned == Duration::MAX {
            let run_delay = read_run_delay();
            let delay = run_delay.saturating_sub(self.run_delay);
            (self.run_delay, self.unread) = (run_delay, Duration::ZERO);
            overslept = overslept.saturating_sub(delay);
        }
        if overslept <= tolerance {
            overslept = Duration::ZERO;
        }
        self.overslept += overslept;
        self.now += elapsed.saturating_sub(overslept);
    }
}

/// The state of a thread's loops in a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// All loops sleep, or no turn is due.
    #[default]
    Quiet,
    /// A loop runs.
    Awake,
    /// The loop is not on the stack, and a turn is due.
    Due,
    /// The loop is not on the stack, and its tasks are being dropped.
    DropsTasks,
}

/// The values that are equal in all samples of a stall.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Progress {
    state: State,
    polls: usize,
    turns: u64,
    /// Tasks that have ended, while the tasks are dropped.
    dropped: usize,
}

/// A sample of a thread's loops.
#[derive(Clone, Copy, Default)]
struct View {
    progress: Progress,
    live: usize,
    /// The index of the innermost loop, as far as that is known, and its values.
    innermost: Option<(usize, PulseReading)>,
}

impl View {
    fn of_thread(loops: &[Arc<Loop>], thread: ThreadId) -> View {
        let mut view = View::default();
        for (index, it) in loops.iter().enumerate() {
            if it.thread.id == thread {
                view.add(index, it);
            }
        }
        view
    }

    fn add(&mut self, index: usize, it: &Loop) {
        let Some(reading) = it.executor.read() else {
            return;
        };
        let live = reading.spawned.wrapping_sub(reading.ended);
        self.live = self.live.saturating_add(live);
        let progress = &mut self.progress;
        progress.polls = progress.polls.wrapping_add(reading.polls);
        let state = match it.thread.reactor.loop_state() {
            LoopState::Awake => {
                progress.turns = progress.turns.wrapping_add(it.thread.reactor.read().turns);
                State::Awake
            }
            LoopState::Asleep => State::Quiet,
            LoopState::Detached if reading.is_dropping => {
                progress.dropped = progress.dropped.wrapping_add(reading.ended);
                State::DropsTasks
            }
            LoopState::Detached if live > 0 && Host::is_due(it) => State::Due,
            LoopState::Detached => State::Quiet,
        };
        if progress.state == State::Quiet {
            progress.state = state;
        }
        let outer = self.innermost.map_or(0, |(_, reading)| depth(&reading));
        if depth(&reading) >= outer {
            self.innermost = Some((index, reading));
        }
    }

    fn phase(&self, reading: &PulseReading) -> Phase {
        match self.progress.state {
            State::Due => Phase::Host,
            _ if reading.is_dropping => Phase::Dropping,
            _ if reading.is_polling => Phase::Polling,
            _ if reading.is_in_main => Phase::MainFuture,
            // The turn began before the watchdog. The main future has most likely started it.
            _ if !reading.is_running && reading.spawned_at.is_none() => Phase::MainFuture,
            _ => Phase::Waking,
        }
    }
}

/// Orders the loops of a thread. If one runs inside of another, both are running.
fn depth(reading: &PulseReading) -> u8 {
    match reading {
        _ if reading.is_dropping => 3,
        _ if reading.is_polling || reading.is_in_main => 2,
        _ => u8::from(reading.is_running),
    }
}

/// The start of the time for which the activity of a thread is measured.
#[derive(Clone)]
struct Baseline {
    state: ThreadState,
    now: Duration,
    overslept: Duration,
}

impl Baseline {
    fn new(state: ThreadState, clock: &Clock) -> Baseline {
        Baseline {
            state,
            now: clock.now,
            overslept: clock.overslept,
        }
    }
}

/// A thread that has loops.
struct Thread {
    /// The last sample that has found the thread.
    round: u64,
    view: View,
    /// The progress up to the previous sample, and the time of the first sample with it.
    progress: Progress,
    since: Duration,
    /// The start of the stall, and the time of the latest report.
    baselines: Option<(Baseline, Baseline)>,
    /// The duration at which the next report is due.
    due: Duration,
    /// The duration at which a report that is due may be made, because the thread has had the CPU
    /// for long enough.
    retry: Duration,
    /// The latest report of the stall, and whether one was admitted.
    reported: Option<(Stall, bool)>,
    /// How much of the stall is in the totals.
    counted: Duration,
}

impl Thread {
    fn new() -> Thread {
        Thread {
            round: 0,
            view: View::default(),
            progress: Progress::default(),
            since: Duration::ZERO,
            baselines: None,
            due: Duration::MAX,
            retry: Duration::ZERO,
            reported: None,
            counted: Duration::ZERO,
        }
    }

    fn is_busy(&self) -> bool {
        self.progress.state != State::Quiet
    }

    /// Returns the time until the next sample, at most the interval.
    fn next_sample(&self, now: Duration, interval: Duration) -> Duration {
        let due = self.since.saturating_add(self.due.max(self.retry));
        match due.saturating_sub(now) {
            Duration::ZERO => interval,
            left => left.min(interval),
        }
    }

    /// Starts the time of a stall.
    fn restart(
        &mut self,
        baselines: Option<(Baseline, Baseline)>,
        clock: &Clock,
        threshold: Duration,
    ) {
        self.progress = self.view.progress;
        self.since = clock.now;
        self.baselines = baselines;
        self.due = threshold;
        self.retry = Duration::ZERO;
        self.counted = Duration::ZERO;
    }

    /// Ends a stall. Returns its last report, unless all reports were suppressed.
    fn end(&mut self, clock: &Clock) -> Option<Stall> {
        let (mut stall, is_admitted) = self.reported.take()?;
        stall.duration = clock.now.saturating_sub(self.since);
        report::count_stalled(stall.duration.saturating_sub(self.counted));
        stall.report += 1;
        stall.suppressed = 0;
        stall.is_over = true;
        is_admitted.then_some(stall)
    }

    fn judge(&mut self, loops: &Loops, rules: &mut Rules<'_>) -> Option<Stall> {
        let (clock, threshold) = (rules.clock, rules.threshold);
        let innermost = self.view.innermost;
        let is_same = self.is_busy() && self.view.progress == self.progress;
        // The samples may find each turn of a host that polls nothing, but not the time in between.
        let was_left = |index: usize| {
            self.baselines.is_some() && !loops[index].thread.reactor.is_unpark_requested()
        };
        let same = innermost.filter(|&(index, _)| is_same && !was_left(index));
        let Some((index, reading)) = same else {
            let ended = self.end(clock);
            self.restart(None, clock, threshold);
            return ended;
        };
        let duration = clock.now.saturating_sub(self.since);
        if self.reported.is_some() {
            report::count_stalled(duration.saturating_sub(self.counted));
            self.counted = duration;
        }
        if self.baselines.is_none() {
            let start = Baseline::new(loops[index].thread_state(), clock);
            self.baselines = Some((start.clone(), start));
            loops[index].thread.reactor.report_unpark(rules.on_unpark);
            return None;
        }
        if duration < self.due {
            return None;
        }
        self.examine(loops, index, &reading, rules)
    }

    /// Reports a stall that is due, unless the code of the program isn't the cause.
    fn examine(
        &mut self,
        loops: &Loops,
        index: usize,
        reading: &PulseReading,
        rules: &mut Rules<'_>,
    ) -> Option<Stall> {
        let (clock, threshold) = (rules.clock, rules.threshold);
        let (start, last) = self.baselines.as_ref()?;
        let now = Baseline::new(loops[index].thread_state(), clock);
        // The activity is known for the time since the baseline, which is late if the watchdog is.
        let known = now.now.saturating_sub(start.now);
        if known < threshold / 2 {
            return None;
        }
        let overslept = now.overslept.saturating_sub(last.overslept);
        let mut activity = now.state.activity_since(&last.state, overslept);
        if matches!(activity, Activity::Stopped | Activity::Suspended { .. }) {
            self.restart(Some((now.clone(), now)), clock, threshold);
            return None;
        }
        let duration = now.now.saturating_sub(self.since);
        let delay = now.state.run_delay_since(&start.state);
        // The delay includes time in which the clock stood.
        let cpu = now.state.cpu_since(&start.state).unwrap_or_default();
        let ran = known.saturating_sub(delay).max(cpu);
        if delay > threshold / 16 && ran < threshold {
            if duration < UNSCHEDULED_LIMIT * threshold {
                self.retry = duration.saturating_add(threshold - ran);
                return None;
            }
            let delay = delay.min(duration); // by different clocks
            activity = Activity::NotScheduled { delay };
        } else if matches!(activity, Activity::NotScheduled { .. }) {
            activity = now.state.on_cpu_since(&last.state);
        }
        let stall = self.describe(&loops[index], reading, activity, duration, threshold);
        self.baselines = Some((start.clone(), now));
        self.report(stall, rules)
    }

    fn describe(
        &self,
        of: &Loop,
        reading: &PulseReading,
        activity: Activity,
        duration: Duration,
        threshold: Duration,
    ) -> Stall {
        let phase = self.view.phase(reading);
        let task = |id| StalledTask {
            id,
            name: id.and_then(|id| of.executor.name(id)),
            spawned_at: reading.spawned_at,
        };
        Stall {
            duration,
            threshold,
            executor: of.executor_id(),
            thread: (of.thread.tid > 0).then_some(of.thread.tid),
            thread_name: of.thread.name.clone(),
            phase,
            task: match phase {
                Phase::Polling => Some(task(reading.task)),
                Phase::Dropping => Some(task(reading.dropped)),
                Phase::MainFuture => Some(task(None)),
                Phase::Waking | Phase::Host => None,
            },
            activity,
            waiting_tasks: self
                .view
                .live
                .saturating_sub(usize::from(reading.is_polling || reading.is_in_main)),
            waiting_timers: of.pending_timers(),
            stack: None,
            report: 1,
            suppressed: 0,
            is_over: false,
        }
    }

    /// Counts a report. Returns it if it is admitted.
    fn report(&mut self, mut stall: Stall, rules: &mut Rules<'_>) -> Option<Stall> {
        while self.due <= stall.duration {
            self.due = self.due.saturating_mul(2);
        }
        let mut was_admitted = false;
        match &self.reported {
            Some((previous, admitted)) => {
                stall.report = previous.report + 1;
                was_admitted = *admitted;
            }
            None => {
                report::count_stall();
                report::count_stalled(stall.duration);
                self.counted = stall.duration;
            }
        }
        let admitted = rules.limit.admit(rules.per_minute);
        stall.suppressed = admitted.unwrap_or(0);
        self.reported = Some((stall.clone(), was_admitted || admitted.is_some()));
        admitted.map(|_| stall)
    }
}

struct Rules<'a> {
    clock: &'a Clock,
    threshold: Duration,
    per_minute: u32,
    limit: &'a mut Limit,
    on_unpark: fn(),
}

/// Samples the loops of the process.
pub(crate) struct Sampler {
    threads: HashMap<ThreadId, Thread>,
    round: u64,
    clock: Clock,
    limit: Limit,
    /// Called by loops that stop to sleep.
    on_unpark: fn(),
}

impl Sampler {
    pub(crate) fn new(on_unpark: fn()) -> Sampler {
        Sampler {
            threads: HashMap::new(),
            round: 0,
            clock: Clock::new(Instant::now(), own_run_delay()),
            limit: Limit::new(),
            on_unpark,
        }
    }

    /// Adds the time since the last call to the clock.
    pub(crate) fn advance(&mut self, planned: Duration, threshold: Duration) {
        let tolerance = (threshold / 8).min(Duration::from_millis(2));
        self.clock
            .advance(Instant::now(), planned, tolerance, own_run_delay);
    }

    /// Takes a sample, and appends the reports that are due. Allocates only if the number of
    /// threads has grown.
    pub(crate) fn sample(&mut self, threshold: Duration, per_minute: u32, due: &mut Vec<Event>) {
        let loops = loops::lock();
        self.round += 1;
        for (index, it) in loops.iter().enumerate() {
            let thread = self.threads.entry(it.thread.id);
            let thread = thread.or_insert_with(Thread::new);
            if thread.round != self.round {
                thread.round = self.round;
                thread.view = View::default();
            }
            thread.view.add(index, it);
        }
        due.reserve(self.threads.len());
        for (&id, thread) in &mut self.threads {
            if thread.round != self.round {
                thread.view = View::default();
            }
            let rules = &mut Rules {
                clock: &self.clock,
                threshold,
                per_minute,
                limit: &mut self.limit,
                on_unpark: self.on_unpark,
            };
            let stall = thread.judge(&loops, rules);
            due.extend(stall.map(|stall| Event { stall, thread: id }));
        }
        self.threads.retain(|_, thread| thread.round == self.round);
    }

    /// Returns the time until the next sample, or `None` if all loops are quiet.
    pub(crate) fn next_sample(&self, interval: Duration) -> Option<Duration> {
        let busy = self.threads.values().filter(|thread| thread.is_busy());
        busy.map(|thread| thread.next_sample(self.clock.now, interval))
            .min()
    }

    /// Calls `capture` if the thread has made no progress since its last sample, and discards the
    /// result if it makes progress meanwhile. No loop ends during the call.
    pub(crate) fn capture<T>(
        &self,
        thread: ThreadId,
        capture: impl FnOnce(&Loop) -> Option<T>,
    ) -> Option<T> {
        let loops = loops::lock();
        let progress = self.threads.get(&thread)?.progress;
        let of_loops = || View::of_thread(&loops, thread);
        let view = of_loops();
        let (index, _) = view.innermost.filter(|_| view.progress == progress)?;
        let captured = capture(&loops[index]);
        captured.filter(|_| of_loops().progress == progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNED: Duration = Duration::from_millis(12);
    const TOLERANCE: Duration = Duration::from_millis(2);

    /// Advances the clock. Returns its time, and how much of all time is overslept.
    fn advance(clock: &mut Clock, time: Duration, delay: Duration) -> (Duration, Duration) {
        let (at, run_delay) = (clock.at + time, clock.run_delay + delay);
        clock.advance(at, PLANNED, TOLERANCE, || run_delay);
        (clock.now, clock.overslept)
    }

    /// Linux's clock stands while the machine is suspended. Other clocks may jump.
    #[test]
    fn a_jump_of_the_clock_is_no_time_of_a_stall() {
        let clock = &mut Clock::new(Instant::now(), Duration::ZERO);
        let late = PLANNED + TOLERANCE;
        assert_eq!(advance(clock, late, Duration::ZERO), (late, Duration::ZERO));
        let night = Duration::from_secs(8 * 3600);
        let (time, delay) = (PLANNED + night, Duration::ZERO);
        assert_eq!(advance(clock, time, delay), (late + PLANNED, night));
        let early = Duration::from_millis(1);
        let now = late + PLANNED + early;
        assert_eq!(advance(clock, early, delay), (now, night));
    }

    #[test]
    fn a_clock_without_a_cpu_goes_on() {
        let clock = &mut Clock::new(Instant::now(), Duration::ZERO);
        let delay = Duration::from_millis(300);
        let time = PLANNED + delay;
        assert_eq!(advance(clock, time, delay), (time, Duration::ZERO));
        let pause = Duration::from_millis(500);
        assert_eq!(advance(clock, time + pause, delay), (2 * time, pause));
    }

    #[test]
    fn the_delay_is_read_once_per_tolerance() {
        let clock = &mut Clock::new(Instant::now(), Duration::ZERO);
        let mut reads = 0;
        for _ in 0..100 {
            let at = clock.at + PLANNED + TOLERANCE / 10;
            clock.advance(at, PLANNED, TOLERANCE, || {
                reads += 1;
                Duration::ZERO
            });
        }
        assert_eq!((reads, clock.overslept), (9, Duration::ZERO));
    }

    #[test]
    fn a_sample_follows_when_a_delayed_thread_has_had_its_time() {
        let millis = Duration::from_millis;
        let mut thread = Thread::new();
        (thread.since, thread.due) = (millis(100), millis(50));
        let next = |thread: &Thread, now| thread.next_sample(millis(now), millis(12));
        assert_eq!(next(&thread, 100), millis(12));
        assert_eq!(next(&thread, 145), millis(5));
        // It was off the CPU for 4 ms, so it can be blamed at 54 ms.
        thread.retry = millis(54);
        assert_eq!(next(&thread, 150), millis(4));
        assert_eq!(next(&thread, 155), millis(12));
    }
}
