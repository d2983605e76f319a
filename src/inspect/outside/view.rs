//! The contents of a snapshot.

use std::fmt;
use std::time::Duration;

use windlass_reactor::LoopState;

/// A runtime in a [`Snapshot`](super::Snapshot).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeView {
    /// The thread, by the number that the system knows it by.
    pub thread: i32,
    /// The name of the thread, if it had one when the runtime was created.
    pub thread_name: Option<String>,
    /// The number of the executor, which is unique in the process.
    pub executor: u16,
    /// The activity of the thread, for example the system call that it is in. Empty if that is
    /// unknown, and in a core file.
    pub activity: String,
    /// Whether the loop sleeps.
    pub loop_state: LoopState,
    /// How many polls the loop has started. Wraps around.
    pub polls: u64,
    /// How many turns the loop had made when it last slept.
    pub turns: u64,
    /// The task that is being polled.
    pub current_task: Option<TaskNumber>,
    /// The loop drops the future of a task.
    pub is_dropping: bool,
    /// The unfinished tasks and the main future, in the order of their slots.
    pub tasks: Vec<TaskView>,
    /// The waits of wakers that belong to no task of the snapshot, such as those of combinators
    /// with wakers of their own.
    pub other_waits: Vec<WaitView>,
    /// How many timers are pending.
    pub timers: usize,
    /// How many sources exist: sockets, pipes and other watched descriptors.
    pub sources: usize,
    /// Some entries were inconsistent and are missing.
    pub is_incomplete: bool,
}

/// A task in a [`RuntimeView`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskView {
    /// Identifies the task.
    pub id: TaskNumber,
    /// The name that [`Task::named`](crate::Task::named) gave it.
    pub name: Option<String>,
    /// Where it was spawned, as `file:line:column`. Empty if that is unknown.
    pub spawned_at: String,
    /// Whether it is the main future of a `block_on`.
    pub is_main: bool,
    /// The activity of the task.
    pub state: StateView,
    /// The events that it waits for, of which each ends its wait.
    pub waits: Vec<WaitView>,
    /// The task that awaits it.
    pub joiner: Option<TaskNumber>,
    /// It is awaited by a future outside of its executor, or through a combinator with a waker of
    /// its own.
    pub has_foreign_joiner: bool,
}

/// The number of a task. `Display` prints it like a
/// [`TaskId`](https://docs.rs/windlass-executor/latest/windlass_executor/struct.TaskId.html).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskNumber {
    /// The number of its executor.
    pub executor: u16,
    /// The number in the order of spawning.
    pub number: u32,
}

/// The activity of a task in a [`TaskView`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StateView {
    /// It is being polled.
    Running,
    /// It waits for its turn to be polled.
    Ready,
    /// It waits to be woken.
    Waiting,
}

/// An event that a task in a [`TaskView`] waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WaitView {
    /// The descriptor is readable.
    Readable(FdView),
    /// The descriptor is writable.
    Writable(FdView),
    /// The descriptor has urgent data, or another priority condition.
    Priority(FdView),
    /// The descriptor has an error.
    Error(FdView),
    /// A timer.
    Timer(TimerView),
    /// The next turn of the loop, because the task has used up its budget.
    NextTurn,
    /// The end of a task.
    Join(TaskNumber),
    /// A lock or channel of [`sync`](crate::sync).
    Object {
        /// The operation, for example `lock of the mutex`.
        operation: &'static str,
        /// Where the object was created, as `file:line:column`. Empty if that is unknown.
        created_at: String,
    },
}

/// A file descriptor in a [`WaitView`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FdView {
    /// The number of the descriptor.
    pub fd: i32,
    /// The target of its link in `/proc`, for example `socket:[1234]`. `None` in a core file.
    pub target: Option<String>,
}

/// A timer in a [`WaitView`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerView {
    /// It fires after this time.
    In(Duration),
    /// It is due since this time.
    Overdue(Duration),
    /// In a core file, when it fires on the clock `CLOCK_MONOTONIC`, since the core file has no
    /// time.
    At(Duration),
    /// It never fires.
    Never,
}

impl fmt::Display for TaskNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.executor {
            0 => self.number.to_string(),
            executor => format!("{executor}:{}", self.number),
        };
        f.pad(&text)
    }
}

impl fmt::Display for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StateView::Running => "running",
            StateView::Ready => "ready",
            StateView::Waiting => "waiting",
        })
    }
}

impl fmt::Display for WaitView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitView::Readable(fd) => write!(f, "readable {fd}"),
            WaitView::Writable(fd) => write!(f, "writable {fd}"),
            WaitView::Priority(fd) => write!(f, "priority data on {fd}"),
            WaitView::Error(fd) => write!(f, "error on {fd}"),
            WaitView::Timer(timer) => write!(f, "timer {timer}"),
            WaitView::NextTurn => f.write_str("next turn"),
            WaitView::Join(task) => write!(f, "task {task}"),
            WaitView::Object {
                operation,
                created_at,
            } => write!(f, "{operation} created at {created_at}"),
        }
    }
}

impl fmt::Display for FdView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "fd {} ({target})", self.fd),
            None => write!(f, "fd {}", self.fd),
        }
    }
}

impl fmt::Display for TimerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimerView::In(left) => write!(f, "in {left:.1?}"),
            TimerView::Overdue(late) => write!(f, "overdue by {late:.1?}"),
            TimerView::At(at) => write!(f, "at {:.3} s of uptime", at.as_secs_f64()),
            TimerView::Never => f.write_str("that never fires"),
        }
    }
}
