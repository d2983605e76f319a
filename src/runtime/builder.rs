//! Options of a runtime.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use windlass_executor::{Executor, budget};
use windlass_reactor::Reactor;
use windlass_reactor::fork::Origin;

use crate::inspect::loops::Registration;
use crate::inspect::{Deadlock, Handler, observers, watch_deadlocks, watchdog};

use super::Runtime;
use super::hook::{Hook, HookWaker};

/// Options of a [`Runtime`], created by [`Runtime::builder`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `build`"]
pub struct Builder {
    timer_slack: Option<Duration>,
    on_wake: Option<Hook>,
    is_unlisted: bool,
    on_deadlock: Option<Handler>,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            timer_slack: None,
            on_wake: None,
            is_unlisted: false,
            on_deadlock: None,
        }
    }

    /// Sets how late a timer may fire in order to share a wake-up with others. The default is
    /// 100 µs. The bound is for the grouping alone; the time that the system takes to wake a thread
    /// comes on top of it. No timer fires early, and one without others in its slack isn't delayed.
    ///
    /// A larger slack saves CPU time where there are many timers, because it bounds the rate of
    /// wake-ups for timers to about one per slack. [`Duration::ZERO`] is the precise mode: each
    /// timer costs a wake-up of its own, unless others are due by the time the thread runs.
    ///
    /// The runtimes of a thread share its reactor. The smallest of their slacks applies to all
    /// timers, so none gets less precision than it has requested.
    pub fn timer_slack(mut self, slack: Duration) -> Builder {
        self.timer_slack = Some(slack);
        self
    }

    /// Sets a hook that is called when the runtime needs a turn: for a host that can't watch a file
    /// descriptor but can post a message to itself from any thread.
    ///
    /// The hook is called when a task becomes ready outside of a turn, by a wake on any thread or
    /// by a spawn, including that of a [`Remote`](crate::Remote). It is also called at the end of a
    /// turn or `block_on` that leaves ready tasks. It is called once until the host takes a turn or
    /// runs a `block_on`.
    ///
    /// The hook runs on the thread that wakes the task, so it should only post the message. It must
    /// not call `turn`: a turn that leaves ready tasks would call the hook again, recursively. If
    /// it panics, the panic propagates to the code that woke the task, and the call counts.
    ///
    /// The hook is not called for timers and sockets, because nothing checks them between turns.
    /// For timers the host reads [`next_deadline`](Runtime::next_deadline) after each turn,
    /// `block_on` or other use of the runtime. For sockets the host or a helper thread has to wait
    /// on the file descriptor and post the message. The file descriptor covers all of this, so a
    /// host that watches it needs no hook.
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

    /// Hides the runtime from the list of loops. This is for the runtime that shows them.
    pub(crate) fn unlisted(mut self) -> Builder {
        self.is_unlisted = true;
        self
    }

    /// Sets a function that is called when the loop is about to sleep while nothing can wake the
    /// tasks that are left. It replaces the note on standard error. A test panics here instead of
    /// hanging.
    ///
    /// It is called at once if all tasks wait for events of this thread, such as the end of a task,
    /// a lock or a channel of [`sync`](crate::sync). If some wait for an event that no table names
    /// ([`Wait::Unknown`](crate::inspect::Wait::Unknown)), another thread may cause it. Then the
    /// call comes after a second without a poll. It never comes while a task waits for a timer, a
    /// descriptor, a file, a lookup, a child process, a signal or a closure of a
    /// [`Pool`](crate::Pool), or while another thread has a [`Remote`](crate::Remote).
    ///
    /// A task that waits for another thread and for an event of this one, in a `select!`, leads to
    /// a false alarm, because only the latter is known.
    ///
    /// It is called once until a task is polled again. A panic propagates from the `block_on` or
    /// turn, and the runtime stays usable. The function may wake tasks, which then continue. The
    /// runtimes of a thread share its loop, so the [`Deadlock`] contains the tasks of all, and the
    /// newest runtime's function is called. Each sleep without a timer examines the waits of all
    /// tasks, which takes 0.2 µs per task.
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use windlass::Runtime;
    /// use windlass::sync::mpsc;
    ///
    /// let runtime = Runtime::builder()
    ///     .on_deadlock(|deadlock| panic!("{deadlock}"))
    ///     .build()?;
    /// let panic = catch_unwind(AssertUnwindSafe(|| {
    ///     runtime.block_on(async {
    ///         let (sender, mut receiver) = mpsc::channel::<u8>(1);
    ///         receiver.recv().await; // `sender` still exists, in this task
    ///         drop(sender);
    ///     });
    /// }));
    /// let message = panic.unwrap_err().downcast::<String>().unwrap();
    /// assert!(message.starts_with("deadlock of 1 task:\n  task ") && message.contains("(main)"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_deadlock(mut self, handler: impl Fn(&Deadlock) + Send + Sync + 'static) -> Builder {
        self.on_deadlock = Some(Handler::new(handler));
        self
    }

    /// Creates the runtime on this thread.
    ///
    /// # Errors
    ///
    /// Fails as [`Runtime::new`] does.
    pub fn build(self) -> io::Result<Runtime> {
        let mut runtime = self.build_unwatched()?;
        runtime.since = Some(Box::new(runtime.registration.entry().thread.metrics()));
        runtime.register_waker(); // so that a spawn before the first turn notifies the host
        Ok(runtime)
    }

    /// Creates a runtime for a single `block_on`, without a host to notify.
    pub(crate) fn build_unwatched(self) -> io::Result<Runtime> {
        let mut reactor = Reactor::current()?;
        if let Some(slack) = self.timer_slack {
            reactor.set_timer_slack(slack);
        }
        reactor.share_budget(budget::try_refill);
        let waker = reactor.waker();
        let hook_waker = self
            .on_wake
            .map(|hook| Arc::new(HookWaker::new(waker.clone(), hook)));
        let executor = Executor::new();
        let registration = Registration::new(&executor, &reactor, !self.is_unlisted);
        watchdog::add_loop();
        observers::attach(&executor);
        Ok(Runtime {
            _deadlocks: watch_deadlocks(&reactor, self.on_deadlock),
            registration,
            executor: ManuallyDrop::new(executor),
            reactor,
            waker: hook_waker.clone().map_or(waker, Waker::from),
            hook_waker,
            origin: Origin::here(),
            since: None,
        })
    }
}
