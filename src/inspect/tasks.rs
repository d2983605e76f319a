//! The tasks of a thread, and their waits.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass_executor::{TaskEntry, TaskId, TaskState, list_tasks};
use windlass_reactor::{Reactor, WaitEvent, is_driven};

use super::descriptor::describe;
use super::id_map::IdMap;
use super::track;
use super::wait::{Origin, Wait, signals_text};
use super::wait_point::{self, FacadeGroup, FacadeWait};
use super::wait_point::{SourceKind, WaitKind, WakerId};
use crate::waits::{FileOperationKind, Place, is_await, list_job_receivers};

/// A task at the time of a listing.
///
/// `Display` prints one line, for example `task 12 "session", spawned at src/main.rs:40:9, waiting:
/// readable fd 9 (TCP 10.0.0.1:80 <- 10.0.0.2:5123) or timer in 3.0s`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Identifies the task.
    pub id: TaskId,
    /// The name that [`Task::named`](crate::Task::named) gave it.
    pub name: Option<Arc<str>>,
    /// Where it was spawned, or where the `block_on` of the main future was called.
    pub spawned_at: &'static Location<'static>,
    /// Whether it is the future of a `block_on`.
    pub is_main: bool,
    /// The task that has created the group of which this task is a child, or waits for it.
    pub parent: Option<TaskId>,
    /// The time since its first poll, or since [`track`](super::track) was called.
    pub age: Option<Duration>,
    /// The number of its polls since then.
    pub polls: Option<u64>,
    /// The time that these polls took, as far as they have ended. From the 17th poll on, 1 of 16 is
    /// measured and counts for all.
    pub busy: Option<Duration>,
    /// Whether it runs, is ready, or waits.
    pub state: TaskState,
    /// The events that it waits for, any of which wakes it. Empty unless it is waiting.
    ///
    /// Futures that were dropped since the task was last woken may have left a wait here. A task
    /// with a wait in this list may also wait for an event that no table names, see
    /// [`Wait::Unknown`].
    pub waits: Vec<Wait>,
}

/// Lists the tasks of all runtimes of this thread, with their waits.
///
/// It takes about 0.2 µs per task, and some system calls per descriptor that a task waits for. It
/// costs nothing while it isn't called, because it inverts the tables by which events find tasks.
///
/// Another thread runs this by a [`Remote`](crate::Remote): `remote.run(inspect::tasks)`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use windlass::{block_on, inspect, spawn, time::sleep, yield_now};
///
/// block_on(async {
///     let _slow = spawn(sleep(Duration::from_secs(3600))).named("slow");
///     yield_now().await;
///     for task in inspect::tasks() {
///         println!("{task}");
///     }
///     let slow = inspect::tasks().into_iter().find(|task| task.name.as_deref() == Some("slow"));
///     assert!(slow.unwrap().to_string().ends_with("waiting: timer in 3600.0s"));
/// });
/// ```
pub fn tasks() -> Vec<TaskInfo> {
    list(true).0
}

/// Lists the tasks, and describes the descriptors or leaves their descriptions empty. Returns also
/// whether an event from outside of the thread calls a waker that names no task, such as that of a
/// combinator.
pub(crate) fn list(describes: bool) -> (Vec<TaskInfo>, bool) {
    let entries = list_tasks();
    let mut waits = Waits {
        describes,
        by_task: IdMap::with_capacity_and_hasher(entries.len(), Default::default()),
        parents: IdMap::default(),
        scopes: HashMap::new(),
        waiting_children: HashSet::new(),
        has_unnamed: false,
        has_peers: false,
    };
    waits.add_facade();
    waits.add_reactor();
    entries.iter().for_each(|entry| waits.add_joins(entry));
    waits.add_silent_children();
    let now = Instant::now();
    let infos = entries.into_iter().map(|entry| waits.take_info(entry, now));
    let mut infos: Vec<_> = infos.collect();
    if waits.has_peers {
        forget_ended_peers(&mut infos);
    }
    (infos, waits.has_unnamed)
}

/// Forgets tasks that have waited at the other end of a channel and ended since.
fn forget_ended_peers(infos: &mut [TaskInfo]) {
    let live: IdMap<()> = infos.iter().map(|info| (info.id, ())).collect();
    for wait in infos.iter_mut().flat_map(|info| &mut info.waits) {
        if let Wait::Send { receiver: peer, .. } | Wait::Receive { sender: peer, .. } = wait {
            *peer = peer.filter(|peer| live.contains_key(peer));
        }
    }
}

