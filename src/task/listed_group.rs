//! What listings need of a group.

use std::cell::Cell;
use std::mem::{MaybeUninit, offset_of};
use std::ptr;

use windlass_executor::{Task, TaskId};

use crate::sync::waker_cell::WakerCell;
use crate::waits::{Numbered, Place};

/// The parts of a group that listings need, whatever its children return.
pub(super) struct ListedGroup {
    pub(super) created_at: Place,
    /// The task that has created the group.
    pub(super) created_by: Option<TaskId>,
    /// The address of the waker of the owner, for readers outside of the process.
    owner: Cell<usize>,
    /// The address of the `Vec` of running children, for the same readers.
    running: Cell<usize>,
}

impl ListedGroup {
    pub(super) fn new(created_at: Place) -> ListedGroup {
        ListedGroup {
            created_at,
            created_by: TaskId::current(),
            owner: Cell::new(0),
            running: Cell::new(0),
        }
    }

    /// Stores the addresses, which stay the same from now on.
    pub(super) fn set(&self, owner: &WakerCell, running: &Running) {
        self.owner.set(ptr::from_ref(owner).expose_provenance());
        self.running.set(running.entries_address());
    }

    pub(super) const OFFSETS: [usize; 3] = [
        offset_of!(ListedGroup, created_at),
        offset_of!(ListedGroup, owner),
        offset_of!(ListedGroup, running),
    ];
}

/// The running children by id, in the order of starting. The entry is `None` until `spawn_at` has
/// returned the task. `spawn_at` may call the driver's waker, which is user code, and the child may
/// run and end, or be cancelled, in that call.
///
/// Readers outside of the process need the id of the task, which is its key in memory.
pub(super) type Running = Numbered<MaybeUninit<TaskId>, Option<Task<()>>>;

/// The size of an entry of the running children, whether it is present, and the task.
pub(super) const RUNNING_LAYOUT: [usize; 3] = [
    Running::ENTRY_SIZE,
    Running::PRESENT_OFFSET,
    Running::FACTS_OFFSET,
];
