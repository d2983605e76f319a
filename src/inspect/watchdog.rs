//! The watchdog, a thread that reports stalls of the loops of its process while they last.

use std::env;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use windlass_executor::{discard_panic, publish_polls};
use windlass_reactor::LoopState;
use windlass_reactor::fork::PerProcess;

use super::loops;
use super::report;
use super::sampler::{Event, Sampler};
use super::stack::Stacks;
use super::stall::Stall;
use super::thread_notifier::{Host, ThreadNotifier};
use crate::io::write_stderr;

/// The default threshold.
pub(crate) const DEFAULT_THRESHOLD: Duration = Duration::from_millis(50);

/// The least threshold. Samples take some microseconds each.
const LEAST_THRESHOLD: Duration = Duration::from_micros(100);

/// The most threshold. Multiples of it are durations.
const MOST_THRESHOLD: Duration = Duration::from_secs(24 * 3600);

/// The environment variable that starts the watchdog.
const VARIABLE: &str = "WINDLASS_WATCH";

/// How long a capture of a stack may take.
const CAPTURE_LIMIT: Duration = Duration::from_millis(20);

/// Reports stalls of all loops of the process to standard error, while they last.
///
/// A loop stalls if it has not continued for the threshold, for example because a task calls a
/// function that blocks. The report names the task, the place where it was spawned, the activity
/// of the thread, and its stack. It follows at most 1.25 thresholds after the stall began, again at
/// 2, 4, … times the threshold, and when the stall is over. There are at most five reports per
/// minute.
///
/// The watchdog is a thread, which samples the loops four times per threshold. While all loops
/// sleep, it sleeps too. A poll costs two instructions more while the watchdog is on.
/// [`Watchdog::builder`] has options. If the thread can't be started, a line on standard error
/// reports that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// windlass::inspect::watch(Duration::from_millis(50));
/// windlass::block_on(async {
///     // Everything that takes longer than 50 ms is reported.
/// });
/// ```
pub fn watch(threshold: Duration) {
    let shared = shared();
    shared.read_variable();
    shared.start_or_report(threshold, "watch");
}

/// A handle to the watchdog of the process, which [`Watchdog::builder`] starts.
///
/// The watchdog stays on when the handle is dropped. [`stop`](Watchdog::stop) ends it. A process
/// has one watchdog. Starting another one replaces the options.
///
/// The environment variable `WINDLASS_WATCH` starts the watchdog in any program, when the first
/// runtime is created. Its value is the threshold: `50ms`, `1s`, `250us`, or a number of
/// milliseconds. Calls of [`watch`] and of [`start`](WatchdogBuilder::start) replace this
/// threshold. The value `off` switches off the watchdog that [workers](mod@crate::workers) have by
/// default.
///
/// In a forked child the watchdog starts again when the child creates a runtime.
///
/// # What is not a stall
///
/// While the process or the machine is suspended, the watchdog's time stops too. A thread that a
/// debugger has stopped is not reported. If the thread is runnable but other threads have the CPU,
/// the task is not blamed: after four thresholds, a report states that the loop has hardly run.
///
/// # Platforms
///
/// Reports have the activity of the thread on Linux, and the stack on Linux on x86-64 and 64-bit
/// ARM. On Windows a host that takes no turn is not reported.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::inspect::Watchdog;
///
/// let watchdog = Watchdog::builder()
///     .threshold(Duration::from_millis(20))
///     .on_stall(|stall| eprintln!("{} ms late", stall.duration.as_millis()))
///     .start()?;
/// windlass::block_on(async { /* … */ });
/// watchdog.stop();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Watchdog {
    /// The number of the options that it was started with.
    number: u64,
}

impl Watchdog {
    /// Returns a builder with the default options: a threshold of 50 ms, and reports with stacks on
    /// standard error.
    pub fn builder() -> WatchdogBuilder {
        WatchdogBuilder(Options {
            threshold: DEFAULT_THRESHOLD,
            on_stall: None,
            signal: None,
            captures_stacks: true,
            per_minute: 5,
        })
    }

    /// Stops the watchdog, unless another call has replaced its options since it was started.
    pub fn stop(self) {
        let shared = shared();
        let mut settings = shared.settings();
        let mut stopped = None;
        if settings.number == self.number {
            stopped = settings.options.take();
        }
        if stopped.is_some() {
            shared.is_on.store(false, SeqCst);
            publish_polls(false);
            shared.notify();
        }
        drop(settings);
        drop(stopped); // user code
    }
}

