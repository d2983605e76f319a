//! The waits for operations of a ring, beside the operations, to be listed.

#![cfg_attr(
    not(all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        ),
        not(windlass_portable)
    )),
    allow(dead_code, reason = "other systems have no ring")
)]

use std::cell::RefCell;
use std::mem::offset_of;
use std::pin::Pin;

use windlass_reactor::fork::Origin;

use crate::waits::{
    FacadeWait, FileOperation, FileOperationKind, ListWaits, Listed, ObjectKind, WaitKind, WakerId,
};

/// The waits by the slots of their operations. The crate `slab`, which has the operations, keeps
/// them where readers outside of the process can't find them.
pub(super) struct RingWaits {
    waits: RefCell<Vec<RingWait>>,
    /// A forked child lists none of the parent's waits.
    origin: Origin,
}

struct RingWait {
    /// `None` unless a future waits for the operation of the slot.
    waker: Option<WakerId>,
    operation: FileOperationKind,
    /// The descriptor of the file, or -1.
    fd: i32,
    is_running: bool,
}

impl RingWaits {
    /// The size of a wait. There: the waker, the operation, the descriptor, and whether it runs.
    pub(super) const LAYOUT: [usize; 5] = [
        size_of::<RingWait>(),
        offset_of!(RingWait, waker),
        offset_of!(RingWait, operation),
        offset_of!(RingWait, fd),
        offset_of!(RingWait, is_running),
    ];

    /// Creates a table that is in the list of this thread's objects.
    pub(super) fn new() -> Pin<Box<Listed<RingWaits>>> {
        let waits = Box::pin(Listed::new(RingWaits {
            waits: RefCell::default(),
            origin: Origin::here(),
        }));
        waits.as_ref().join();
        waits
    }

    pub(super) fn begin(&self, slot: u32, waker: WakerId, operation: FileOperation, runs: bool) {
        let mut waits = self.waits.borrow_mut();
        let slot = slot as usize;
        while waits.len() <= slot {
            waits.push(RingWait {
                waker: None,
                operation: FileOperationKind::Other,
                fd: -1,
                is_running: false,
            });
        }
        waits[slot] = RingWait {
            waker: Some(waker),
            operation: operation.kind,
            fd: operation.fd.unwrap_or(-1),
            is_running: runs,
        };
    }

    pub(super) fn set_running(&self, slot: u32, runs: bool) {
        if let Some(wait) = self.waits.borrow_mut().get_mut(slot as usize) {
            wait.is_running = runs;
        }
    }

    pub(super) fn end(&self, slot: u32) {
        if let Some(wait) = self.waits.borrow_mut().get_mut(slot as usize) {
            wait.waker = None;
        }
    }

    /// Keeps so many slots after a burst.
    pub(super) fn shrink(&self, slots: usize) {
        let mut waits = self.waits.borrow_mut();
        if waits.len() > slots {
            waits.truncate(slots);
            waits.shrink_to_fit();
        }
    }
}

impl ListWaits for RingWaits {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Ring
    }

    fn address(&self) -> usize {
        self.waits.as_ptr().expose_provenance()
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        if !self.origin.is_here() {
            return;
        }
        let ring = self.waits.borrow();
        let each = ring.iter().enumerate();
        waits.extend(each.filter_map(|(slot, wait)| {
            Some(FacadeWait {
                waker: wait.waker?,
                kind: WaitKind::File {
                    operation: FileOperation {
                        kind: wait.operation,
                        fd: Some(wait.fd).filter(|&fd| fd >= 0),
                    },
                    is_running: wait.is_running,
                },
                object: slot,
                created_at: None,
                awaited_at: None,
            })
        }));
    }
}
