//! The state of a channel.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;

use futures_core::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::sync::error::{SendError, TryRecvError};
use crate::sync::event::Event;
use crate::sync::semaphore::Semaphore;
use crate::sync::shrink::{may_shrink, shrink_queue};
use crate::sync::wait_queue::QueueOwner;
use crate::sync::waker_cell::WakerCell;
use crate::waits::{FacadeWait, ListWaits, Listed, ObjectKind, Place, WaitKind, WakerId};

pin_project! {
    pub(crate) struct Inner<T> {
        pub(super) queue: RefCell<VecDeque<T>>,
        #[pin]
        pub(super) ends: Listed<Ends>,
    }
}

/// The state of a channel apart from its values, which may borrow.
pub(in crate::sync) struct Ends {
    /// One permit per value that still fits, if the channel is bounded. Closed together with the
    /// channel.
    pub(super) room: Semaphore,
    /// `None` if the channel is unbounded.
    pub(super) capacity: Option<NonZeroUsize>,
    pub(super) senders: Cell<usize>,
    pub(super) receiver: WakerCell,
    created_at: Place,
    /// Where the receiver waits, or has waited last.
    pub(super) receiver_at: Cell<Option<Place>>,
    /// The waker that the receiver registered last.
    pub(super) last_receiver: Cell<Option<WakerId>>,
    /// The receiver has returned its end.
    pub(super) is_received: Cell<bool>,
    /// Senders that wait until the channel is closed.
    closed: Event,
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<T> UnwindSafe for Inner<T> {}
impl<T> RefUnwindSafe for Inner<T> {}

impl Ends {
    pub(in crate::sync) const OFFSETS: [usize; 7] = [
        offset_of!(Ends, receiver),
        offset_of!(Ends, created_at),
        offset_of!(Ends, capacity),
        offset_of!(Ends, senders),
        offset_of!(Ends, receiver_at),
        offset_of!(Ends, last_receiver),
        offset_of!(Ends, room) + Semaphore::LIST_OFFSET,
    ];
}

impl ListWaits for Ends {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Channel
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        let mut add = |waker, kind, awaited_at| {
            waits.push(FacadeWait {
                waker,
                kind,
                object: ptr::from_ref(self).addr(),
                created_at: Some(self.created_at),
                awaited_at,
            });
        };
        if let Some(capacity) = self.capacity {
            let capacity = capacity.get();
            let receiver = self.last_receiver.get();
            let kind = WaitKind::ChannelSend { capacity, receiver };
            let sender = |waker, awaited_at| add(waker, kind.clone(), awaited_at);
            self.room.waiters().for_each_waiter(sender);
        }
        if let Some(waker) = self.receiver.id() {
            let senders = self.senders.get();
            let sender = self.room.waiters().holder().and_then(Cell::get);
            let kind = WaitKind::ChannelReceive { senders, sender };
            add(waker, kind, self.receiver_at.get());
        }
    }
}

impl<T> Inner<T> {
    pub(super) fn new(capacity: Option<NonZeroUsize>, created_at: Place) -> Pin<Rc<Self>> {
        let permits = capacity.map_or(0, NonZeroUsize::get);
        let inner = Rc::pin(Inner {
            queue: RefCell::default(),
            ends: Listed::new(Ends {
                room: Semaphore::of(QueueOwner::Channel, permits, created_at),
                capacity,
                senders: Cell::new(1),
                receiver: WakerCell::new(),
                created_at,
                receiver_at: Cell::new(None),
                last_receiver: Cell::new(None),
                is_received: Cell::new(false),
                closed: Event::of(QueueOwner::ChannelEnd, created_at),
            }),
        });
        inner.as_ref().project_ref().ends.join();
        inner
    }

    #[inline]
    pub(super) fn push(&self, value: T) -> Result<(), SendError<T>> {
        if self.ends.room.is_closed() {
            return Err(SendError(value));
        }
        self.queue.borrow_mut().push_back(value);
        self.ends.receiver.wake();
        Ok(())
    }

    /// Pops a value if that is only a move. [`pop`](Self::pop) handles all other cases.
    #[inline(always)]
    pub(super) fn pop_fast(&self) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        if may_shrink(&queue) {
            return None;
        }
        let value = queue.pop_front()?;
        drop(queue);
        if self.ends.capacity.is_some() {
            self.ends.room.add_permits(1);
        }
        Some(value)
    }

    #[inline]
    pub(super) fn pop(&self) -> Result<T, TryRecvError> {
        let value = {
            let mut queue = self.queue.borrow_mut();
            shrink_queue(&mut queue);
            queue.pop_front()
        };
        match value {
            Some(value) => {
                if self.ends.capacity.is_some() {
                    self.ends.room.add_permits(1);
                }
                Ok(value)
            }
            None if self.is_ended() => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Moves up to this many values to the buffer. Returns their number.
    pub(super) fn pop_many(&self, buffer: &mut Vec<T>, limit: usize) -> usize {
        let count = limit.min(self.queue.borrow().len());
        buffer.reserve(count); // may panic, which must not drop values
        {
            let mut queue = self.queue.borrow_mut();
            buffer.extend(queue.drain(..count));
            shrink_queue(&mut queue);
        }
        if self.ends.capacity.is_some() && count > 0 {
            self.ends.room.add_permits(count);
        }
        count
    }

    /// Closes the channel to all senders.
    pub(super) fn close(&self) {
        self.ends.room.close();
        self.ends.closed.notify_all();
    }

    /// Waits until the channel is closed.
    pub(super) fn closed(&self) -> impl FusedFuture<Output = ()> {
        let closed = &self.ends.closed;
        closed.until(|| self.ends.room.is_closed())
    }

    /// True if the channel is empty and a value may still arrive.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.queue.borrow().is_empty() && !self.is_ended()
    }

    /// True if the channel accepts no further value.
    pub(super) fn is_ended(&self) -> bool {
        self.ends.senders.get() == 0 || self.ends.room.is_closed()
    }
}

/// Counts one sender.
pub(super) struct Handle<T>(pub(super) Pin<Rc<Inner<T>>>);

impl<T> Handle<T> {
    /// Returns a handle unless all are gone.
    pub(super) fn upgrade(inner: &Pin<Rc<Inner<T>>>) -> Option<Handle<T>> {
        let senders = inner.ends.senders.get();
        (senders > 0).then(|| {
            inner.ends.senders.set(senders + 1);
            Handle(inner.clone())
        })
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        self.0.ends.senders.set(self.0.ends.senders.get() + 1);
        Handle(self.0.clone())
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let left = self.0.ends.senders.get() - 1;
        self.0.ends.senders.set(left);
        if left == 0 {
            self.0.ends.receiver.wake();
        }
    }
}