/// Options of the watchdog, created by [`Watchdog::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::inspect::Watchdog;
///
/// Watchdog::builder()
///     .threshold(Duration::from_millis(100))
///     .stack(false)
///     .reports_per_minute(60)
///     .start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct WatchdogBuilder(Options);

type OnStall = Arc<dyn Fn(&Stall) + Send + Sync>;

#[derive(Clone)]
struct Options {
    threshold: Duration,
    on_stall: Option<OnStall>,
    signal: Option<i32>,
    captures_stacks: bool,
    per_minute: u32,
}

impl WatchdogBuilder {
    /// Sets the time from which on a loop stalls. The default is 50 ms. It is at least 100 µs,
    /// and at most a day.
    pub fn threshold(mut self, threshold: Duration) -> WatchdogBuilder {
        self.0.threshold = threshold.clamp(LEAST_THRESHOLD, MOST_THRESHOLD);
        self
    }

    /// Sets a function that gets each report, instead of standard error. It is called on the thread
    /// of the watchdog, after the stack was captured. A panic of the function is discarded.
    pub fn on_stall(mut self, report: impl Fn(&Stall) + Send + Sync + 'static) -> WatchdogBuilder {
        self.0.on_stall = Some(Arc::new(report));
        self
    }

    /// Sets the signal that captures the stack of a thread that runs. The default is `SIGURG`. It
    /// is sent only during a stall, and not to a thread that is blocked in a system call. Linux
    /// only.
    pub fn signal(mut self, signal: i32) -> WatchdogBuilder {
        self.0.signal = Some(signal);
        self
    }

    /// Sets whether reports have the stack of the stalled thread. The default is true. Symbols
    /// require the feature `stacks`. Linux only, on x86-64 and 64-bit ARM.
    pub fn stack(mut self, captures_stacks: bool) -> WatchdogBuilder {
        self.0.captures_stacks = captures_stacks;
        self
    }

    /// Sets how many reports are made per minute. The default is 5. The next report counts those
    /// that were suppressed. The last report of a stall isn't limited.
    pub fn reports_per_minute(mut self, reports: u32) -> WatchdogBuilder {
        self.0.per_minute = reports;
        self
    }

    /// Starts the watchdog of the process, or replaces its options.
    ///
    /// # Errors
    ///
    /// Returns an error if stacks are on and the signal has another handler, or if the system is
    /// out of threads or file descriptors.
    pub fn start(self) -> io::Result<Watchdog> {
        let shared = shared();
        shared.read_variable();
        shared.start(self.0)
    }
}

/// Starts the watchdog of workers, unless the program or the environment has configured one.
pub(crate) fn start_default(threshold: Duration) {
    let shared = shared();
    shared.read_variable();
    let settings = shared.settings();
    let is_configured = settings.number > 0 || settings.is_switched_off;
    drop(settings);
    if !is_configured {
        shared.start_or_report(threshold, "workers");
    }
}

/// Returns whether a watchdog samples the loops.
pub(crate) fn is_on() -> bool {
    shared().is_on.load(SeqCst)
}

/// Called when a runtime has been created.
pub(crate) fn add_loop() {
    let shared = shared();
    shared.read_variable();
    if shared.is_on.load(SeqCst) {
        shared.add_loop();
    }
}

/// The state of the watchdog of a process.
struct Shared {
    variable: Once,
    is_on: AtomicBool,
    settings: Mutex<Settings>,
    notifier: OnceLock<ThreadNotifier>,
}

#[derive(Clone, Default)]
struct Settings {
    options: Option<Options>,
    /// Counts the calls that have set options.
    number: u64,
    /// By the environment.
    is_switched_off: bool,
    has_thread: bool,
}

static SHARED: PerProcess<Shared> = PerProcess::new();

fn shared() -> &'static Shared {
    SHARED.get_or_inherit(|parent| {
        // Another thread of the parent may have held the lock. Then the child starts without.
        let settings = parent.and_then(|parent| Some(parent.settings.try_lock().ok()?.clone()));
        let settings = Settings {
            has_thread: false,
            ..settings.unwrap_or_default()
        };
        Shared {
            variable: Once::new(),
            is_on: AtomicBool::new(settings.options.is_some()),
            settings: Mutex::new(settings),
            notifier: OnceLock::new(),
        }
    })
}

