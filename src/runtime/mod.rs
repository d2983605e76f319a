//! The runtime: an executor on the thread's reactor.

mod builder;
mod guards;
mod hook;
mod remote;

use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use windlass_executor::{Executor, Task};
use windlass_reactor::Reactor;
use windlass_reactor::fork::Origin;

use crate::inspect::loops::Registration;
use crate::inspect::{DeadlockRegistration, Metrics, TaskInfo, tasks_of};
use crate::time::now;

pub use builder::Builder;
pub(crate) use guards::BlockOn;
use guards::TurnGuard;
#[cfg(all(feature = "tokio", unix))]
pub(crate) use hook::Hook;
pub(crate) use hook::HookWaker;
use remote::RemoteSource;
pub use remote::{Remote, RemoteError, RemoteTask};

/// The most polls of one `turn`. Equals the executor's budget.
const MAX_POLLS: usize = 256;

/// The most polls that `turn_for` makes between two reads of the clock. A read costs as much as a
/// short poll.
const MAX_BATCH: usize = 16;

/// A batch that takes longer than this makes `turn_for` read the clock after each poll again. It is
/// 0.2 % of the 2 ms that a game may give the runtime per frame.
const SHORT_BATCH: Duration = Duration::from_micros(4);

/// An executor and the thread's reactor: tasks that outlive a [`block_on`](Runtime::block_on), and
/// single steps of the loop for a host that has an event loop of its own.
///
/// A thread may have several runtimes. They share its reactor and so the file descriptor. Dropping
/// a runtime drops its tasks.
///
/// # Embedding in another event loop
///
/// The host watches the file descriptor of [`as_fd`](AsFd::as_fd). It calls
/// [`turn`](Runtime::turn) with a limit of zero when the descriptor is readable and at
/// [`next_deadline`](Runtime::next_deadline). Wakes between turns, from this thread or others, make
/// the descriptor readable. On Linux timers do that, too.
///
/// * An edge-triggered host has to turn until the descriptor is no longer readable.
/// * A host with several runtimes on its thread turns each of them: the descriptor is readable
///   while any has ready tasks.
/// * A host that can't watch descriptors registers a hook, [`Builder::on_wake`].
/// * A host loop that may run inside a task checks [`is_running`](Runtime::is_running) before it
///   turns.
/// * A host that draws frames gives the runtime a share of each by [`turn_for`](Runtime::turn_for).
///
/// With the feature `tokio`, `windlass::tokio::block_on` is a host whose tasks use windlass, too.
/// Recipes for epoll, calloop, GLib, winit, tokio and a game loop are in `examples/guests` of the
/// repository, all checked by one test suite. [`block_on`](Runtime::block_on) is such a host, too.
/// It does what `while !task.is_finished() { runtime.turn(None)? }` does, for a future that need
/// not be `'static`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{time::sleep, Runtime};
///
/// let runtime = Runtime::new()?;
/// let task = runtime.spawn(async {
///     sleep(Duration::from_millis(1)).await;
///     "hauled"
/// });
/// while !task.is_finished() {
///     runtime.turn(None)?;
/// }
/// assert_eq!(runtime.block_on(task), "hauled");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    /// Dropped before the other fields, because destructors of tasks may close sockets and stop
    /// timers.
    executor: ManuallyDrop<Executor>,
    _deadlocks: Option<DeadlockRegistration>,
    reactor: Reactor,
    /// Wakes the reactor from its wait. Outside of a turn it makes the descriptor readable.
    waker: Waker,
    /// The target of `waker`, if there is a hook.
    hook_waker: Option<Arc<HookWaker>>,
    remote_source: OnceCell<RemoteSource>,
    origin: Origin,
    /// The metrics of the thread when the runtime was created. The runtime of a single `block_on`
    /// has none, because its metrics are not read.
    since: Option<Box<Metrics>>,
    /// Dropped last, so that other threads see the runtime while it drops its tasks.
    registration: Registration,
}

impl Runtime {
    /// Creates a runtime on this thread.
    ///
    /// # Errors
    ///
    /// Fails if the thread's reactor cannot be created, for example because the process is out of
    /// file descriptors.
    pub fn new() -> io::Result<Runtime> {
        Runtime::builder().build()
    }

