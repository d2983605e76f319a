//! Waits for tasks of other runtimes, which any thread may poll and drop.

use std::mem::offset_of;
use std::ptr::without_provenance;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{RawWakerVTable, Waker};

use windlass_reactor::fork::PerProcess;

use super::{FacadeWait, Numbered, Place, SHARED_LISTS, WaitKind, WakerId};

/// The wait of one future, at most one at a time.
#[derive(Debug)]
pub(crate) struct RemoteWait {
    spawned_at: Place,
    /// The number in the list, while the future waits.
    number: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Waiting {
    /// The data pointer of the waker, which is only compared.
    data: usize,
    vtable: &'static RawWakerVTable,
    spawned_at: Place,
}

type Waits = Numbered<Waiting, ()>;

static WAITS: PerProcess<Mutex<Waits>> = PerProcess::new();

/// A forked child continues its parent's numbers, so that the two never share one.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

fn lock() -> MutexGuard<'static, Waits> {
    // No user code runs under the lock.
    let waits = WAITS.get(Mutex::default).lock();
    waits.unwrap_or_else(PoisonError::into_inner)
}

impl RemoteWait {
    pub(crate) fn new(spawned_at: Place) -> RemoteWait {
        RemoteWait {
            spawned_at,
            number: None,
        }
    }

    /// Lists the waker. A crossing between threads costs microseconds, beside which the lock is
    /// cheap.
    pub(crate) fn begin(&mut self, waker: &Waker) {
        let waiting = Waiting {
            data: waker.data().addr(),
            vtable: waker.vtable(),
            spawned_at: self.spawned_at,
        };
        let mut waits = lock();
        // A forked child has none of its parent's waits.
        let number = self.number.filter(|&number| waits.contains(number));
        if let Some((known, ())) = number.and_then(|number| waits.get_mut(number)) {
            *known = waiting;
            return;
        }
        // Under the lock, so that the numbers enter in their order.
        let number = LAST_NUMBER.fetch_add(1, Relaxed) + 1;
        self.number = Some(number);
        waits.push(number, waiting, ());
        SHARED_LISTS.remote.store(waits.entries_address(), Relaxed);
    }

    pub(crate) fn end(&mut self) {
        if let Some(number) = self.number.take() {
            lock().remove(number);
        }
    }
}

impl Drop for RemoteWait {
    fn drop(&mut self) {
        self.end();
    }
}

impl Waiting {
    /// The size of an entry of the list. There, whether it is present, the words of the waker, and
    /// the place.
    pub(crate) const LAYOUT: [usize; 5] = [
        Waits::ENTRY_SIZE,
        Waits::PRESENT_OFFSET,
        Waits::FACTS_OFFSET + offset_of!(Waiting, data),
        Waits::FACTS_OFFSET + offset_of!(Waiting, vtable),
        Waits::FACTS_OFFSET + offset_of!(Waiting, spawned_at),
    ];
}

/// Lists the waits of all threads.
pub(crate) fn list_remote(waits: &mut Vec<FacadeWait>) {
    waits.extend(lock().iter().map(|(number, it, ())| FacadeWait {
        waker: WakerId {
            data: without_provenance(it.data),
            vtable: it.vtable,
        },
        kind: WaitKind::Remote,
        object: number as usize,
        created_at: Some(it.spawned_at),
        awaited_at: None,
    }));
}