impl Shared {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        // No user code runs under the lock, so the settings are consistent even if it is poisoned.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.notify();
        }
    }

    /// Starts the watchdog if the environment variable requests it.
    fn read_variable(&'static self) {
        self.variable.call_once(|| {
            let Some(value) = env::var_os(VARIABLE) else {
                return;
            };
            if self.settings().number > 0 {
                return; // inherited by a fork
            }
            match Requested::parse(&value.to_string_lossy()) {
                Some(Requested::Off) => self.settings().is_switched_off = true,
                Some(Requested::On(threshold)) => {
                    self.start_or_report(threshold, VARIABLE);
                }
                None => {
                    let text = format!(
                        "windlass: {VARIABLE}={} is ignored, because it is not a duration: use \
                         50ms, 1s, 250us, or off\n",
                        value.to_string_lossy()
                    );
                    let _ = write_stderr(text.as_bytes());
                }
            }
        });
    }

    /// Starts a watchdog with default options, without stacks if their signal has another handler.
    /// `by` names the cause in the line about a failure.
    fn start_or_report(&'static self, threshold: Duration, by: &str) {
        let options = Watchdog::builder().threshold(threshold).0;
        let started = self.start(options.clone()).or_else(|error| {
            let _ = write_stderr(format!("windlass: {by}: {error}\n").as_bytes());
            self.start(Options {
                captures_stacks: false,
                ..options
            })
        });
        if let Err(error) = started {
            let text = format!("windlass: {by}: can't start the watchdog: {error}\n");
            let _ = write_stderr(text.as_bytes());
        }
    }

    fn start(&'static self, options: Options) -> io::Result<Watchdog> {
        if options.captures_stacks {
            Stacks::new(options.signal)?; // installs the handler
            loops::capture_stacks();
        }
        if self.notifier.get().is_none() {
            // If another thread was faster, this one is dropped.
            let _ = self.notifier.set(ThreadNotifier::new()?);
        }
        let mut settings = self.settings();
        settings.number += 1;
        let number = settings.number;
        let previous = settings.options.replace(options);
        if previous.is_none() {
            self.is_on.store(true, SeqCst);
            publish_polls(true);
        }
        let result = self.ensure_thread(&mut settings);
        drop(settings);
        drop(previous); // user code
        self.notify();
        result.map(|()| Watchdog { number })
    }

    /// Makes the watchdog see a new loop. In a forked child it starts the watchdog.
    #[cold]
    fn add_loop(&'static self) {
        if self.notifier.get().is_none() {
            match ThreadNotifier::new() {
                Ok(notifier) => drop(self.notifier.set(notifier)),
                Err(_) => return, // the next runtime tries again
            }
        }
        let _ = self.ensure_thread(&mut self.settings());
        self.notify();
    }

    fn ensure_thread(&'static self, settings: &mut Settings) -> io::Result<()> {
        if !settings.has_thread {
            let thread = thread::Builder::new().name("windlass-watch".into());
            thread.spawn(move || run(self))?;
            settings.has_thread = true;
        }
        Ok(())
    }
}

/// The value of the environment variable.
#[derive(PartialEq, Eq, Debug)]
enum Requested {
    On(Duration),
    Off,
}

