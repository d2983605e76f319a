//! The runtime: one executor on the thread's reactor.

use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use windlass_executor::{Entered, Executor, Task, budget};
use windlass_reactor::{Awake, Reactor};

use crate::hook::{Hook, Messenger};
use crate::remote::{self, Remote};

/// How many polls `turn` makes at most. See the executor's budget, which this equals.
const POLLS: usize = 256;

/// How many polls `turn_for` makes at most until it reads the clock, which costs as much as a short
/// poll...
const BATCH: usize = 16;

/// ...and only as long as the last of these batches was shorter than this: a fifth of a percent of
/// a game's share. Else it reads it after each poll.
const CHEAP: Duration = Duration::from_micros(4);

/// Tasks that stay between calls of [`block_on`](Runtime::block_on), and the loop in single steps
/// for a host that has a loop of its own.
///
/// A thread may have several runtimes; they share its reactor, and so the descriptor. When a
/// runtime is dropped, it drops the tasks that it has left.
///
/// # A guest in another loop
///
/// The host watches the descriptor of [`as_fd`](AsFd::as_fd) and calls [`turn`](Runtime::turn)
/// with a limit of zero when that is readable, and when [`next_deadline`](Runtime::next_deadline)
/// has come. On Linux timers make the descriptor readable, too. Wakes between the turns, on this
/// thread or on others, make it readable as well.
///
/// * A host that is told of changes only (edge-triggered) has to turn until the descriptor is not
///   readable any more.
/// * One that has several runtimes on its thread turns each of them: the descriptor is readable
///   while tasks of any are ready.
/// * One that watches no descriptors has a hook, [`Builder::on_wake`].
/// * One whose loop may be run again inside of a task asks [`is_running`](Runtime::is_running)
///   there, and leaves the guest alone.
/// * One that draws frames gives it a share of each, by [`turn_for`](Runtime::turn_for).
///
/// Recipes for epoll, calloop, GLib, winit, tokio and a game's loop are in `examples/guests` of the
/// repository; one suite of tests holds them all. [`block_on`](Runtime::block_on) is a host of that
/// kind as well, for a future that need not be `'static`: it does what
/// `while !task.is_finished() { runtime.turn(None)? }` does.
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
    // Dropped first: destructors of tasks may still close sockets and stop timers.
    executor: Executor,
    reactor: Reactor,
    /// Ends the reactor's sleep, and outside of a turn makes the descriptor readable.
    waker: Waker,
    /// If there is a hook: what `waker` is.
    messenger: Option<Arc<Messenger>>,
    remote: OnceCell<Remote>,
}

impl Runtime {
    /// Makes a runtime on this thread.
    ///
    /// # Errors
    ///
    /// If the descriptors of the thread's reactor can't be had.
    pub fn new() -> io::Result<Runtime> {
        Runtime::builder().build()
    }

