//! The part of a reactor that other threads use.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fork::Origin;
use crate::park::ParkState;
use crate::poller::RemotePoller;

/// Changes the poller of a reactor from any thread, and posts messages to the reactor's thread,
/// which handles them at the end of its next turn.
///
/// Only operations that wait, and drops on another thread, take the lock.
pub(crate) struct Remote<M> {
    origin: Origin,
    /// `None` once the reactor is dropped. So what outlives it keeps no descriptor of it.
    inbox: Mutex<Option<Inbox<M>>>,
    /// Whether the inbox has messages. Set before the loop is notified, so a turn finds it, or does
    /// not block.
    has_messages: AtomicBool,
}

struct Inbox<M> {
    park: Arc<ParkState>,
    poller: RemotePoller,
    messages: Vec<M>,
}

impl<M> Remote<M> {
    pub(crate) fn new(park: Arc<ParkState>, poller: RemotePoller) -> Remote<M> {
        let messages = Vec::new();
        let inbox = Mutex::new(Some(Inbox {
            park,
            poller,
            messages,
        }));
        Remote {
            origin: Origin::here(),
            inbox,
            has_messages: AtomicBool::new(false),
        }
    }

    /// Returns true in a forked child, where another thread of the parent may hold the lock.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.has_messages.load(Acquire)
    }

    /// Changes the poller and posts a message. Both happen in one step from the point of view of
    /// [`take`](Remote::take). Returns the message if the reactor is gone or the parent's.
    pub(crate) fn post(&self, message: M, change: impl FnOnce(&RemotePoller)) -> Result<(), M> {
        if self.is_inherited() {
            return Err(message);
        }
        let mut inbox = self.lock();
        let Some(open) = &mut *inbox else {
            return Err(message);
        };
        change(&open.poller);
        open.messages.push(message);
        self.has_messages.store(true, Release);
        let park = open.park.clone();
        drop(inbox);
        park.notify();
        Ok(())
    }

    /// Takes the messages. Called on the thread of the reactor.
    #[cold]
    pub(crate) fn take(&self) -> Vec<M> {
        let mut inbox = self.lock();
        self.has_messages.store(false, Relaxed);
        let open = inbox.as_mut();
        open.map(|open| std::mem::take(&mut open.messages))
            .unwrap_or_default()
    }

    /// Closes the inbox and the handles of the loop and the poller, on the thread of the reactor.
    /// Returns the messages that are left.
    pub(crate) fn close(&self) -> Vec<M> {
        let inbox = self.lock().take();
        inbox.map(|inbox| inbox.messages).unwrap_or_default()
    }

    /// No panic can occur while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Option<Inbox<M>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
