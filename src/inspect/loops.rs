//! The loops of the process, as other threads see them.

use std::fmt;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use windlass_executor::{Executor, Pulse};
use windlass_reactor::fork::PerProcess;
use windlass_reactor::{Reactor, ReactorPulse};

use super::stack::ThreadHandle;
use super::thread_state::ThreadState;

/// A runtime and its thread.
pub(crate) struct Loop {
    /// The name of the thread.
    pub(crate) thread_name: Option<Arc<str>>,
    pub(crate) thread_id: ThreadId,
    /// The number that the system knows the thread by.
    #[cfg(target_os = "linux")]
    pub(crate) tid: i32,
    /// The thread as its stack is captured. Set while stacks are captured.
    pub(crate) thread: OnceLock<ThreadHandle>,
    /// The descriptor of the reactor. Open while the loop is in the list.
    #[cfg(unix)]
    pub(crate) fd: RawFd,
    pub(crate) executor: Pulse,
    pub(crate) reactor: ReactorPulse,
}

impl Loop {
    /// Samples the state of the thread.
    pub(crate) fn thread_state(&self) -> ThreadState {
        #[cfg(target_os = "linux")]
        let tid = self.tid;
        #[cfg(not(target_os = "linux"))]
        let tid = 0;
        ThreadState::of_thread(tid)
    }
}

static LOOPS: PerProcess<Mutex<Vec<Arc<Loop>>>> = PerProcess::new();

/// Returns the loops in the order of their creation. While the list is locked, none of them ends,
/// so their threads and the descriptors of their reactors exist.
pub(crate) fn lock() -> MutexGuard<'static, Vec<Arc<Loop>>> {
    // No user code runs under the lock.
    let loops = LOOPS.get(Mutex::default).lock();
    loops.unwrap_or_else(PoisonError::into_inner)
}

static CAPTURES_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes the stacks of this thread, and of those that will have a loop, available to captures.
/// Finding the bounds of a stack takes up to 50 µs.
pub(crate) fn capture_stacks() {
    CAPTURES_STACKS.store(true, Relaxed);
    let id = thread::current().id();
    for known in lock().iter().filter(|it| it.thread_id == id) {
        known.thread.get_or_init(ThreadHandle::current);
    }
}

/// Keeps a loop in the list until it is dropped.
pub(crate) struct Registration(Arc<Loop>);

impl Registration {
    pub(crate) fn new(executor: &Executor, reactor: &Reactor) -> Registration {
        let thread = thread::current();
        let new = Arc::new(Loop {
            thread_name: thread.name().map(Arc::from),
            thread_id: thread.id(),
            #[cfg(target_os = "linux")]
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
            thread: OnceLock::new(),
            #[cfg(unix)]
            fd: reactor.as_raw_fd(),
            executor: executor.pulse(),
            reactor: reactor.pulse(),
        });
        if CAPTURES_STACKS.load(Relaxed) {
            new.thread.get_or_init(ThreadHandle::current);
        }
        lock().push(new.clone());
        Registration(new)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut loops = lock();
        // Missing in a forked child.
        if let Some(position) = loops.iter().rposition(|it| Arc::ptr_eq(it, &self.0)) {
            loops.remove(position);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
