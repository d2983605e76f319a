//! What the tasks of a thread wait for in this crate.
//!
//! The reactor lists the waits for descriptors, deadlines and turns, and the executor lists the
//! tasks that are joined. Everything else is here. A wait names its waker, which names the task,
//! unless a combinator has put a waker of its own in between.
//!
//! Objects with waiters are found through a list of the thread ([`listed`](super::listed)). They
//! join it when they are created or first waited for, so waiting and waking costs the same as
//! without it. Listing calls no user code.

use std::fmt;
use std::panic::Location;
use std::task::{RawWakerVTable, Waker};
use std::time::Instant;

use windlass_executor::TaskId;

use crate::signal::Signal;

/// The identity of a waker, which is only compared.
#[derive(Clone, Copy)]
pub(crate) struct WakerId {
    pub(crate) data: *const (),
    pub(crate) vtable: &'static RawWakerVTable,
}

impl WakerId {
    pub(crate) fn of(waker: &Waker) -> WakerId {
        WakerId {
            data: waker.data(),
            vtable: waker.vtable(),
        }
    }

    /// The task that the waker wakes. `None` for a waker of a combinator or another executor.
    pub(crate) fn task(self) -> Option<TaskId> {
        TaskId::of_raw_waker(self.data, self.vtable)
    }
}

/// Copies of a waker may have different copies of its table, so the table only distinguishes
/// numbers of tasks from addresses.
impl PartialEq for WakerId {
    fn eq(&self, other: &WakerId) -> bool {
        self.data == other.data && self.task().is_some() == other.task().is_some()
    }
}

impl Eq for WakerId {}

impl fmt::Debug for WakerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task() {
            Some(task) => task.fmt(f),
            None => self.data.fmt(f),
        }
    }
}

/// A waker that an object of this crate holds.
#[derive(Clone, Debug)]
pub(crate) struct FacadeWait {
    pub(crate) waker: WakerId,
    pub(crate) kind: WaitKind,
    /// The identity of the object, its address or number. Together with the kind of object it is
    /// unique while the object exists. Both directions of a channel have the same.
    pub(crate) object: usize,
    /// Where the object was created, if it is known.
    pub(crate) created_at: Option<&'static Location<'static>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// Waits for [`Mutex::lock`](crate::sync::Mutex::lock).
    MutexLock {
        /// The waker of the task that holds the lock or was just granted it. `None` after
        /// `try_lock`. The waker may be gone by now, so it must not be taken for a new one at the
        /// same address, unless it names a task.
        owner: Option<WakerId>,
    },
    Semaphore {
        wants: usize,
        available: usize,
    },
    Event,
    /// A sender of a bounded [`mpsc`](crate::sync::mpsc) channel waits for capacity.
    ChannelSend {
        capacity: usize,
    },
    /// The receiver of an [`mpsc`](crate::sync::mpsc) channel waits for a value.
    ChannelReceive {
        senders: usize,
    },
    OneshotReceive,
    /// The sender of a [`oneshot`](crate::sync::oneshot) channel waits until it is closed.
    OneshotClosed,
    WatchChanged,
    /// Waits for the next end of a child of a [`TaskGroup`](crate::task::TaskGroup), or for room.
    Group {
        /// The children that run.
        children: Vec<TaskId>,
        /// The number of children that wait for room.
        queued: usize,
    },
    /// The waker of the task that polls the children of a [`scope`](crate::task::scope()), while
    /// it waits for one of them.
    Scope {
        /// The wakers of the children, which are found as `waker` in the waits of the children.
        children: Vec<WakerId>,
    },
    /// Waits for a [`StopToken`](crate::task::StopToken). The reactor has the timer of a deadline.
    Stop {
        deadline: Option<Instant>,
    },
    /// Waits for a closure of a [`Pool`](crate::Pool).
    Blocking {
        /// The name of the pool and its threads.
        pool: &'static str,
        /// The closure runs. Otherwise it is queued.
        is_running: bool,
    },
    File {
        operation: &'static str,
        /// The file, as far as it is known.
        fd: Option<i32>,
    },
    /// Waits for earlier operations of the same file handle.
    FileOrder {
        /// The number of operations that run or wait.
        ahead: usize,
    },
    /// Waits for a task of another runtime.
    Remote,
}

/// A descriptor that the reactor watches for this crate. A wait for it is one of the reactor's.
#[derive(Clone, Debug)]
pub(crate) struct FacadeSource {
    pub(crate) fd: i32,
    pub(crate) kind: SourceKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Readable at the end of the child process.
    Child { pid: u32 },
    /// Readable after one of these signals.
    Signals(Vec<Signal>),
}

/// Lists the waits of this thread's objects. Those of pools and remote tasks are of all threads,
/// since their wakers do not tell.
pub(crate) fn list() -> Vec<FacadeWait> {
    Vec::new()
}

/// Lists the descriptors of this thread whose purpose this crate knows.
pub(crate) fn list_sources() -> Vec<FacadeSource> {
    Vec::new()
}