    /// Makes a runtime with other options than the usual ones.
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
        Builder {
            timer_slack: None,
            on_wake: None,
        }
    }

    /// Runs the future and all tasks until the future is done. Tasks that are left stay, and go on
    /// in the next `block_on` or `turn`.
    ///
    /// # Panics
    ///
    /// Inside of a task of the same runtime. A panic of the future goes through.
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
            "`block_on` inside of a task of the same runtime: `.await` the future there, or \
             `spawn` it"
        );
        let driving = Driving::new(self);
        let future = pin!(future);
        driving.drive(future)
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
        self.executor.spawn_at(Location::caller(), future)
    }

    /// One turn of the loop: waits until something happens, at most for `limit`, then polls the
    /// tasks that are ready. `None` waits as long as it takes, zero only looks. If tasks are ready
    /// already, it doesn't wait.
    ///
    /// # Errors
    ///
    /// If the poller fails, which is a defect of the program or of the system.
    ///
    /// # Panics
    ///
    /// Inside of a task of the same runtime.
    #[track_caller]
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<Turn> {
        let _turning = Turning::new(self);
        let limit = if self.executor.has_ready() {
            Some(Duration::ZERO)
        } else {
            limit
        };
        self.reactor.turn(limit)?;
        let tick = self.executor.tick(&self.waker, POLLS);
        Ok(self.turned(tick.polled))
    }

    /// Turns the loop for as long as there's something to do, but not longer than `budget`: a
    /// frame's share for a game, say. It never waits. It ends before its time only if a look at
    /// sockets and timers finds none that is ready.
    ///
    /// The clock is read after each poll, or after up to 16 of them while so many take less than
    /// 4 µs together. So what makes it late is a long poll, or up to 16 of them after short ones.
    ///
    /// # Errors
    ///
    /// As [`turn`](Runtime::turn).
    ///
    /// # Panics
    ///
    /// As [`turn`](Runtime::turn).
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
        let _turning = Turning::new(self);
        let start = Instant::now();
        let (mut polled, mut batch, mut used) = (0, 1, Duration::ZERO);
        loop {
            let woken = self.reactor.turn(Some(Duration::ZERO))?.woken;
            if woken == 0 && !self.executor.has_ready() {
                return Ok(self.turned(polled));
            }
            let until = polled + POLLS;
            loop {
                let tick = self.executor.tick(&self.waker, batch);
                polled += tick.polled;
                let before = std::mem::replace(&mut used, start.elapsed());
                if used >= budget {
                    return Ok(self.turned(polled));
                }
                let is_cheap = used - before < CHEAP;
                batch = if is_cheap { BATCH.min(2 * batch) } else { 1 };
                if !tick.ready || polled >= until {
                    break; // what waits for time or I/O may be ready by now
                }
            }
        }
    }

    /// True inside of the runtime's tasks. A turn would panic there, so a host whose loop may be
    /// run from inside of a task asks before it takes one.
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

    /// When the host must call [`turn`](Runtime::turn) at the latest: at once, if tasks are ready;
    /// `None` if only the descriptor counts.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.executor.has_ready() {
            return Some(Instant::now());
        }
        self.reactor.next_deadline()
    }

    /// A handle for other threads, to spawn tasks here.
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
        let remote = self.remote.get_or_init(|| {
            let (remote, arrivals) = remote::channel();
            self.executor.spawn_at(spawned_at, arrivals).detach();
            remote
        });
        remote.clone()
    }

    /// From now on wakes call `waker`.
    fn listen(&self) {
        self.executor.tick(&self.waker, 0);
    }

    /// If tasks are left that are ready, a host that watches the descriptor must come back. Also if
    /// they are another runtime's: what told of them, this one's turn has taken in.
    fn stay_readable(&self) {
        if self.executor.has_ready() {
            self.waker.wake_by_ref();
        } else if self.executor.others_ready() {
            self.reactor.waker().wake();
        }
    }

    fn turned(&self, polled: usize) -> Turn {
        Turn {
            polled,
            ready: self.executor.has_ready(),
            next_deadline: self.next_deadline(),
        }
    }
}

/// While it lives, a turn of the runtime is on the stack.
struct Turning<'a> {
    runtime: &'a Runtime,
    _entered: Entered,
    _awake: Awake<'a>,
}

impl<'a> Turning<'a> {
    #[track_caller]
    fn new(runtime: &'a Runtime) -> Self {
        // Before anything waits: inside of a task, nobody would end the wait.
        assert!(
            !runtime.is_running(),
            "a turn inside of a task of the same runtime: `.await` what it shall wait for"
        );
        if let Some(messenger) = &runtime.messenger {
            messenger.hold();
        }
        Turning {
            runtime,
            _awake: runtime.reactor.awake(),
            _entered: runtime.executor.enter(),
        }
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        if let Some(messenger) = &self.runtime.messenger {
            messenger.release();
        }
        self.runtime.stay_readable();
    }
}

/// A `block_on`, which pins its future after it has made this: so the future is dropped while the
/// executor is still entered.
///
/// The future is pinned by the public function that takes it, and from there on passed by
/// reference: debug builds would copy it on the stack for each function that takes it by value.
pub(crate) struct Driving<'a> {
    runtime: &'a Runtime,
    _back: Back<'a>,
    _entered: Entered,
}

impl<'a> Driving<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        let entered = runtime.executor.enter();
        Driving {
            runtime,
            _back: Back::new(runtime),
            _entered: entered,
        }
    }

    #[track_caller]
    pub(crate) fn drive<F: Future>(&self, future: Pin<&mut F>) -> F::Output {
        let Runtime {
            executor, reactor, ..
        } = self.runtime;
        // A future that needn't wait ends before the first turn. Called again and again with such
        // ones, this must not keep the tasks from their sockets and timers.
        if executor.tasks() > 0 {
            if let Err(error) = reactor.turn(Some(Duration::ZERO)) {
                panic!("the reactor of this thread failed: {error}");
            }
        }
        reactor.block_on(executor.run(future))
    }
}

/// The end of a `block_on`, also of one that panics: the host is to hear of what is left.
struct Back<'a>(&'a Runtime);