/// Lists the tasks with these ids.
pub(crate) fn tasks_of(entries: &[TaskEntry]) -> Vec<TaskInfo> {
    let ids: HashSet<TaskId> = entries.iter().map(|entry| entry.id).collect();
    let mut tasks = tasks();
    tasks.retain(|task| ids.contains(&task.id));
    tasks
}

/// The waits of the thread, by task.
struct Waits {
    /// Descriptors are described, which takes system calls.
    describes: bool,
    by_task: IdMap<Vec<Wait>>,
    parents: IdMap<TaskId>,
    /// The waker of the task that polls the child of a scope, by the address of the child's waker.
    scopes: HashMap<usize, WakerId>,
    /// The addresses of the wakers of children of scopes that wait for a listed event.
    waiting_children: HashSet<usize>,
    /// An event from outside of the thread calls a waker that names no task.
    has_unnamed: bool,
    /// A wait for a channel has the task that waited last at its other end.
    has_peers: bool,
}

impl Waits {
    fn add(&mut self, waker: WakerId, wait: Wait) {
        if let Some(task) = self.task_of(waker) {
            if waker.task().is_none() {
                self.waiting_children.insert(waker.data.addr());
            }
            self.push(task, wait);
        } else if wait.origin() == Origin::Outside {
            self.has_unnamed = true;
        }
    }

    fn push(&mut self, task: TaskId, wait: Wait) {
        let one = || Vec::with_capacity(1); // enough for most tasks
        let waits = self.by_task.entry(task).or_insert_with(one);
        // A task may have the same wait twice, for example after a `select!` in a loop.
        if waits.len() > 8 || !waits.contains(&wait) {
            waits.push(wait);
        }
    }

    /// The task that the waker wakes, possibly through the scopes that it is a child of.
    fn task_of(&self, mut waker: WakerId) -> Option<TaskId> {
        for _ in 0..=self.scopes.len() {
            if let Some(task) = waker.task() {
                return Some(task);
            }
            waker = *self.scopes.get(&waker.data.addr())?;
        }
        None
    }

    fn add_facade(&mut self) {
        let waits = wait_point::list();
        let groups = self.list_groups();
        for wait in &waits {
            if let WaitKind::Scope { children } = &wait.kind {
                let children = children.iter().map(|child| child.data.addr());
                self.scopes
                    .extend(children.map(|child| (child, wait.waker)));
            }
        }
        for wait in waits {
            let group = groups
                .get(&wait.object)
                .filter(|_| wait.kind == WaitKind::Group);
            if let (Some(group), Some(task)) = (group, self.task_of(wait.waker)) {
                // The main future creates groups without being known as their creator.
                for &child in &group.children {
                    self.parents.entry(child).or_insert(task);
                }
            }
            let (waker, described) = (wait.waker, self.describe(wait, group));
            self.has_peers |= described.probably_depends_on().is_some();
            self.add(waker, described);
        }
        for (task, remotes) in list_job_receivers() {
            self.push(task, Wait::Jobs { remotes });
        }
    }

    /// Notes the parents of the children of groups. Returns the groups by their object.
    fn list_groups(&mut self) -> HashMap<usize, FacadeGroup> {
        let groups = wait_point::list_groups();
        for group in &groups {
            let children = group.children.iter();
            let parent = children.filter_map(|&child| Some((child, group.created_by?)));
            self.parents.extend(parent);
        }
        groups
            .into_iter()
            .map(|group| (group.object, group))
            .collect()
    }

    fn describe(&self, wait: FacadeWait, group: Option<&FacadeGroup>) -> Wait {
        let created_at = wait.created_at;
        let awaited_at = wait.awaited_at.filter(|place| is_await(place.file()));
        match wait.kind {
            WaitKind::MutexLock { owner, .. } => Wait::Lock {
                created_at,
                held_by: owner.and_then(|owner| self.task_of(owner)),
                awaited_at,
            },
            WaitKind::Semaphore {
                wants, available, ..
            } => Wait::Semaphore {
                created_at,
                wanted: wants,
                available,
                awaited_at,
            },
            WaitKind::Event => Wait::Event {
                created_at,
                awaited_at,
            },
            WaitKind::Group => describe_group(group),
            WaitKind::Scope { children } => Wait::Scope {
                children: children.len(),
            },
            WaitKind::Stop => Wait::Stop {
                created_at,
                awaited_at,
            },
            kind => Self::describe_channel(kind, created_at, awaited_at),
        }
    }

