//! Orphans, which are children that still ran when their handles were dropped. They have to be
//! reaped when they end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use windlass_reactor::fork::PerProcess;

use super::child_end::{ChildEnd, ChildHandle};

/// The orphans of this process, by PID. An orphan is reaped only under this lock, so a PID in the
/// map is valid. A forked process starts with an empty map.
static ORPHANS: PerProcess<Mutex<BTreeMap<u32, ChildHandle>>> = PerProcess::new();

thread_local! {
    /// The ends that this thread's reactor watches, by PID.
    static ENDS: RefCell<BTreeMap<u32, ChildEnd>> = const { RefCell::new(BTreeMap::new()) };
}

/// Reaps the child now if it has ended. Otherwise this thread's reactor reaps it in the turn in
/// which it ends, or the next `sweep` does if the reactor doesn't turn.
pub(crate) fn adopt(mut child: ChildHandle, end: Option<ChildEnd>) {
    if !is_running(&mut child) {
        return;
    }
    let pid = child.id();
    let end = end.map_or_else(|| child.end(), Ok);
    orphans().insert(pid, child);
    if let Ok(end) = end {
        watch(pid, end, &Waker::from(Arc::new(Ended { pid })));
    }
}

/// Deregisters the orphans that this thread's reactor watches. `sweep` reaps them.
pub(crate) fn release() {
    let ends = ENDS.try_with(RefCell::take);
    drop(ends); // outside of the borrow
}

/// Reaps all orphans that have ended, also after the reactors that watched them have stopped.
pub(crate) fn sweep() {
    orphans().retain(|_, child| is_running(child));
}

/// Reaps the child if it has ended. An error means that other code has reaped it.
fn is_running(child: &mut ChildHandle) -> bool {
    matches!(child.try_wait(), Ok(None))
}

fn orphans() -> MutexGuard<'static, BTreeMap<u32, ChildHandle>> {
    let orphans = ORPHANS.get(Mutex::default);
    orphans.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps the orphan if it has ended. Otherwise registers `waker` for its end.
fn watch(pid: u32, end: ChildEnd, waker: &Waker) {
    let ended = end.poll_with(&mut Context::from_waker(waker), || {
        let mut orphans = orphans();
        if orphans.get_mut(&pid).is_some_and(is_running) {
            return Ok(None);
        }
        Ok(Some(orphans.remove(&pid)))
    });
    if ended.is_pending() {
        let stale = ENDS.try_with(|ends| ends.borrow_mut().insert(pid, end));
        drop(stale); // a sweep has reaped an orphan with the same PID before its event came
    }
}

/// The waker of an orphan's end. The reactor calls it on the thread that watches.
struct Ended {
    pid: u32,
}

impl Wake for Ended {
    fn wake(self: Arc<Self>) {
        let end = ENDS.try_with(|ends| ends.borrow_mut().remove(&self.pid));
        if let Ok(Some(end)) = end {
            watch(self.pid, end, &Waker::from(self));
        }
    }
}
