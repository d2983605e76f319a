//! Deadlocks: a loop that is about to sleep while nothing can wake its tasks.
//!
//! The reactor calls [`on_idle`] before it blocks without a limit and without a timer. The call
//! limits the wait to a second, and the reactor calls it again. If no task was polled in that time,
//! it examines what the tasks wait for. So an idle period has one wake-up more, and a loop that
//! other threads wake often has one more per second.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use windlass_executor::{TaskState, Workload, workload};
use windlass_reactor::{Reactor, is_driven};

use super::graph::{Cycle, Graph};
use super::tasks::{TaskInfo, list, tasks};
use super::wait::{Origin, Wait};
use crate::blocking;

/// Tasks that wait, and nothing is left that could wake them.
///
/// `Display` prints a task or a cycle per line. [`Builder::on_deadlock`] has an example.
///
/// [`Builder::on_deadlock`]: crate::Builder::on_deadlock
#[derive(Clone, Debug)]
pub struct Deadlock {
    tasks: Vec<TaskInfo>,
    cycles: Vec<Cycle>,
}

impl Deadlock {
    /// Returns the tasks.
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }

    /// Returns the cycles in which some of them wait for each other. Other deadlocks have none, for
    /// example a lost wake-up.
    ///
    /// A cycle with a wait for a channel is a guess, see [`Cycle::is_probable`].
    pub fn cycles(&self) -> &[Cycle] {
        &self.cycles
    }

    /// All tasks of the thread.
    fn of_all(tasks: Vec<TaskInfo>) -> Deadlock {
        let cycles = Graph::new(&tasks).with_probable().cycles(|_| true);
        Deadlock { tasks, cycles }
    }
}

/// The most tasks and cycles that `Display` prints.
const PRINTED: usize = 40;

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tasks.len() {
            1 => f.write_str("deadlock of 1 task:")?,
            tasks => write!(f, "deadlock of {tasks} tasks:")?,
        }
        for task in self.tasks.iter().take(PRINTED) {
            write!(f, "\n  {task}")?;
        }
        if self.tasks.len() > PRINTED {
            write!(f, "\n  and {} more", self.tasks.len() - PRINTED)?;
        }
        for cycle in self.cycles.iter().take(PRINTED) {
            let probable = if cycle.is_probable() { "probable " } else { "" };
            write!(f, "\n  {probable}cycle: {cycle}")?;
        }
        Ok(())
    }
}

/// Finds the tasks of this thread that can never run again, because they wait only for each other,
/// while other tasks may go on.
///
/// It follows joins, locks, groups and scopes. A wait for a channel, a semaphore or an event counts
/// as one that may end, because any task may hold the other end. The waits of a task are
/// alternatives, so a task of a cycle with another wait that may end is no deadlock.
///
/// There are false alarms in three cases. A task also waits for an event that no table names, in a
/// `select!` for example. Another task will cancel one of the tasks. A lock was taken over from the
/// task that has locked it.
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use windlass::{Task, block_on, inspect, spawn, yield_now};
///
/// block_on(async {
///     let first: Rc<RefCell<Option<Task<()>>>> = Rc::default();
///     let other = first.clone();
///     let second = spawn(async move {
///         yield_now().await;
///         let first = other.take().unwrap();
///         first.await;
///     });
///     *first.borrow_mut() = Some(spawn(second));
///     assert!(inspect::deadlock().is_none());
///     yield_now().await;
///     yield_now().await;
///     let deadlock = inspect::deadlock().expect("each task joins the other");
///     assert_eq!(deadlock.cycles().len(), 1);
///     println!("{deadlock}");
/// });
/// ```
pub fn deadlock() -> Option<Deadlock> {
    let tasks = tasks();
    let graph = Graph::new(&tasks);
    let stuck = graph.stuck();
    let cycles = graph.cycles(|task| stuck[task]);
    let mut position = 0..;
    let mut tasks = tasks;
    tasks.retain(|_| position.next().is_some_and(|position| stuck[position]));
    (!tasks.is_empty()).then_some(Deadlock { tasks, cycles })
}

/// A function that is called instead of the note.
#[derive(Clone)]
pub(crate) struct Handler(Arc<dyn Fn(&Deadlock) + Send + Sync>);

impl Handler {
    pub(crate) fn new(handler: impl Fn(&Deadlock) + Send + Sync + 'static) -> Handler {
        Handler(Arc::new(handler))
    }
}

// It is `Sync`, so state that it changes is behind locks or atomics.
impl UnwindSafe for Handler {}
impl RefUnwindSafe for Handler {}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

thread_local! {
    /// The handlers of the runtimes of this thread, in the order of creation.
    static HANDLERS: RefCell<Vec<Handler>> = const { RefCell::new(Vec::new()) };
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Running) };
    /// A note about an event that no table names was written. If another thread has caused that
    /// event, it will cause more.
    static IS_NOTED: Cell<bool> = const { Cell::new(false) };
    /// A handler is on the stack.
    static IS_HANDLING: Cell<bool> = const { Cell::new(false) };
}

/// The state of the current idle period.
#[derive(Clone, Copy)]
enum Watch {
    Running,
    /// No task was polled since then.
    Suspected {
        polls: usize,
        since: Instant,
        patience: Duration,
    },
    /// The tasks were examined at that number of polls.
    Settled {
        polls: usize,
    },
}

/// How long a loop sleeps before its tasks are examined.
const PATIENCE: Duration = Duration::from_secs(1);

/// A timer of the reactor may end a wait slightly early.
const TOLERANCE: Duration = Duration::from_millis(1);

