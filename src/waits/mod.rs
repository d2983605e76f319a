//! The waits of this crate's objects, by waker.
//!
//! A wait names its waker, and the waker names the task, unless a combinator has put a waker of its
//! own in between. Objects with waiters are found in a list of their thread ([`Listed`]). They join
//! it when they are created or first waited for, so waiting and waking costs the same as without
//! it. Listing only reads, and calls no user code.

mod jobs;
mod layout;
mod listed;
mod numbered;
mod poll_at;
mod remote;
mod shared;
#[cfg(unix)]
mod sources;

use std::fmt;
use std::panic::Location;
use std::task::{RawWakerVTable, Waker};

use windlass_executor::TaskId;

pub(crate) use jobs::{JobReceiver, RemoteCount};
pub(crate) use layout::{LAYOUT, Layout};
pub(crate) use listed::{
    ListWaits, Listed, ObjectKind, first_address, list_groups, list_job_receivers, list_objects,
    list_sources,
};
pub(crate) use numbered::Numbered;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use poll_at::is_await_outside;
pub(crate) use poll_at::{is_await, poll_at, poll_fused_at};
pub(crate) use remote::{RemoteWait, list_remote};
pub(crate) use shared::{SHARED_LISTS, SharedLists};
#[cfg(unix)]
pub(crate) use sources::SourceLabel;

/// A location in the source of the program.
pub(crate) type Place = &'static Location<'static>;

/// The identity of a waker, which is only compared.
#[derive(Clone, Copy)]
pub(crate) struct WakerId {
    pub(crate) data: *const (),
    pub(crate) vtable: &'static RawWakerVTable,
}

impl WakerId {
    #[inline]
    pub(crate) fn of(waker: &Waker) -> WakerId {
        WakerId {
            data: waker.data(),
            vtable: waker.vtable(),
        }
    }

    /// Returns the task that the waker wakes. `None` for a waker of a combinator, a scope or
    /// another executor.
    pub(crate) fn task(self) -> Option<TaskId> {
        TaskId::of_raw_waker(self.data, self.vtable)
    }
}

/// Clones of a waker may have different copies of its table. So the tables only distinguish the
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
    /// The identity of the object, its address or number. Together with the type of object it is
    /// unique while the object exists. Both directions of a channel have the same.
    pub(crate) object: usize,
    /// Where the object was created, if that is known.
    pub(crate) created_at: Option<Place>,
    /// Where the future that waits is awaited, if that is known.
    pub(crate) awaited_at: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// Waits for a [`Mutex`](crate::sync::Mutex).
    MutexLock {
        /// The waker of the future that has locked the mutex, or was granted the lock. `None` after
        /// `try_lock`. The waker may be gone, and another one may have its address.
        owner: Option<WakerId>,
        /// The owner was granted the lock and woken, and has not been polled since. In a loop
        /// without ready tasks, the owner's task polls something else.
        is_unpolled: bool,
    },
    /// Waits for permits of a [`Semaphore`](crate::sync::Semaphore).
    Semaphore {
        wants: usize,
        available: usize,
        /// Permits that were granted to futures that have not been polled since.
        unpolled: usize,
    },
    /// Waits for an [`Event`](crate::sync::Event).
    Event,
    /// A sender of a bounded [`mpsc`](crate::sync::mpsc) channel waits for capacity.
    ChannelSend {
        capacity: usize,
        /// The waker of the task that waited last for a value.
        receiver: Option<WakerId>,
    },
    /// The receiver of an [`mpsc`](crate::sync::mpsc) channel waits for a value.
    ChannelReceive {
        senders: usize,
        /// The waker of the sender that waited last for capacity, and got it.
        sender: Option<WakerId>,
    },
    /// Waits for the value of a [`oneshot`](crate::sync::oneshot) channel.
    OneshotReceive,
    /// A sender waits until the receivers of its channel are gone, or have closed it.
    Closed,
    /// Waits for the next value of a [`watch`](crate::sync::watch) channel.
    Watch,
    /// Waits for the next value of a [`broadcast`](crate::sync::broadcast) channel.
    Broadcast,
    /// Waits for the next end of a child of a [`TaskGroup`](crate::task::TaskGroup). The list of
    /// groups has the children.
    Group,
    /// Waits for a child of a [`scope`](crate::task::scope()).
    Scope {
        /// The wakers of the children, by which the waits of the children are found.
        children: Vec<WakerId>,
    },
    /// Waits for a [`StopToken`](crate::task::StopToken). The reactor has the timer of a deadline.
    Stop,
    /// Waits for a closure of a [`Pool`](crate::Pool). The place is where it was started.
    Blocking {
        /// The name of the pool and of its threads.
        pool: &'static str,
        /// The closure runs. Otherwise it is queued.
        is_running: bool,
    },
    /// Waits for an operation on a file.
    File {
        operation: FileOperation,
        /// The system performs the operation. Otherwise it is queued.
        is_running: bool,
    },
    /// Waits for earlier operations of the same file handle.
    FileOrder {
        /// The number of operations of the handle that run.
        running: usize,
    },
    /// Waits for a task of another runtime. The place is where it was spawned.
    Remote,
    /// Waits for this signal. On Unix, the reactor has a wait for a [`FacadeSource`] instead.
    #[cfg(windows)]
    Signal(i32),
}

/// An operation on an open file, or one that opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileOperation {
    pub(crate) kind: FileOperationKind,
    /// On Unix, unless the operation opens the file.
    pub(crate) fd: Option<i32>,
}

/// Readers outside of the process know the numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileOperationKind {
    Read,
    Write,
    Sync,
    Open,
    Close,
    /// An operation on a directory, on metadata, or on a whole file.
    Other,
}

/// A [`TaskGroup`](crate::task::TaskGroup), whether or not a task waits for it.
#[derive(Clone, Debug)]
pub(crate) struct FacadeGroup {
    /// The `object` of waits for the group.
    pub(crate) object: usize,
    pub(crate) created_at: Place,
    /// The task that has created the group.
    pub(crate) created_by: Option<TaskId>,
    /// The children that run, in the order of starting.
    pub(crate) children: Vec<TaskId>,
    /// The number of children that wait until others end.
    pub(crate) queued: usize,
}

/// A file descriptor of this crate that the reactor watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FacadeSource {
    pub(crate) fd: i32,
    pub(crate) kind: SourceKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(windows, allow(dead_code, reason = "Windows has no such sources"))]
pub(crate) enum SourceKind {
    /// Readable at the end of the child process.
    Child { pid: u32 },
    /// Readable after one of these signals.
    Signals(Vec<i32>),
}
