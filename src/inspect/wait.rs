//! An event that a task waits for.

use std::fmt;
#[cfg(unix)]
use std::os::fd::RawFd;
#[cfg(windows)]
use std::os::windows::io::RawSocket as RawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

use windlass_executor::TaskId;

type Place = Option<&'static Location<'static>>;

/// An event that a task waits for. The waits of a task are alternatives, each of which wakes it.
///
/// `Display` describes the wait in a few words.
///
/// # Examples
///
/// ```
/// use windlass::inspect::{self, Wait};
/// use windlass::{block_on, spawn, yield_now};
///
/// block_on(async {
///     let slow = spawn(std::future::pending::<()>());
///     let id = slow.id().unwrap();
///     let joiner = spawn(slow);
///     yield_now().await;
///     let tasks = inspect::tasks();
///     let joiner = tasks.iter().find(|task| Some(task.id) == joiner.id()).unwrap();
///     assert_eq!(joiner.waits, [Wait::Join(id)]);
///     assert_eq!(joiner.waits[0].to_string(), format!("join of task {id}"));
/// });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wait {
    /// A descriptor is readable.
    #[non_exhaustive]
    Readable {
        /// The number of the descriptor.
        fd: RawFd,
        /// The file behind the descriptor, for example `TCP 10.0.0.1:80 <- 10.0.0.2:5123`.
        what: String,
    },
    /// A descriptor is writable.
    #[non_exhaustive]
    Writable {
        /// The number of the descriptor.
        fd: RawFd,
        /// As in [`Readable`](Wait::Readable).
        what: String,
    },
    /// A descriptor has urgent data, or another priority condition.
    #[non_exhaustive]
    Priority {
        /// The number of the descriptor.
        fd: RawFd,
        /// As in [`Readable`](Wait::Readable).
        what: String,
    },
    /// A descriptor has an error.
    #[non_exhaustive]
    Error {
        /// The number of the descriptor.
        fd: RawFd,
        /// As in [`Readable`](Wait::Readable).
        what: String,
    },
    /// The end of a child process.
    #[non_exhaustive]
    Child {
        /// The PID of the child.
        pid: u32,
    },
    /// One of these signals.
    #[non_exhaustive]
    Signal {
        /// The signals, for example `SIGINT or SIGTERM`.
        what: String,
    },
    /// A timer.
    #[non_exhaustive]
    Timer {
        /// The deadline. `None` is never reached.
        at: Option<Instant>,
        /// The time until the deadline at the time of the listing.
        left: Option<Duration>,
    },
    /// The lookup of a host name.
    Lookup,
    /// The end of a task.
    Join(TaskId),
    /// The next turn of the loop, because the task has used up its budget.
    NextTurn,
    /// The lock of a [`Mutex`](crate::sync::Mutex).
    #[non_exhaustive]
    Lock {
        /// Where the mutex was created.
        created_at: Place,
        /// The task that holds the lock, if it is known.
        held_by: Option<TaskId>,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
    },
    /// Permits of a [`Semaphore`](crate::sync::Semaphore).
    #[non_exhaustive]
    Semaphore {
        /// Where the semaphore was created.
        created_at: Place,
        /// The number of permits that the task waits for.
        wanted: usize,
        /// The number of permits that are available.
        available: usize,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
    },
    /// A notification of an [`Event`](crate::sync::Event).
    #[non_exhaustive]
    Event {
        /// Where the event was created.
        created_at: Place,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
    },
    /// Capacity of a channel.
    #[non_exhaustive]
    Send {
        /// Where the channel was created.
        created_at: Place,
        /// The capacity, all of which is in use.
        capacity: usize,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
        /// The task that has waited last for a value of the channel. It probably has the receiver.
        receiver: Option<TaskId>,
    },
    /// A value of a channel.
    #[non_exhaustive]
    Receive {
        /// The kind of channel: `mpsc`, `oneshot`, `watch` or `broadcast`.
        channel: &'static str,
        /// Where the channel was created.
        created_at: Place,
        /// The number of senders, if the channel counts them.
        senders: Option<usize>,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
        /// The task that has waited last for capacity, and got it. It probably has a sender.
        sender: Option<TaskId>,
    },
    /// The end of the receivers of a channel.
    #[non_exhaustive]
    Closed {
        /// Where the channel was created.
        created_at: Place,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
    },
    /// The next child of a [`TaskGroup`](crate::task::TaskGroup) to end.
    #[non_exhaustive]
    Group {
        /// Where the group was created.
        created_at: Place,
        /// The children that run.
        children: Vec<TaskId>,
        /// The number of children that wait for room.
        queued: usize,
    },
    /// The children of a [`scope`](crate::task::scope()). The task has their waits, too.
    #[non_exhaustive]
    Scope {
        /// The number of children that run.
        children: usize,
    },
    /// The stop of a [`StopToken`](crate::task::StopToken).
    #[non_exhaustive]
    Stop {
        /// Where the source of the token was created.
        created_at: Place,
        /// The `.await` of the task, if it is known.
        awaited_at: Place,
    },
    /// A closure of a [`Pool`](crate::Pool).
    #[non_exhaustive]
    Blocking {
        /// The name of the pool.
        pool: &'static str,
        /// The call that has started the closure.
        started_at: Place,
        /// The closure runs. Otherwise it is queued.
        is_running: bool,
    },
    /// An operation on a file.
    #[non_exhaustive]
    File {
        /// The operation, for example `read`.
        operation: &'static str,
        /// The descriptor of an open file, on Unix.
        fd: Option<i32>,
        /// The path of the open file, if it is known.
        what: Option<String>,
        /// The system performs the operation. Otherwise it is queued.
        is_running: bool,
    },
    /// Earlier operations on the same file.
    #[non_exhaustive]
    FileOrder {
        /// The number of these operations.
        running: usize,
    },
    /// A task of another runtime, see [`RemoteTask`](crate::RemoteTask).
    #[non_exhaustive]
    RemoteTask {
        /// Where it was spawned.
        spawned_at: Place,
    },
    /// Jobs of the other threads that have a [`Remote`](crate::Remote) of the runtime.
    #[non_exhaustive]
    Jobs {
        /// The number of these `Remote`s.
        remotes: usize,
    },
    /// No table names the event. The task waits behind a combinator with wakers of its own, such as
    /// `FuturesUnordered`, or for a wake by code outside of this crate, such as another thread.
    Unknown,
}

