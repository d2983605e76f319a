//! Where the state of an executor is in memory, for readers outside of the process.
//!
//! A reader of another process, or of a core file, cannot call functions there. It has addresses
//! and offsets instead, which the crate `windlass` publishes. So the state needs no representation
//! of its own, and costs nothing while nothing reads it.

use std::mem::{offset_of, size_of};
use std::ptr;
use std::task::RawWakerVTable;

use crate::cell::{FOREIGN_JOINER, Head, MAIN, QUEUED, RUNNING};
use crate::inner::ExecutorInner;
use crate::key::{GENERATION_BITS, Key, SLOT_BITS};
use crate::names::NameEntry;
use crate::waker;

/// Changes with each change of the other items.
pub const VERSION: usize = 1;

/// The description of the types. All offsets and sizes are in bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Layout {
    /// The constant `VERSION`.
    pub version: usize,
    /// The number of bits of a key that hold the slot. The generation is above, and the executor
    /// above that.
    pub slot_bits: usize,
    /// The number of bits of a key that hold the generation.
    pub generation_bits: usize,
    /// The second word of the wakers of tasks. The other word is the key.
    pub waker_vtable: &'static RawWakerVTable,
    /// In a task's cell: the key, a word.
    pub cell_key: usize,
    /// In a task's cell: the `&'static Location`.
    pub cell_spawned_at: usize,
    /// In a task's cell: the flags, 32 bits.
    pub cell_state: usize,
    /// In a task's cell: the slot of the joiner plus one, 32 bits, or zero.
    pub cell_joiner: usize,
    /// The flag of a task in the run queue.
    pub queued: usize,
    /// The flag of a task that is being polled.
    pub running: usize,
    /// The flag of a main future.
    pub main: usize,
    /// The flag of a task with a joiner that is not in its executor.
    pub foreign_joiner: usize,
    /// The size of an entry of the names.
    pub name_size: usize,
    /// In such an entry: the key of the task.
    pub name_key: usize,
    /// In such an entry: the address of the text.
    pub name_text: usize,
    /// In such an entry: the length of the text.
    pub name_len: usize,
}

/// The description for this build.
pub const LAYOUT: Layout = Layout {
    version: VERSION,
    slot_bits: SLOT_BITS,
    generation_bits: GENERATION_BITS,
    waker_vtable: &waker::VTABLE,
    cell_key: offset_of!(Head, key),
    cell_spawned_at: offset_of!(Head, spawned_at),
    cell_state: Head::STATE_OFFSET,
    cell_joiner: Head::JOINER_OFFSET,
    queued: QUEUED as usize,
    running: RUNNING as usize,
    main: MAIN as usize,
    foreign_joiner: FOREIGN_JOINER as usize,
    name_size: size_of::<NameEntry>(),
    name_key: offset_of!(NameEntry, key),
    name_text: offset_of!(NameEntry, text),
    name_len: offset_of!(NameEntry, len),
};

/// The addresses of the state of an executor, which are valid as long as it exists.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The number of the executor. Not an address.
    pub id: usize,
    /// The `Vec` of pointers to cells, by slot. Null is a free slot.
    pub slots: usize,
    /// The `Vec` of names.
    pub names: usize,
    /// A word: the number of the current poll.
    pub polls: usize,
    /// A word: the key of the current task, or a number that is no key.
    pub current_task: usize,
    /// A byte: 1 while the loop is on the stack.
    pub is_running: usize,
    /// A word: the key of the task whose future is being dropped, or a number that is no key.
    pub dropped_task: usize,
    /// A word: how many tasks were spawned.
    pub spawned: usize,
    /// A word: how many of them have ended.
    pub ended: usize,
}

impl Addresses {
    pub(crate) fn of(inner: &ExecutorInner) -> Addresses {
        let pulse = &inner.pulse;
        Addresses {
            id: inner.id.into(),
            slots: address(inner.table().slots()),
            names: inner.inbox.pulse.names_address(),
            polls: address(&pulse.polls),
            current_task: address(&pulse.current_task),
            is_running: address(&inner.is_running),
            dropped_task: address(&pulse.dropped_task),
            spawned: address(&pulse.spawned),
            ended: address(&pulse.ended),
        }
    }
}

/// Returns the address of a value that another process may read.
fn address<T>(value: &T) -> usize {
    ptr::from_ref(value).expose_provenance()
}

const _: () = assert!(size_of::<Key>() == size_of::<usize>());