    /// Returns a builder for a runtime with other than the default options.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let precise = windlass::Runtime::builder()
    ///     .timer_slack(Duration::ZERO)
    ///     .build()?;
    /// precise.block_on(windlass::time::sleep(Duration::from_millis(1)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Runs the future and all tasks until the future completes. The remaining tasks continue in
    /// the next `block_on` or `turn`.
    ///
    /// # Panics
    ///
    /// Panics inside a task of the same runtime. If the future panics, the panic propagates to the
    /// caller.
    ///
    /// ```
    /// let runtime = windlass::Runtime::new()?;
    /// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            !self.executor.is_running(),
            "`block_on` inside a task of the same runtime: `.await` the future there, or \
             `spawn` it"
        );
        let block_on = BlockOn::new(self);
        let future = pin!(future);
        block_on.run(future)
    }

    /// Spawns a task. It runs in `block_on` and `turn`.
    ///
    /// ```
    /// let runtime = windlass::Runtime::new()?;
    /// let task = runtime.spawn(async { 7 });
    /// assert_eq!(runtime.block_on(task), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        #[cfg(feature = "tracing")]
        let future = crate::tracing::traced(Location::caller(), future);
        self.executor.spawn_at(Location::caller(), future)
    }

    /// Turns the loop once: waits for an event for at most `limit`, then polls the ready tasks.
    /// `None` waits without a limit, and zero returns at once. If tasks are ready already, the turn
    /// doesn't wait. A signal, or a notification that was pending, may end the wait early, so that
    /// the turn polls no task.
    ///
    /// # Errors
    ///
    /// Fails if the poller fails, which is a defect of the program or of the system.
    ///
    /// # Panics
    ///
    /// Panics inside a task of the same runtime.
    #[track_caller]
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<Turn> {
        let _guard = TurnGuard::new(self);
        let limit = if self.executor.has_ready() {
            Some(Duration::ZERO)
        } else {
            limit
        };
        self.reactor.turn(limit)?;
        let tick = self.executor.tick(&self.waker, MAX_POLLS);
        Ok(self.turn_result(tick.polled))
    }

    /// Turns the loop while tasks, sockets or timers are ready, for at most `budget`: the share of
    /// a frame in a game, for example. It never waits, and returns early when nothing is ready.
    ///
    /// It reads the clock after each poll, or after up to 16 polls while these take less than 4 µs
    /// together. So it overruns by one long poll, or by up to 16 polls after a series of short
    /// ones.
    ///
    /// # Errors
    ///
    /// Fails as [`turn`](Runtime::turn) does.
    ///
    /// # Panics
    ///
    /// Panics as [`turn`](Runtime::turn) does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = windlass::Runtime::new()?;
    /// runtime.spawn(async { loop { windlass::yield_now().await } }).detach();
    /// let turn = runtime.turn_for(Duration::from_millis(2))?;
    /// assert!(turn.ready && turn.polled > 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn turn_for(&self, budget: Duration) -> io::Result<Turn> {
        let _guard = TurnGuard::new(self);
        let start = Instant::now();
        let (mut polled, mut batch, mut used) = (0, 1, Duration::ZERO);
        loop {
            let woken = self.reactor.turn(Some(Duration::ZERO))?.woken;
            if woken == 0 && !self.executor.has_ready() {
                return Ok(self.turn_result(polled));
            }
            let until = polled + MAX_POLLS;
            loop {
                let tick = self.executor.tick(&self.waker, batch);
                polled += tick.polled;
                let before = std::mem::replace(&mut used, start.elapsed());
                if used >= budget {
                    return Ok(self.turn_result(polled));
                }
                let is_short = used - before < SHORT_BATCH;
                batch = if is_short {
                    MAX_BATCH.min(2 * batch)
                } else {
                    1
                };
                if !tick.ready || polled >= until {
                    break; // by now timers and sockets may be ready
                }
            }
        }
    }

    /// Turns the loop without waiting. `choose` gets the number of ready tasks before each poll, if
    /// there are several, and returns the position of the one to poll.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    pub(crate) fn turn_by(&self, choose: impl Fn(usize) -> usize) -> io::Result<Turn> {
        let _guard = TurnGuard::new(self);
        self.reactor.turn(Some(Duration::ZERO))?;
        let mut polled = 0;
        while polled < MAX_POLLS && self.executor.has_ready() {
            self.executor.choose_next(&choose);
            polled += self.executor.tick(&self.waker, 1).polled;
        }
        Ok(self.turn_result(polled))
    }

    /// Returns how many wakes from other threads the loop has received.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    pub(crate) fn remote_wakes(&self) -> usize {
        let reading = self.executor.pulse().read();
        reading.map_or(0, |reading| reading.remote_wakes)
    }

    /// Makes `observer` the only observer of the tasks.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    pub(crate) fn observe(&self, observer: std::rc::Rc<dyn windlass_executor::Observer>) {
        self.executor.observe(Some(observer));
    }

    /// Returns whether a task of this runtime is being polled. A turn panics then, so a host whose
    /// loop may run inside a task checks this first.
    ///
    /// ```
    /// # use std::rc::Rc;
    /// let runtime = Rc::new(windlass::Runtime::new()?);
    /// let inside = runtime.clone();
    /// assert!(!runtime.is_running());
    /// assert!(runtime.block_on(async move { inside.is_running() }));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_running(&self) -> bool {
        self.executor.is_running()
    }

    /// Returns the latest time at which the host must call [`turn`](Runtime::turn): now, if tasks
    /// are ready, and `None` if only the file descriptor matters.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.executor.has_ready() {
            return Some(now());
        }
        self.reactor.next_deadline()
    }

    /// Returns the metrics of this runtime, since it was created.
    ///
    /// Runtimes of one thread share its reactor, and each counts the turns, timers, sources and
    /// system calls of all of them. The threads and the queue of pools belong to the process.
    ///
    /// ```
    /// use windlass::{Runtime, spawn};
    ///
    /// let runtime = Runtime::new()?;
    /// runtime.block_on(async { spawn(async {}).await });
    /// let metrics = runtime.metrics();
    /// assert_eq!((metrics.spawned, metrics.live), (2, 0)); // with the main future
    /// assert_eq!((metrics.polls, metrics.wakes), (3, 1)); // the task wakes its joiner
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.reactor.pulse(); // publishes the number of turns
        let mut metrics = self.registration.entry().metrics(self.since.as_deref());
        metrics.add_process();
        metrics
    }

    /// Lists the tasks of this runtime, with their waits. See
    /// [`inspect::tasks`](crate::inspect::tasks).
    ///
    /// ```
    /// let runtime = windlass::Runtime::new()?;
    /// let task = runtime.spawn(std::future::pending::<()>()).named("idle");
    /// println!("{}", runtime.tasks()[0]);
    /// assert_eq!(runtime.tasks()[0].name.as_deref(), Some("idle"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tasks(&self) -> Vec<TaskInfo> {
        tasks_of(&self.executor.list_tasks())
    }

    /// Returns a handle that spawns tasks on this runtime from other threads.
    ///
    /// ```
    /// let runtime = windlass::Runtime::new()?;
    /// let remote = runtime.remote();
    /// let answer = remote.spawn(|| async { 42 }); // on any thread
    /// assert_eq!(runtime.block_on(answer).unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn remote(&self) -> Remote {
        let spawned_at = Location::caller();
        let source = self.remote_source.get_or_init(|| {
            let (source, arrivals) = remote::channel();
            self.executor.spawn_at(spawned_at, arrivals).detach();
            source
        });
        source.remote()
    }

    /// Registers `waker` with the executor, for the next wake.
    fn register_waker(&self) {
        self.executor.tick(&self.waker, 0);
    }

    /// Makes the descriptor readable if tasks are ready, so that the host turns again. This
    /// includes tasks of other runtimes, whose notification the turn of this one has consumed.
    fn notify_if_ready(&self) {
        if self.executor.has_ready() {
            self.waker.wake_by_ref();
        } else if self.executor.others_ready() {
            self.reactor.waker().wake();
        }
    }

    fn turn_result(&self, polled: usize) -> Turn {
        Turn {
            polled,
            ready: self.executor.has_ready(),
            next_deadline: self.next_deadline(),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let is_inherited = !self.origin.is_here();
        if is_inherited && self.executor.is_locked() {
            return; // by a thread of the parent, so it would stay locked: the tasks are leaked
        }
        if !is_inherited {
            self.registration.read_finally();
        }
        // SAFETY: nothing uses the executor after this, the only place that drops it.
        unsafe { ManuallyDrop::drop(&mut self.executor) }
    }
}

// A panic leaves a runtime usable, because no user code runs while its state is inconsistent.
impl UnwindSafe for Runtime {}
impl RefUnwindSafe for Runtime {}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("executor", &self.executor)
            .finish_non_exhaustive()
    }
}

/// Readable when the host should call [`Runtime::turn`].
#[cfg(unix)]
impl AsFd for Runtime {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for Runtime {
    fn as_raw_fd(&self) -> RawFd {
        self.reactor.as_raw_fd()
    }
}

/// What a turn did, and when the next one is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// The number of polls of tasks.
    pub polled: usize,
    /// Whether ready tasks remain, so that the next turn should follow at once.
    pub ready: bool,
    /// The latest time for the next turn, as [`Runtime::next_deadline`].
    pub next_deadline: Option<Instant>,
}