    fn describe_channel(
        kind: WaitKind,
        created_at: Option<Place>,
        awaited_at: Option<Place>,
    ) -> Wait {
        // The waker of a combinator may be gone, and another one may have its address.
        let peer = |waker: Option<WakerId>| waker.and_then(WakerId::task);
        let receive = |channel, senders, sender| Wait::Receive {
            channel,
            created_at,
            senders,
            awaited_at,
            sender,
        };
        match kind {
            WaitKind::ChannelSend { capacity, receiver } => Wait::Send {
                created_at,
                capacity,
                awaited_at,
                receiver: peer(receiver),
            },
            WaitKind::ChannelReceive { senders, sender } => {
                receive("mpsc", Some(senders), peer(sender))
            }
            WaitKind::OneshotReceive => receive("oneshot", None, None),
            WaitKind::Closed => Wait::Closed {
                created_at,
                awaited_at,
            },
            WaitKind::Watch => receive("watch", None, None),
            WaitKind::Broadcast => receive("broadcast", None, None),
            kind => Self::describe_outer(kind, created_at),
        }
    }

    /// Describes a wait for an event from outside of the thread.
    fn describe_outer(kind: WaitKind, place: Option<Place>) -> Wait {
        match kind {
            WaitKind::Blocking { pool, is_running } => Wait::Blocking {
                pool,
                started_at: place,
                is_running,
            },
            WaitKind::File {
                operation,
                is_running,
            } => Wait::File {
                operation: operation_name(operation.kind),
                fd: operation.fd,
                what: None,
                is_running,
            },
            WaitKind::FileOrder { running } => Wait::FileOrder { running },
            WaitKind::Remote => Wait::RemoteTask { spawned_at: place },
            #[cfg(windows)]
            WaitKind::Signal(signal) => Wait::Signal {
                what: signals_text(&[signal]),
            },
            _ => Wait::Unknown,
        }
    }

    fn add_reactor(&mut self) {
        // `Reactor::current` would create one.
        let Some(reactor) = is_driven().then(Reactor::current).and_then(Result::ok) else {
            return;
        };
        let sources = wait_point::list_sources().into_iter();
        let sources: HashMap<_, _> = sources.map(|it| (i64::from(it.fd), it.kind)).collect();
        let now = Instant::now();
        for wait in reactor.list_waits() {
            let waker = WakerId {
                data: wait.data,
                vtable: wait.vtable,
            };
            let described = match (wait.event, sources.get(&watched_fd(&wait.event))) {
                (WaitEvent::Readable(_), Some(source)) => describe_source(source),
                (event, _) => self.describe_event(event, now),
            };
            self.add(waker, described);
        }
    }

    fn describe_event(&self, event: WaitEvent, now: Instant) -> Wait {
        let described = |fd| {
            let what = if self.describes {
                describe(fd)
            } else {
                String::new()
            };
            (fd, what)
        };
        match event {
            WaitEvent::Deadline(at) => Wait::Timer {
                at,
                left: at.map(|at| at.saturating_duration_since(now)),
            },
            WaitEvent::NextTurn => Wait::NextTurn,
            WaitEvent::Lookup => Wait::Lookup,
            WaitEvent::Readable(fd) => {
                let (fd, what) = described(fd);
                Wait::Readable { fd, what }
            }
            WaitEvent::Writable(fd) => {
                let (fd, what) = described(fd);
                Wait::Writable { fd, what }
            }
            WaitEvent::Priority(fd) => {
                let (fd, what) = described(fd);
                Wait::Priority { fd, what }
            }
            WaitEvent::Error(fd) => {
                let (fd, what) = described(fd);
                Wait::Error { fd, what }
            }
            _ => Wait::Unknown,
        }
    }

    fn add_joins(&mut self, entry: &TaskEntry) {
        for joiner in entry.joiner.into_iter().chain(entry.foreign_joiner) {
            self.push(joiner, Wait::Join(entry.id));
        }
    }