impl Wait {
    /// Returns the tasks that can end the wait, each of them alone. Empty if it doesn't depend on
    /// tasks, or on unknown ones.
    ///
    /// ```
    /// # use windlass::{Runtime, inspect::Wait};
    /// let runtime = Runtime::new()?;
    /// let task = runtime.spawn(async {}).id().unwrap();
    /// assert_eq!(Wait::Join(task).depends_on(), [task]);
    /// assert!(Wait::Unknown.depends_on().is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn depends_on(&self) -> &[TaskId] {
        match self {
            Wait::Join(task) => std::slice::from_ref(task),
            Wait::Lock { held_by, .. } => held_by.as_slice(),
            Wait::Group { children, .. } => children,
            _ => &[],
        }
    }

    /// Returns a task that can probably end the wait for a channel, because it has waited last at
    /// the other end. Another task may have that end by now.
    ///
    /// ```
    /// use windlass::sync::mpsc;
    /// use windlass::{block_on, inspect, spawn, yield_now};
    ///
    /// block_on(async {
    ///     let (sender, mut receiver) = mpsc::channel(1);
    ///     let clerk = spawn(async move {
    ///         receiver.recv().await;
    ///         std::future::pending::<()>().await; // is busy with other things
    ///     });
    ///     yield_now().await;
    ///     let clerk = clerk.id();
    ///     let _producer = spawn(async move { for n in 0..9 { sender.send(n).await.unwrap() } });
    ///     for _ in 0..4 {
    ///         yield_now().await;
    ///     }
    ///     let tasks = inspect::tasks();
    ///     let mut waits = tasks.iter().flat_map(|task| &task.waits);
    ///     assert!(waits.any(|wait| wait.probably_depends_on() == clerk));
    /// });
    /// ```
    pub fn probably_depends_on(&self) -> Option<TaskId> {
        match self {
            Wait::Send { receiver, .. } => *receiver,
            Wait::Receive { sender, .. } => *sender,
            _ => None,
        }
    }

    /// Returns how the event can come.
    pub(crate) fn origin(&self) -> Origin {
        match self {
            Wait::Timer { at: None, .. } | Wait::Jobs { remotes: 0 } => Origin::Never,
            Wait::Unknown => Origin::Unknown,
            Wait::Join(_)
            | Wait::Lock { .. }
            | Wait::Semaphore { .. }
            | Wait::Event { .. }
            | Wait::Send { .. }
            | Wait::Receive { .. }
            | Wait::Closed { .. }
            | Wait::Group { .. }
            | Wait::Scope { .. }
            | Wait::Stop { .. } => Origin::ThisThread,
            _ => Origin::Outside,
        }
    }
}

