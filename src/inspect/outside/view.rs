//! The contents of a snapshot.

use std::fmt;
use std::time::Duration;

use windlass_reactor::LoopState;

use crate::inspect::wait::{fmt_children, state};

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
    /// The end of a child process, by its PID.
    Child(u32),
    /// One of these signals, for example `SIGINT or SIGTERM`.
    Signal(String),
    /// The lock of a [`Mutex`](crate::sync::Mutex).
    Lock {
        /// Where the mutex was created, and where the task awaits it.
        at: PlacesView,
        /// The task that holds the lock, if it is known.
        held_by: Option<TaskNumber>,
    },
    /// Permits of a [`Semaphore`](crate::sync::Semaphore).
    Semaphore {
        /// Where the semaphore was created, and where the task awaits it.
        at: PlacesView,
        /// The number of permits that the task waits for.
        wanted: u64,
        /// The number of permits that are available.
        available: u64,
    },
    /// Capacity of a channel.
    Send {
        /// Where the channel was created, and where the task awaits it.
        at: PlacesView,
        /// The capacity, all of which is in use.
        capacity: u64,
        /// The task that has waited last for a value of the channel, which probably has the
        /// receiver.
        receiver: Option<TaskNumber>,
    },
    /// A value of a [`mpsc`](crate::sync::mpsc) channel.
    Receive {
        /// Where the channel was created, and where the task awaits it.
        at: PlacesView,
        /// The number of senders.
        senders: u64,
        /// The task that has waited last for capacity, and got it. It probably has a sender.
        sender: Option<TaskNumber>,
    },
    /// Another object, such as an [`Event`](crate::sync::Event) or a
    /// [`StopToken`](crate::task::StopToken).
    Object {
        /// The operation, for example `the value of the oneshot channel`.
        operation: &'static str,
        /// Where the object was created, and where the task awaits it.
        at: PlacesView,
    },
    /// The next child of a [`TaskGroup`](crate::task::TaskGroup) to end.
    Group {
        /// Where the group was created.
        created_at: String,
        /// The children that run.
        children: Vec<TaskNumber>,
    },
    /// The children of a [`scope`](crate::task::scope()). The task has their waits, too.
    Scope {
        /// The number of children that run.
        children: usize,
    },
    /// A closure of a [`Pool`](crate::Pool).
    Blocking {
        /// The name of the pool.
        pool: String,
        /// The call that has started the closure.
        started_at: String,
        /// The closure runs. Otherwise it is queued.
        is_running: bool,
    },
    /// An operation on a file.
    File {
        /// The operation, for example `read`.
        operation: &'static str,
        /// The descriptor of an open file.
        fd: Option<FdView>,
        /// The system performs the operation. Otherwise it is queued.
        is_running: bool,
    },
    /// Earlier operations on the same file.
    FileOrder {
        /// The number of these operations.
        running: u64,
    },
    /// A task of another runtime, see [`RemoteTask`](crate::RemoteTask).
    RemoteTask {
        /// Where it was spawned.
        spawned_at: String,
    },
    /// Jobs of the other threads that have a [`Remote`](crate::Remote) of the runtime.
    Jobs {
        /// The number of these `Remote`s.
        remotes: u64,
    },
    /// A child of a scope waits for an event that no table names.
    Unknown,
}

impl WaitView {
    /// Returns the tasks that can end the wait, each of them alone.
    pub fn depends_on(&self) -> &[TaskNumber] {
        match self {
            WaitView::Join(task) => std::slice::from_ref(task),
            WaitView::Lock { held_by, .. } => held_by.as_slice(),
            WaitView::Group { children, .. } => children,
            _ => &[],
        }
    }

    /// Returns a task that can probably end the wait, because it has waited last at the other end
    /// of the channel.
    pub fn probably_depends_on(&self) -> Option<TaskNumber> {
        match self {
            WaitView::Send { receiver, .. } => *receiver,
            WaitView::Receive { sender, .. } => *sender,
            _ => None,
        }
    }
}

/// The places of an object in a [`WaitView`], as `file:line:column`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PlacesView {
    /// Where the object was created. Empty if that is unknown.
    pub created_at: String,
    /// The `.await` of the task, if it is known.
    pub awaited_at: Option<String>,
}

impl fmt::Display for PlacesView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "created at {}", self.created_at)?;
        let place = self.awaited_at.as_ref();
        place.map_or(Ok(()), |place| write!(f, ", awaited at {place}"))
    }
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
            WaitView::Child(pid) => write!(f, "end of child process {pid}"),
            WaitView::Signal(signals) => write!(f, "signal {signals}"),
            WaitView::Object { operation, at } => write!(f, "{operation} {at}"),
            WaitView::Group {
                created_at,
                children,
            } => {
                write!(f, "end of a child of the group created at {created_at}")?;
                fmt_children(f, children, 0)
            }
            WaitView::Scope { children } => write!(f, "{children} children of a scope"),
            WaitView::FileOrder { running } => {
                write!(f, "{running} earlier operations of its file")
            }
            WaitView::RemoteTask { spawned_at } => {
                write!(f, "task of another runtime spawned at {spawned_at}")
            }
            WaitView::Jobs { remotes } => write!(f, "jobs of {remotes} `Remote`s"),
            WaitView::Unknown => f.write_str("unknown event of a child of a scope"),
            _ => self.fmt_more(f),
        }
    }
}

impl WaitView {
    fn fmt_more(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitView::Lock { at, held_by } => {
                write!(f, "lock of the mutex {at}")?;
                held_by.map_or(Ok(()), |task| write!(f, ", held by task {task}"))
            }
            WaitView::Semaphore {
                at,
                wanted,
                available,
            } => {
                write!(
                    f,
                    "permits of the semaphore {at}, {wanted} wanted, {available} available"
                )
            }
            WaitView::Send {
                at,
                capacity,
                receiver,
            } => {
                write!(f, "room in the channel {at}, capacity {capacity}")?;
                fmt_probable(f, *receiver)
            }
            WaitView::Receive {
                at,
                senders,
                sender,
            } => {
                write!(f, "a value of the channel {at}, senders: {senders}")?;
                fmt_probable(f, *sender)
            }
            _ => self.fmt_elsewhere(f),
        }
    }

    /// Describes work that another thread or the system does.
    fn fmt_elsewhere(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitView::Blocking {
                pool,
                started_at,
                is_running,
            } => {
                let state = state(*is_running);
                write!(
                    f,
                    "closure of the pool `{pool}` started at {started_at}, {state}"
                )
            }
            WaitView::File {
                operation,
                fd,
                is_running,
            } => {
                match fd {
                    Some(fd) => write!(f, "{operation} of {fd}")?,
                    None => write!(f, "{operation} of a file")?,
                }
                write!(f, ", {}", state(*is_running))
            }
            other => unreachable!("{other:?} is described by `Display`"),
        }
    }
}

fn fmt_probable(f: &mut fmt::Formatter<'_>, task: Option<TaskNumber>) -> fmt::Result {
    task.map_or(Ok(()), |task| {
        write!(f, ", probably held up by task {task}")
    })
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
