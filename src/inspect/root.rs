//! The entry point for readers outside of the process.
//!
//! A reader finds [`ROOT`] by its first bytes, in the memory that the program file's writable data
//! is mapped to. So it needs neither symbols nor debug info. From there it follows addresses, with
//! the offsets of the layouts. Most of that is data that exists anyway, or is written when a
//! runtime is created or dropped. File operations on a ring, groups, and the lists of waits that
//! all threads share also keep entries for readers.
//!
//! The layout of types of the standard library is unspecified. For each of these that a reader
//! meets, there is a sample with its parts, so that the reader finds out where the parts are.

#![cfg_attr(
    not(all(target_os = "linux", target_pointer_width = "64")),
    allow(dead_code, reason = "other systems have no reader")
)]

use std::panic::Location;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

use windlass_executor::{Executor, layout as executor};
use windlass_reactor::{Reactor, layout as reactor};

use crate::waits::{self, SHARED_LISTS, SharedLists};
use crate::{blocking, fs, sync, task};

/// The first bytes of a root.
pub(super) const MAGIC: [u8; 32] = *b"windlass: root of the inspection";

/// Changes with each change of the types of this file, of the `Layout`s that it refers to, of
/// `SharedLists`, and of the numbers of `ObjectKind`, `QueueOwner` and `FileOperationKind`. The
/// layouts of the executor and of the reactor have versions of their own.
pub(super) const VERSION: usize = 3;

#[repr(C)]
pub(super) struct Root {
    pub(super) magic: [u8; 32],
    /// The address of this root. A copy of the bytes is not taken for a root.
    pub(super) this: &'static Root,
    pub(super) version: usize,
    pub(super) executor: executor::Layout,
    pub(super) reactor: reactor::Layout,
    pub(super) facade: Layout,
    /// The lists that all threads share.
    pub(super) shared: &'static SharedLists,
    /// Null until the first runtime is created.
    pub(super) samples: AtomicPtr<Samples>,
    /// The runtime that was created last, or null.
    pub(super) first: AtomicPtr<Record>,
}

/// The description of the types of this crate.
#[repr(C)]
pub(super) struct Layout {
    pub(super) waits: waits::Layout,
    pub(super) sync: sync::layout::Layout,
    pub(super) task: task::layout::Layout,
    pub(super) blocking: blocking::layout::Layout,
    pub(super) fs: fs::layout::Layout,
}

/// Not constant, so the linker puts it into the writable data.
#[used]
pub(super) static ROOT: Root = Root {
    magic: MAGIC,
    this: &ROOT,
    version: VERSION,
    executor: executor::LAYOUT,
    reactor: reactor::LAYOUT,
    facade: Layout {
        waits: waits::LAYOUT,
        sync: sync::layout::LAYOUT,
        task: task::layout::LAYOUT,
        blocking: blocking::layout::LAYOUT,
        fs: fs::layout::LAYOUT,
    },
    shared: &SHARED_LISTS,
    samples: AtomicPtr::new(ptr::null_mut()),
    first: AtomicPtr::new(ptr::null_mut()),
};

/// A runtime in the list of runtimes.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Record {
    /// The runtime that was created before this one, or null.
    pub(super) next: AtomicPtr<Record>,
    /// The number of the thread, or 0.
    pub(super) tid: usize,
    /// The address of the thread's name. Unless the thread has one, the length is 0.
    pub(super) name: usize,
    pub(super) name_len: usize,
    pub(super) executor: executor::Addresses,
    pub(super) reactor: reactor::Addresses,
    /// The pointer to the first node of the thread's objects, or null.
    pub(super) objects: usize,
}

impl Record {
    /// Describes a runtime of this thread. The name must live as long as the record.
    pub(super) fn new(
        tid: i32,
        name: Option<&str>,
        executor: &Executor,
        reactor: &Reactor,
    ) -> Record {
        let name = name.unwrap_or_default();
        Record {
            next: AtomicPtr::new(ptr::null_mut()),
            tid: tid as usize,
            name: name.as_ptr().expose_provenance(),
            name_len: name.len(),
            executor: executor.addresses(),
            reactor: reactor.addresses(),
            objects: waits::first_address(),
        }
    }

    /// Changes which record is the next one in the list. The caller holds the lock of the list.
    pub(super) fn set_next(&self, next: Option<&Record>) {
        self.next.store(Record::pointer(next), Release);
    }

    /// A pointer for readers outside of the process. Nothing here dereferences it.
    fn pointer(record: Option<&Record>) -> *mut Record {
        record.map_or(ptr::null_mut(), |record| ptr::from_ref(record).cast_mut())
    }
}

/// Makes a record the first one in the list. The caller holds the lock of the list.
pub(super) fn set_first(record: Option<&Record>) {
    if ROOT.samples.load(Acquire).is_null() {
        ROOT.samples.store(Box::leak(Samples::new()), Release);
    }
    ROOT.first.store(Record::pointer(record), Release);
}

/// Values of types of the standard library, and their parts.
#[repr(C)]
pub(super) struct Samples {
    /// A place in this file. Its text starts with the folder of this crate's sources.
    pub(super) location: &'static Location<'static>,
    pub(super) location_size: usize,
    pub(super) file: usize,
    pub(super) file_len: usize,
    pub(super) line: usize,
    pub(super) column: usize,
    /// The address of a `Vec`.
    pub(super) vec: usize,
    pub(super) vec_size: usize,
    pub(super) vec_data: usize,
    pub(super) vec_len: usize,
    /// The addresses of an `Rc` and of its value.
    pub(super) rc: usize,
    pub(super) rc_value: usize,
    /// The addresses of an `Arc` and of its value, and the number of `Arc`s.
    pub(super) arc: usize,
    pub(super) arc_value: usize,
    pub(super) arc_strong: usize,
    /// The offset of the waiters in a queue.
    pub(super) queue_waiters: usize,
    /// The offset of the waker of a scope's task in the ready queue of the scope.
    pub(super) scope_parent: usize,
}

impl Samples {
    fn new() -> Box<Samples> {
        let location = Location::caller();
        let mut vec: Vec<u64> = Vec::with_capacity(5);
        vec.extend([1, 2, 3]);
        let vec = Box::leak(Box::new(vec));
        let rc = Box::leak(Box::new(Rc::new(0_u64)));
        let arc = Arc::new(0_u64);
        let arc = Box::leak(Box::new([arc.clone(), arc.clone(), arc]));
        Box::new(Samples {
            location,
            location_size: size_of::<Location<'static>>(),
            file: location.file().as_ptr().expose_provenance(),
            file_len: location.file().len(),
            line: location.line() as usize,
            column: location.column() as usize,
            vec: ptr::from_ref(vec).expose_provenance(),
            vec_size: size_of::<Vec<u64>>(),
            vec_data: vec.as_ptr().expose_provenance(),
            vec_len: vec.len(),
            rc: ptr::from_ref(rc).expose_provenance(),
            rc_value: Rc::as_ptr(rc).expose_provenance(),
            arc: ptr::from_ref(&arc[0]).expose_provenance(),
            arc_value: Arc::as_ptr(&arc[0]).expose_provenance(),
            arc_strong: Arc::strong_count(&arc[0]),
            queue_waiters: sync::layout::waiters_offset(),
            scope_parent: task::layout::scope_parent_offset(),
        })
    }
}
