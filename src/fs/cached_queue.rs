//! The queue of attempts that wait for a later turn, because a turn copies only so many bytes of
//! cached data.
//!
//! Each turn admits the first attempts of the queue, and wakes only those. So no attempt overtakes
//! an earlier one turn after turn, and a long queue costs no polls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use windlass_reactor::fork::Origin;

/// The queue of a thread.
#[derive(Default)]
pub(crate) struct CachedQueue {
    waiting: RefCell<VecDeque<Arc<Waiter>>>,
}

/// An attempt that may be in the queue. It leaves when this is dropped.
#[derive(Default)]
pub(crate) struct Attempt {
    waiter: Option<Arc<Waiter>>,
}

/// `Sync`, because the future of a lookup may continue on another thread.
struct Waiter {
    bytes: usize,
    origin: Origin,
    inner: Mutex<Inner>,
}

struct Inner {
    waker: Option<Waker>,
    is_admitted: bool,
}

impl CachedQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    pub(crate) fn push(&self, attempt: &mut Attempt, bytes: usize, waker: Waker) {
        let waiter = Arc::new(Waiter {
            bytes,
            origin: Origin::here(),
            inner: Mutex::new(Inner {
                waker: Some(waker),
                is_admitted: false,
            }),
        });
        self.waiting.borrow_mut().push_back(waiter.clone());
        attempt.waiter = Some(waiter);
    }

    /// Admits the first attempts, as long as `try_take` takes their bytes from the limit.
    pub(crate) fn admit(&self, wakers: &mut Vec<Waker>, try_take: impl Fn(usize) -> bool) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.front() {
            let is_dropped = Arc::strong_count(first) == 1;
            if !is_dropped && !try_take(first.bytes) {
                break;
            }
            let mut inner = first.lock();
            inner.is_admitted = true;
            // Also the waker of a dropped attempt, because to drop it here may run any code.
            wakers.extend(inner.waker.take());
            drop(inner);
            waiting.pop_front();
        }
    }
}

impl Attempt {
    /// Returns whether the attempt was admitted since it has entered the queue. Returns `None` if
    /// it isn't in a queue.
    pub(crate) fn poll_admitted(&mut self, waker: &Waker) -> Option<Poll<()>> {
        let waiter = self.waiter.as_ref()?;
        let mut waker = Some(waker.clone());
        let mut inner = waiter.lock();
        let is_admitted = inner.is_admitted;
        if !is_admitted {
            mem::swap(&mut inner.waker, &mut waker);
        }
        drop(inner);
        drop(waker);
        // The thread of the queue may have ended, or the parent process owns the queue.
        let is_lost = Arc::strong_count(waiter) == 1 || !waiter.origin.is_here();
        if is_admitted || is_lost {
            self.waiter = None;
        }
        match is_admitted {
            true => Some(Poll::Ready(())),
            false => (!is_lost).then_some(Poll::Pending),
        }
    }
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