/// How an event can come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Never,
    /// By code of this thread, so not while its loop sleeps.
    ThisThread,
    /// From the system or another thread.
    Outside,
    /// From anywhere.
    Unknown,
}

/// Prints a place, such as ` created at src/main.rs:3:4`.
struct At(&'static str, Place);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At(verb, place) = self;
        place.map_or(Ok(()), |place| write!(f, " {verb} at {place}"))
    }
}

fn created(place: &Place) -> At {
    At("created", *place)
}

/// The place of an `.await`, and the task that the wait probably depends on.
fn fmt_awaited(f: &mut fmt::Formatter<'_>, place: &Place, peer: Option<TaskId>) -> fmt::Result {
    if let Some(place) = place {
        write!(f, ", awaited at {place}")?;
    }
    peer.map_or(Ok(()), |task| {
        write!(f, ", probably held up by task {task}")
    })
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Readable { fd, what } => write!(f, "readable fd {fd} ({what})"),
            Wait::Writable { fd, what } => write!(f, "writable fd {fd} ({what})"),
            Wait::Priority { fd, what } => write!(f, "priority condition of fd {fd} ({what})"),
            Wait::Error { fd, what } => write!(f, "error of fd {fd} ({what})"),
            Wait::Child { pid } => write!(f, "end of child process {pid}"),
            Wait::Signal { what } => write!(f, "signal {what}"),
            Wait::Timer { left, .. } => match left {
                Some(left) => write!(f, "timer in {left:.1?}"),
                None => f.write_str("timer without a deadline"),
            },
            Wait::Lookup => f.write_str("lookup of a host name"),
            Wait::Join(task) => write!(f, "join of task {task}"),
            Wait::NextTurn => f.write_str("next turn, after a budget was used up"),
            Wait::FileOrder { running } => write!(f, "{running} earlier operations of its file"),
            Wait::Jobs { remotes } => write!(f, "jobs of {remotes} `Remote`s"),
            Wait::Unknown => f.write_str("unknown event, behind a combinator or of foreign code"),
            Wait::Blocking { .. } | Wait::File { .. } | Wait::RemoteTask { .. } => {
                self.fmt_elsewhere(f)
            }
            _ => self.fmt_sync(f),
        }
    }
}

pub(super) fn state(is_running: bool) -> &'static str {
    if is_running { "running" } else { "queued" }
}

/// The names of signals, such as `SIGINT or SIGTERM`.
pub(crate) fn signals_text(signals: &[i32]) -> String {
    let texts: Vec<_> = signals.iter().map(|&signal| signal_text(signal)).collect();
    texts.join(" or ")
}