impl<'a> Back<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        if let Some(messenger) = &runtime.messenger {
            runtime.listen(); // panics if it can't be done, which the drop must not
            messenger.hold();
        }
        Back(runtime)
    }
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if let Some(messenger) = &self.0.messenger {
            self.0.listen(); // `block_on` has a waker of its own
            messenger.release();
        }
        self.0.stay_readable();
    }
}

/// Options of a [`Runtime`], from [`Runtime::builder`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `build`"]
pub struct Builder {
    timer_slack: Option<Duration>,
    on_wake: Option<Hook>,
}

impl Builder {
    /// How late a timer may be for the sake of sharing a wake-up with others: 100 µs, if not
    /// chosen. It is a bound for the grouping alone; the system takes its time to wake a thread on
    /// top of that. No timer is ever early, and one that is alone in its slack is not made late.
    ///
    /// A larger slack saves processor time where there are many timers: there are hardly more
    /// wake-ups for timers than the slack fits into the time. [`Duration::ZERO`] is the precise
    /// mode: no timer waits for another, and each costs a wake-up of its own unless others are due
    /// by the time that the thread runs.
    ///
    /// Runtimes on one thread share its reactor. While several live there the smallest slack holds
    /// for all of their timers, so none gets less precision than it has asked for.
    pub fn timer_slack(mut self, slack: Duration) -> Builder {
        self.timer_slack = Some(slack);
        self
    }

    /// What to call when the runtime has something to do: for a host that can't watch a
    /// descriptor, but can post a message to itself from any thread.
    ///
    /// It's called when a task gets ready outside of a turn: woken on this thread or on another,
    /// or spawned, also through a [`Remote`]; and at the end of a turn or `block_on` that has left
    /// tasks ready. Once is enough: it isn't called again until the host has taken a turn, or run a
    /// `block_on`. Whoever wakes is the one that calls it, so it should do no more than pass the
    /// word on. It must not take the turn itself: one that leaves tasks ready would call it again,
    /// deeper and deeper. A panic of it goes through to whoever wakes, which need not be the host;
    /// the call counts as made.
    ///
    /// It knows nothing of timers and of sockets, because nothing looks at them between the turns.
    /// For timers the host goes by [`next_deadline`](Runtime::next_deadline), which it reads after
    /// each turn, `block_on` or other use of the runtime. For sockets somebody has to wait on the
    /// descriptor: the host, or a helper thread that polls it and passes the word on. The
    /// descriptor tells of all: to a host that watches it, a hook is of no use.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// // The host's loop has a queue of messages, and this is one of them.
    /// struct Turn;
    /// let (post, messages) = mpsc::channel();
    /// let runtime = windlass::Runtime::builder()
    ///     .on_wake(move || drop(post.send(Turn)))
    ///     .build()?;
    ///
    /// let remote = runtime.remote();
    /// let thread = std::thread::spawn(move || remote.run(|| 6 * 7));
    /// let answer = runtime.spawn(thread.join().unwrap());
    /// while !answer.is_finished() {
    ///     let Turn = messages.recv().unwrap();
    ///     runtime.turn(Some(Duration::ZERO))?;
    /// }
    /// assert_eq!(runtime.block_on(answer).unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_wake(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.on_wake = Some(Hook::new(hook));
        self
    }

    /// Makes the runtime, on this thread.
    ///
    /// # Errors
    ///
    /// As [`Runtime::new`].
    pub fn build(self) -> io::Result<Runtime> {
        let runtime = self.build_unwatched()?;
        runtime.listen(); // a spawn before the first turn is heard as well
        Ok(runtime)
    }

    /// For a runtime that no host watches: one `block_on` is all that it is there for.
    pub(crate) fn build_unwatched(self) -> io::Result<Runtime> {
        let mut reactor = Reactor::current()?;
        if let Some(slack) = self.timer_slack {
            reactor.set_timer_slack(slack);
        }
        reactor.share_budget(budget::try_refill);
        let waker = reactor.waker();
        let messenger = self
            .on_wake
            .map(|hook| Arc::new(Messenger::new(waker.clone(), hook)));
        Ok(Runtime {
            executor: Executor::new(),
            reactor,
            waker: messenger.clone().map_or(waker, Waker::from),
            messenger,
            remote: OnceCell::new(),
        })
    }
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
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

/// What a turn did, and what's next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// How many times a task was polled.
    pub polled: usize,
    /// True if tasks are left that are ready: the next turn should come at once.
    pub ready: bool,
    /// When the next turn is due at the latest; see [`Runtime::next_deadline`].
    pub next_deadline: Option<Instant>,
}