    /// A child of a scope without a listed wait waits for an unknown event, and so does its task.
    fn add_silent_children(&mut self) {
        let is_silent = |&(child, _): &(&usize, _)| !self.waiting_children.contains(child);
        let silent = self.scopes.iter().filter(is_silent);
        let tasks: HashSet<_> = silent
            .filter_map(|(_, parent)| self.task_of(*parent))
            .collect();
        tasks
            .into_iter()
            .for_each(|task| self.push(task, Wait::Unknown));
    }

    fn take_info(&mut self, entry: TaskEntry, now: Instant) -> TaskInfo {
        let mut waits = self.by_task.remove(&entry.id).unwrap_or_default();
        match entry.state {
            TaskState::Waiting if waits.is_empty() => waits.push(Wait::Unknown),
            TaskState::Waiting => {}
            TaskState::Running | TaskState::Ready => waits.clear(),
        }
        if self.describes {
            waits.iter_mut().for_each(describe_file);
        }
        let statistics = track::statistics(entry.id);
        TaskInfo {
            id: entry.id,
            name: entry.name,
            spawned_at: entry.spawned_at,
            is_main: entry.is_main,
            parent: self.parents.get(&entry.id).copied(),
            age: statistics.map(|it| now.saturating_duration_since(it.since)),
            polls: statistics.map(|it| it.polls),
            busy: statistics.map(|it| it.busy),
            state: entry.state,
            waits,
        }
    }
}

/// The descriptor of a wait to read.
fn watched_fd(event: &WaitEvent) -> i64 {
    match event {
        WaitEvent::Readable(fd) => *fd as i64,
        _ => -1,
    }
}

fn describe_source(source: &SourceKind) -> Wait {
    match source {
        SourceKind::Child { pid } => Wait::Child { pid: *pid },
        SourceKind::Signals(signals) => Wait::Signal {
            what: signals_text(signals),
        },
    }
}

fn describe_group(group: Option<&FacadeGroup>) -> Wait {
    Wait::Group {
        created_at: group.map(|group| group.created_at),
        children: group
            .map(|group| group.children.clone())
            .unwrap_or_default(),
        queued: group.map_or(0, |group| group.queued),
    }
}

pub(super) fn operation_name(kind: FileOperationKind) -> &'static str {
    match kind {
        FileOperationKind::Read => "read",
        FileOperationKind::Write => "write",
        FileOperationKind::Sync => "sync",
        FileOperationKind::Open => "open",
        FileOperationKind::Close => "close",
        FileOperationKind::Other => "operation",
    }
}

/// Describes the file of a wait of this thread. The list has waits of other threads as well,
/// which may close their files at any time.
fn describe_file(wait: &mut Wait) {
    #[cfg(unix)]
    if let Wait::File {
        fd: Some(fd), what, ..
    } = wait
    {
        *what = Some(describe(*fd));
    }
    #[cfg(windows)]
    let _ = wait;
}

/// The most waits that the description of a task names.
const NAMED_WAITS: usize = 8;

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_name(f)?;
        let verb = if self.is_main { "run" } else { "spawned" };
        write!(f, ", {verb} at {}", self.spawned_at)?;
        if let Some(parent) = self.parent {
            write!(f, ", child of task {parent}")?;
        }
        if let (Some(polls), Some(busy)) = (self.polls, self.busy) {
            write!(f, ", {polls} polls, {busy:.1?} busy")?;
        }
        match self.state {
            TaskState::Running => return f.write_str(", running"),
            TaskState::Ready => return f.write_str(", ready"),
            TaskState::Waiting => f.write_str(", waiting: ")?,
        }
        for (index, wait) in self.waits.iter().take(NAMED_WAITS).enumerate() {
            let before = if index == 0 { "" } else { " or " };
            write!(f, "{before}{wait}")?;
        }
        if self.waits.len() > NAMED_WAITS {
            write!(f, " or {} others", self.waits.len() - NAMED_WAITS)?;
        }
        Ok(())
    }
}

impl TaskInfo {
    /// Prints `task 12 "session"`.
    pub(crate) fn fmt_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        match &self.name {
            Some(name) => write!(f, " {name:?}"),
            None if self.is_main => f.write_str(" (main)"),
            None => Ok(()),
        }
    }
}