#[cfg(unix)]
fn signal_text(signal: i32) -> String {
    let names = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGWINCH, "SIGWINCH"),
    ];
    let name = names.iter().find(|(number, _)| *number == signal);
    name.map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(windows)]
fn signal_text(signal: i32) -> String {
    signal.to_string()
}

impl Wait {
    /// Describes work that another thread or the system does.
    fn fmt_elsewhere(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Blocking {
                pool,
                started_at,
                is_running,
            } => {
                let (state, at) = (state(*is_running), At("started", *started_at));
                write!(f, "closure of the pool `{pool}`{at}, {state}")
            }
            Wait::File {
                operation,
                what,
                is_running,
                ..
            } => {
                let file = what.as_deref().unwrap_or("a file");
                write!(f, "{operation} of {file}, {}", state(*is_running))
            }
            Wait::RemoteTask { spawned_at } => {
                write!(f, "task of another runtime{}", At("spawned", *spawned_at))
            }
            other => unreachable!("{other:?} is described by `Display`"),
        }
    }

    /// Describes an event that comes from this thread.
    fn fmt_sync(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Lock {
                created_at,
                held_by,
                awaited_at,
            } => {
                write!(f, "lock{}", created(created_at))?;
                held_by.map_or(Ok(()), |task| write!(f, ", held by task {task}"))?;
                fmt_awaited(f, awaited_at, None)
            }
            Wait::Semaphore {
                created_at,
                wanted,
                available,
                awaited_at,
            } => {
                write!(f, "permits of the semaphore{}: ", created(created_at))?;
                write!(f, "{wanted} wanted, {available} available")?;
                fmt_awaited(f, awaited_at, None)
            }
            Wait::Event {
                created_at,
                awaited_at,
            } => {
                write!(f, "event{}", created(created_at))?;
                fmt_awaited(f, awaited_at, None)
            }
            _ => self.fmt_others(f),
        }
    }

    fn fmt_others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Group {
                created_at,
                children,
                queued,
            } => {
                write!(f, "end of a child of the group{}", created(created_at))?;
                fmt_children(f, children, *queued)
            }
            Wait::Scope { children } => write!(f, "{children} children of a scope"),
            Wait::Stop {
                created_at,
                awaited_at,
            } => {
                write!(f, "stop{}", created(created_at))?;
                fmt_awaited(f, awaited_at, None)
            }
            _ => self.fmt_channel(f),
        }
    }

    fn fmt_channel(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Send {
                created_at,
                capacity,
                awaited_at,
                receiver,
            } => {
                let at = created(created_at);
                write!(f, "room in the channel{at}, capacity {capacity}")?;
                fmt_awaited(f, awaited_at, *receiver)
            }
            Wait::Receive {
                channel,
                created_at,
                senders,
                awaited_at,
                sender,
            } => {
                write!(f, "value of the {channel} channel{}", created(created_at))?;
                senders.map_or(Ok(()), |senders| write!(f, ", senders: {senders}"))?;
                fmt_awaited(f, awaited_at, *sender)
            }
            Wait::Closed {
                created_at,
                awaited_at,
            } => {
                write!(f, "close of the channel{}", created(created_at))?;
                fmt_awaited(f, awaited_at, None)
            }
            other => unreachable!("{other:?} is described by `Display`"),
        }
    }
}

/// The most children that the description of a group names.
const NAMED_CHILDREN: usize = 8;

pub(super) fn fmt_children<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    children: &[T],
    queued: usize,
) -> fmt::Result {
    for (index, child) in children.iter().take(NAMED_CHILDREN).enumerate() {
        let before = if index == 0 { ": task" } else { "," };
        write!(f, "{before} {child}")?;
    }
    if children.len() > NAMED_CHILDREN {
        write!(f, " and {} more", children.len() - NAMED_CHILDREN)?;
    }
    if queued > 0 {
        write!(f, ", {queued} queued")?;
    }
    Ok(())
}