/// Watches the loop of a new runtime.
#[inline]
pub(crate) fn watch(reactor: &Reactor, handler: Option<Handler>) -> Option<Registration> {
    let registration = handler.map(Registration::new);
    WATCH.set(Watch::Running); // another runtime may have had as many polls
    set_hook(reactor);
    registration
}

/// Without a handler, a source hides deadlocks, and a loop with a source pays nothing.
#[inline]
fn set_hook(reactor: &Reactor) {
    let has_handlers = HANDLERS.try_with(|handlers| !handlers.borrow().is_empty());
    let sources = if has_handlers.unwrap_or(false) {
        usize::MAX
    } else {
        0
    };
    reactor.on_idle(sources, Some(on_idle));
}

/// Keeps the handler of a runtime until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration(Handler);

impl Registration {
    #[cold]
    fn new(handler: Handler) -> Registration {
        // While the thread ends, the list may be gone.
        let _ = HANDLERS.try_with(|handlers| handlers.borrow_mut().push(handler.clone()));
        Registration(handler)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Its drop may be user code, and runs outside of the borrow.
        let removed = HANDLERS.try_with(|handlers| {
            let mut handlers = handlers.borrow_mut();
            let is_it = |it: &Handler| Arc::ptr_eq(&it.0, &self.0.0);
            handlers
                .iter()
                .rposition(is_it)
                .map(|position| handlers.remove(position))
        });
        drop(removed);
        if let Some(Ok(reactor)) = is_driven().then(Reactor::current) {
            set_hook(&reactor);
        }
    }
}

/// Called before the loop of this thread sleeps. Returns when it wants to be called again.
fn on_idle() -> Option<Duration> {
    let Workload { polls, tasks, .. } = workload();
    if tasks == 0 || IS_HANDLING.get() {
        return None;
    }
    // While the thread ends, the list may be gone.
    let handler = HANDLERS.try_with(|handlers| handlers.borrow().last().cloned());
    let handler = handler.ok().flatten();
    let now = Instant::now();
    let (since, patience) = suspected(polls, now)?;
    let left = patience.saturating_sub(now - since + TOLERANCE);
    let findings = if handler.is_some() || left.is_zero() {
        examine()
    } else {
        Findings::Unclear
    };
    WATCH.set(Watch::Settled { polls });
    match findings {
        Findings::MayContinue => return None,
        Findings::Hangs => {}
        Findings::Unclear if left.is_zero() && handler.is_none() && IS_NOTED.get() => return None,
        Findings::Unclear if left.is_zero() && !blocking::has_closures() => {}
        Findings::Unclear => {
            // A closure of a pool may wake the task later, so this waits twice as long each time.
            let factor = if left.is_zero() { 2 } else { 1 };
            return Some(suspect(polls, since, factor * patience, now));
        }
    }
    if handler.is_none() && findings == Findings::Unclear {
        IS_NOTED.set(true);
    }
    report(handler);
    None
}

/// Remembers the suspicion. Returns for how long the loop may sleep.
fn suspect(polls: usize, since: Instant, patience: Duration, now: Instant) -> Duration {
    WATCH.set(Watch::Suspected {
        polls,
        since,
        patience,
    });
    patience.saturating_sub(now - since)
}

/// Returns since when no task was polled, and the patience. `None` if the tasks were examined.
fn suspected(polls: usize, now: Instant) -> Option<(Instant, Duration)> {
    match WATCH.get() {
        Watch::Settled { polls: at } if at == polls => None,
        Watch::Suspected {
            polls: at,
            since,
            patience,
        } if at == polls => Some((since, patience)),
        _ => Some((now, PATIENCE)),
    }
}

/// Whether tasks can ever run again.
#[derive(Clone, Copy, PartialEq)]
enum Findings {
    /// An event from outside of this thread may wake a task.
    MayContinue,
    /// A task waits for an event that no table names.
    Unclear,
    Hangs,
}

fn examine() -> Findings {
    let (tasks, has_unnamed) = list(false);
    let waits = || tasks.iter().flat_map(|task| &task.waits);
    let has = |origin| waits().any(|wait| wait.origin() == origin);
    // A task that only receives the jobs of other threads belongs to this crate.
    let is_users = |task: &TaskInfo| !matches!(task.waits[..], [Wait::Jobs { .. }]);
    let is_waiting = |task: &TaskInfo| task.state == TaskState::Waiting && is_users(task);
    if has_unnamed || has(Origin::Outside) || !tasks.iter().any(is_waiting) {
        Findings::MayContinue
    } else if has(Origin::Unknown) {
        Findings::Unclear
    } else {
        Findings::Hangs
    }
}

/// Calls the handler, or writes the note.
#[cold]
fn report(handler: Option<Handler>) {
    let deadlock = Deadlock::of_all(tasks());
    #[cfg(feature = "tracing")]
    ::tracing::error!(target: "windlass", tasks = deadlock.tasks().len(), "{deadlock}");
    match handler {
        Some(handler) => {
            let _handling = Handling::start();
            (handler.0)(&deadlock);
        }
        None => {
            let thread = thread::current();
            let name = thread.name().unwrap_or("unnamed");
            let note = format!(
                "windlass: no event can wake the tasks of thread `{name}`. Unless another thread \
                 wakes one, this is a {deadlock}\n"
            );
            let _ = io::stderr().write_all(note.as_bytes()); // standard error may be closed
        }
    }
}

/// Exists while a handler is called.
struct Handling;

impl Handling {
    fn start() -> Handling {
        IS_HANDLING.set(true);
        Handling
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        IS_HANDLING.set(false);
    }
}