impl Requested {
    fn parse(value: &str) -> Option<Requested> {
        let value = value.trim();
        if value == "off" {
            return Some(Requested::Off);
        }
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.trim_end().parse().ok()?;
        let duration = match &value[digits.len()..] {
            "us" => Duration::from_micros(number),
            "" | "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            _ => return None,
        };
        match number {
            0 => Some(Requested::Off),
            _ => Some(Requested::On(duration)),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("threshold", &self.threshold)
            .field("has_on_stall", &self.on_stall.is_some())
            .field("signal", &self.signal)
            .field("captures_stacks", &self.captures_stacks)
            .field("per_minute", &self.per_minute)
            .finish()
    }
}

/// Called by a loop that has stopped to sleep.
fn on_unpark() {
    if let Some(notifier) = shared().notifier.get() {
        notifier.notify_parked();
    }
}

/// The body of the thread.
fn run(shared: &'static Shared) {
    let Some(notifier) = shared.notifier.get() else {
        return;
    };
    let mut patrol = Patrol {
        sampler: Sampler::new(on_unpark),
        stacks: None,
        number: 0,
        due: Vec::new(),
    };
    let mut has_ticked = false;
    loop {
        let mut settings = shared.settings();
        let Some(options) = settings.options.clone() else {
            settings.has_thread = false;
            return;
        };
        let number = settings.number;
        drop(settings);
        patrol.adopt(&options, number);
        let next = patrol.sample(&options);
        // Loops that wake in short intervals are sampled four times per threshold at most.
        let rest = (!has_ticked).then_some(options.threshold / 4);
        let wait = next.or(rest);
        match wait {
            Some(wait) => notifier.wait(Some(wait), &[]),
            None => park(notifier),
        }
        let planned = wait.unwrap_or(Duration::MAX);
        patrol.sampler.advance(planned, options.threshold);
        has_ticked = wait.is_some();
        // After a change of the options this may be the last reference to the program's function.
        discard_panic(|| drop(options));
    }
}

/// Waits until a loop wakes or a host has to take a turn, unless that is the case already.
fn park(notifier: &ThreadNotifier) {
    notifier.prepare();
    if let Some(hosts) = quiet_hosts() {
        notifier.wait(None, &hosts);
    }
}

/// Makes each loop report when it wakes. Returns the descriptors of the loops that a host drives,
/// or `None` if a loop is awake.
fn quiet_hosts() -> Option<Vec<Host>> {
    let loops = loops::lock();
    for it in loops.iter() {
        it.thread.reactor.report_unpark(on_unpark);
    }
    let mut hosts = Vec::new();
    for it in loops.iter() {
        let has_tasks = |it: &loops::Loop| {
            let reading = it.executor.read();
            reading.is_some_and(|reading| reading.spawned != reading.ended)
        };
        match it.thread.reactor.loop_state() {
            LoopState::Awake => return None,
            LoopState::Asleep => {}
            LoopState::Detached if !has_tasks(it) => {}
            LoopState::Detached if Host::is_due(it) => return None,
            LoopState::Detached => hosts.extend(Host::new(it)),
        }
    }
    Some(hosts)
}

/// The state of the thread.
struct Patrol {
    sampler: Sampler,
    stacks: Option<Stacks>,
    /// The number of the options that `stacks` is for.
    number: u64,
    /// Empty between samples.
    due: Vec<Event>,
}

impl Patrol {
    fn adopt(&mut self, options: &Options, number: u64) {
        if self.number != number {
            self.number = number;
            let stacks = options.captures_stacks.then(|| Stacks::new(options.signal));
            self.stacks = stacks.and_then(Result::ok);
        }
    }

    /// Takes a sample, and reports the stalls that are due. Returns the time until the next sample,
    /// or `None` if all loops are quiet.
    fn sample(&mut self, options: &Options) -> Option<Duration> {
        let (threshold, interval) = (options.threshold, options.threshold / 4);
        let mut due = std::mem::take(&mut self.due);
        self.sampler.sample(threshold, options.per_minute, &mut due);
        let planned = if due.is_empty() {
            interval
        } else {
            Duration::MAX
        };
        due.drain(..).for_each(|event| self.report(options, event));
        self.due = due;
        self.sampler.advance(planned, threshold);
        self.sampler.next_sample(interval)
    }

    /// The first line is written before anything that may take a lock of the stalled thread, such
    /// as that of the allocator.
    fn report(&mut self, options: &Options, event: Event) {
        let Event { mut stall, thread } = event;
        if options.on_stall.is_none() {
            report::write_summary(&stall);
        }
        if !stall.is_over {
            if let Some(stacks) = &mut self.stacks {
                let sample = self.sampler.capture(thread, |it| {
                    stacks.capture(it.thread.handle.get()?, CAPTURE_LIMIT)
                });
                stall.stack = sample.map(|sample| stacks.resolve(&sample));
            }
        }
        report::keep(&stall);
        match &options.on_stall {
            Some(on_stall) => discard_panic(|| on_stall(&stall)),
            None => report::write_stack(&stall),
        }
        #[cfg(feature = "tracing")]
        discard_panic(|| report::trace(&stall));
    }
}

#[cfg(test)]
mod tests {
    use super::Requested::{self, Off, On};
    use std::time::Duration;

    #[test]
    fn values_of_the_variable_are_durations() {
        let parse = Requested::parse;
        assert_eq!(parse("50ms"), Some(On(Duration::from_millis(50))));
        assert_eq!(parse("50"), Some(On(Duration::from_millis(50))));
        assert_eq!(parse(" 1 s "), Some(On(Duration::from_secs(1))));
        assert_eq!(parse("250us"), Some(On(Duration::from_micros(250))));
        assert_eq!((parse("off"), parse("0")), (Some(Off), Some(Off)));
        for malformed in [
            "",
            "ms",
            "50 m",
            "-1",
            "1.5s",
            "fast",
            "99999999999999999999",
        ] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
