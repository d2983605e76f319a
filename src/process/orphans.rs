//! Children whose handle was dropped while they ran. They still have to be reaped when they end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use windlass_reactor::fork::PerProcess;

use super::child_end::{ChildEnd, ChildHandle};

/// All that this process has, by number. The number stays a child's own until it's reaped, which
/// only happens under this lock. A forked child has none of its parent's.
static ORPHANS: PerProcess<Mutex<BTreeMap<u32, ChildHandle>>> = PerProcess::new();

thread_local! {
    /// By these the thread's reactor is told when they end.
    static ENDS: RefCell<BTreeMap<u32, ChildEnd>> = const { RefCell::new(BTreeMap::new()) };
}

/// Reaps the child now if it has ended, and otherwise when it ends: in that turn of this thread's
/// reactor, or in the next `sweep` if nothing turns that.
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

/// Deregisters the children that this thread's reactor watches. They are left to `sweep`.
pub(crate) fn release() {
    let ends = ENDS.try_with(RefCell::take);
    drop(ends); // under no borrow
}

/// Reaps all that have ended, also those of threads that don't turn their reactor any more.
pub(crate) fn sweep() {
    orphans().retain(|_, child| is_running(child));
}

/// An error says that somebody else has reaped it.
fn is_running(child: &mut ChildHandle) -> bool {
    matches!(child.try_wait(), Ok(None))
}

fn orphans() -> MutexGuard<'static, BTreeMap<u32, ChildHandle>> {
    let orphans = ORPHANS.get(Mutex::default);
    orphans.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps the child if it has ended. If not, `waker` is called when it does.
fn watch(pid: u32, end: ChildEnd, waker: &Waker) {
    let ended = end.poll_with(&mut Context::from_waker(waker), || {
        let mut orphans = orphans();
        if orphans.get_mut(&pid).is_some_and(is_running) {
            return Ok(None);
        }
        Ok(Some(orphans.remove(&pid)))
    });
    if ended.is_pending() {
        windlass_reactor::on_release(release);
        let stale = ENDS.try_with(|ends| ends.borrow_mut().insert(pid, end));
        drop(stale); // of one that a sweep has reaped before it was told of here
    }
}

/// The waker of an orphan. The reactor calls it on the thread that watches.
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
