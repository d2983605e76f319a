//! The loops of the process, as other threads see them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use windlass_executor::{Executor, Pulse};
use windlass_reactor::fork::PerProcess;
use windlass_reactor::{Reactor, ReactorPulse};

use super::root::{self, Record};

/// A runtime and its thread.
pub(crate) struct Loop {
    /// The name of the thread.
    pub(crate) thread_name: Option<String>,
    /// The number that the system knows the thread by.
    #[cfg(target_os = "linux")]
    pub(crate) tid: i32,
    pub(crate) executor: Pulse,
    pub(crate) reactor: ReactorPulse,
    record: Record,
}

static LOOPS: PerProcess<Mutex<Vec<Arc<Loop>>>> = PerProcess::new();

/// Returns the loops in the order of their creation. While the list is locked, none of them ends,
/// so their threads and the descriptors of their reactors exist.
pub(crate) fn lock() -> MutexGuard<'static, Vec<Arc<Loop>>> {
    // No user code runs under the lock.
    let loops = LOOPS.get(Mutex::default).lock();
    loops.unwrap_or_else(PoisonError::into_inner)
}

/// Updates the link that leads to the loop before `position`, for readers outside of the process.
fn update_link(loops: &[Arc<Loop>], position: usize) {
    let target = position.checked_sub(1).map(|before| &loops[before].record);
    match loops.get(position) {
        Some(next) => next.record.set_next(target),
        None => root::set_first(target),
    }
}

/// Keeps a loop in the list until it is dropped.
pub(crate) struct Registration(Arc<Loop>);

impl Registration {
    pub(crate) fn new(executor: &Executor, reactor: &Reactor) -> Registration {
        let thread_name = thread::current().name().map(str::to_owned);
        let new = Arc::new(Loop {
            record: Record::new(thread_name.as_deref(), executor, reactor),
            thread_name,
            #[cfg(target_os = "linux")]
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            executor: executor.pulse(),
            reactor: reactor.pulse(),
        });
        let mut loops = lock();
        loops.push(new.clone());
        update_link(&loops, loops.len() - 1);
        update_link(&loops, loops.len());
        drop(loops);
        Registration(new)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut loops = lock();
        // Missing in a forked child.
        if let Some(position) = loops.iter().rposition(|it| Arc::ptr_eq(it, &self.0)) {
            loops.remove(position);
            update_link(&loops, position);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
