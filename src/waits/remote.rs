//! Waits for tasks of other runtimes, which any thread may poll and drop.

use std::collections::BTreeMap;
use std::ptr::without_provenance;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{RawWakerVTable, Waker};

use windlass_reactor::fork::PerProcess;

use super::{FacadeWait, Place, WaitKind, WakerId};

/// The wait of one future, at most one at a time.
#[derive(Debug)]
pub(crate) struct RemoteWait {
    spawned_at: Place,
    /// The number in the list, while the future waits.
    number: Option<u64>,
}

struct Waiting {
    /// The data pointer of the waker, which is only compared.
    data: usize,
    vtable: &'static RawWakerVTable,
    spawned_at: Place,
}

type Waits = Mutex<BTreeMap<u64, Waiting>>;

static WAITS: PerProcess<Waits> = PerProcess::new();

/// A forked child continues its parent's numbers, so that the two never share one.
static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

fn lock() -> MutexGuard<'static, BTreeMap<u64, Waiting>> {
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
        let next = || LAST_NUMBER.fetch_add(1, Relaxed) + 1;
        let number = *self.number.get_or_insert_with(next);
        let waiting = Waiting {
            data: waker.data().addr(),
            vtable: waker.vtable(),
            spawned_at: self.spawned_at,
        };
        lock().insert(number, waiting);
    }

    pub(crate) fn end(&mut self) {
        if let Some(number) = self.number.take() {
            lock().remove(&number);
        }
    }
}

impl Drop for RemoteWait {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lists the waits of all threads.
pub(crate) fn list_remote(waits: &mut Vec<FacadeWait>) {
    waits.extend(lock().iter().map(|(&number, it)| FacadeWait {
        waker: WakerId {
            data: without_provenance(it.data),
            vtable: it.vtable,
        },
        kind: WaitKind::Remote,
        object: number as usize,
        created_at: Some(it.spawned_at),
    }));
}
