//! A first in, first out queue of waiters, shared by all types of this crate that have waiters.
//!
//! ```text
//!   push ──► Waiting ──serve───────► Served ────┐
//!               │ └─────dismiss_all─► Dismissed ─┤ returned by `poll`, or removed early
//!               └──────removed early────────────┴──► vacant
//! ```
//!
//! Waiters are entries of a slab, linked in both directions. To push, serve and remove one takes
//! constant time, and allocates only if the queue is longer than it was lately. A key belongs to
//! one future, which returns it when it completes or is dropped, so keys are never stale. A leaked
//! future keeps its entry.
//!
//! The first waiter allocates the list and puts it into the list of the thread's objects, which
//! needs an address that stays the same while the queue moves.
//!
//! Cloning, waking and dropping a waker is user code, which runs only outside of borrows.

use std::cell::{Cell, OnceCell, RefCell};
use std::mem::{self, offset_of};
use std::pin::Pin;
use std::task::{Poll, Waker};

use windlass_executor::discard_panic;

use super::slab::{Index, Slab};
use crate::waits::{FacadeWait, ListWaits, Listed, ObjectKind, Place, WaitKind, WakerId};

pub(crate) struct WaitQueue {
    /// Created for the first waiter.
    list: OnceCell<Pin<Box<Listed<WaitList>>>>,
    owner: QueueOwner,
    created_at: Place,
}

/// The object that the queue belongs to. Readers outside of the process know the numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueOwner {
    Mutex,
    Semaphore,
    Event,
    /// Lists the waiters itself.
    Channel,
    Watch,
    Stop,
    Broadcast,
    /// The senders of a channel that wait for the end of its receivers.
    ChannelEnd,
}

/// The position of a waiter, to be given back by [`WaitQueue::poll`] or [`WaitQueue::remove`].
#[derive(Debug)]
pub(crate) struct WaitKey(Index);

#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitState {
    #[default]
    Waiting,
    /// Was granted its request, and passes an unused grant on.
    Served,
    /// Dismissed together with all other waiters, without a grant.
    Dismissed,
}

impl WaitQueue {
    pub(crate) const fn new(owner: QueueOwner, created_at: Place) -> Self {
        WaitQueue {
            list: OnceCell::new(),
            owner,
            created_at,
        }
    }

    /// True if no waiter is `Waiting`.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let list = self.list.get();
        list.is_none_or(|list| list.waiters.borrow().first.is_none())
    }

    #[inline]
    fn list(&self) -> &WaitList {
        match self.list.get() {
            Some(list) => list,
            None => self.create(),
        }
    }

    #[cold]
    fn create(&self) -> &WaitList {
        let list = self.list.get_or_init(|| {
            Box::pin(Listed::new(WaitList {
                waiters: RefCell::new(Waiters::new()),
                owner: self.owner,
                created_at: self.created_at,
                supply: Cell::new(0),
                holder: Cell::new(None),
            }))
        });
        list.as_ref().join();
        list
    }

    /// The list, for a key of it.
    #[inline]
    fn waiters(&self) -> &RefCell<Waiters> {
        let list = self.list.get();
        &list.expect("a queue with waiters has a list").waiters
    }

    /// Adds a waiter at the end. The supply is too small for the first one.
    pub(crate) fn push(
        &self,
        wants: usize,
        supply: usize,
        waker: Option<Waker>,
        awaited_at: Place,
    ) -> WaitKey {
        let list = self.list();
        list.supply.set(supply);
        list.waiters.borrow_mut().push(wants, waker, awaited_at)
    }

    /// Returns `Served` or `Dismissed` and takes the key back, or else stores the waker.
    pub(crate) fn poll(&self, key: &mut Option<WaitKey>, waker: &Waker) -> Poll<WaitState> {
        let index = key.as_ref().expect("polled after completion").0;
        let waiters = self.waiters();
        let mut state = waiters.borrow().slab[index].state;
        if state == WaitState::Waiting {
            state = register(waiters, index, waker);
        }
        if state == WaitState::Waiting {
            return Poll::Pending;
        }
        *key = None;
        waiters.borrow_mut().release(index); // its waker was taken
        Poll::Ready(state)
    }

    /// Removes a waiter before its future completes. A caller that gets `Served` passes that on.
    /// After `Waiting`, those behind may be served now.
    pub(crate) fn remove(&self, key: WaitKey) -> WaitState {
        let (state, waker) = self.waiters().borrow_mut().remove(key.0);
        discard_panic(|| drop(waker)); // the caller may still have to pass on a grant
        state
    }

    /// Serves waiters from the front while the supply covers the request of the first one. Returns
    /// the rest of the supply, and the wakers to call.
    #[inline]
    pub(crate) fn serve(&self, supply: usize) -> (usize, WakeList) {
        match self.list.get() {
            Some(list) => list.serve(supply),
            None => (supply, WakeList::default()),
        }
    }

    /// Dismisses all current waiters.
    #[inline]
    pub(crate) fn dismiss_all(&self) -> WakeList {
        self.list
            .get()
            .map_or_else(WakeList::default, |list| list.dismiss_all())
    }

    /// The cell for the holder of the lock that the waiters wait for, to be listed. `None` before
    /// the first waiter.
    #[inline]
    pub(super) fn holder(&self) -> Option<&Cell<Option<WakerId>>> {
        self.list.get().map(|list| &list.holder)
    }

    /// The wakers of the waiters and the places where they wait, to be listed.
    pub(super) fn for_each_waiter(&self, mut f: impl FnMut(WakerId, Option<Place>)) {
        if let Some(list) = self.list.get() {
            let waiters = list.waiters.borrow();
            waiters
                .waiting()
                .for_each(|(waker, waiter)| f(waker, waiter.awaited_at));
        }
    }

    /// Where the list is in a queue that has had a waiter, for readers outside of the process.
    pub(super) const LIST_OFFSET: usize = {
        assert!(size_of::<OnceCell<Pin<Box<Listed<WaitList>>>>>() == size_of::<usize>());
        offset_of!(WaitQueue, list)
    };
}

fn register(waiters: &RefCell<Waiters>, index: Index, waker: &Waker) -> WaitState {
    if waiters.borrow().slab[index].has(waker) {
        return WaitState::Waiting;
    }
    let mut other = Some(waker.clone());
    {
        let waiter = &mut waiters.borrow_mut().slab[index];
        if waiter.state == WaitState::Waiting {
            mem::swap(&mut waiter.waker, &mut other);
        }
    }
    drop(other);
    // The clone or the drop may have served this waiter.
    waiters.borrow().slab[index].state
}

/// Wakers to call once the caller's state is consistent.
#[must_use]
#[derive(Default)]
pub(crate) struct WakeList {
    /// Nearly always the only one, which then avoids an allocation.
    first: Option<Waker>,
    others: Option<Box<Others>>,
}

struct Others(Vec<Waker>);

impl WakeList {
    #[inline]
    fn add(&mut self, waker: Option<Waker>) {
        match waker {
            Some(waker) if self.first.is_some() => self.add_other(waker),
            Some(waker) => self.first = Some(waker),
            None => {}
        }
    }

    #[cold]
    fn add_other(&mut self, waker: Waker) {
        let others = self
            .others
            .get_or_insert_with(|| Box::new(Others(Vec::new())));
        others.0.push(waker);
    }

    /// Calls all wakers, and discards their panics.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(waker) = self.first {
            discard_panic(|| waker.wake());
        }
        if let Some(others) = self.others {
            others.wake();
        }
    }
}

impl Others {
    #[cold]
    #[expect(
        clippy::boxed_local,
        reason = "the caller passes a pointer instead of three words"
    )]
    fn wake(self: Box<Self>) {
        for waker in self.0 {
            discard_panic(|| waker.wake());
        }
    }
}

/// The waiters of a queue, at an address that stays the same.
pub(super) struct WaitList {
    /// No user code runs under the borrow.
    waiters: RefCell<Waiters>,
    owner: QueueOwner,
    created_at: Place,
    /// What the last call of `serve` has left, while tasks wait.
    supply: Cell<usize>,
    /// The waiter that was served last, or the holder that a [`Mutex`](crate::sync::Mutex) has set.
    holder: Cell<Option<WakerId>>,
}

impl WaitList {
    fn serve(&self, mut supply: usize) -> (usize, WakeList) {
        let (mut waiters, mut woken) = (self.waiters.borrow_mut(), WakeList::default());
        while let Some(waker) = waiters.serve_first(&mut supply) {
            woken.add(waker);
        }
        drop(waiters);
        // A lock serves one waiter.
        if let Some(waker) = &woken.first {
            self.holder.set(Some(WakerId::of(waker)));
        }
        self.supply.set(supply);
        (supply, woken)
    }

    fn dismiss_all(&self) -> WakeList {
        let (mut waiters, mut woken) = (self.waiters.borrow_mut(), WakeList::default());
        while waiters.first.is_some() {
            woken.add(waiters.finish_first(WaitState::Dismissed));
        }
        woken
    }
}

impl WaitList {
    pub(super) const OFFSETS: [usize; 4] = [
        offset_of!(WaitList, owner),
        offset_of!(WaitList, created_at),
        offset_of!(WaitList, supply),
        offset_of!(WaitList, holder),
    ];

    /// Where the list is in the object that a queue points to.
    pub(super) const OBJECT_OFFSET: usize = Listed::<WaitList>::OBJECT_OFFSET;

    /// Where the waiters are in a list.
    pub(super) fn waiters_offset() -> usize {
        let waiters = RefCell::new(Waiters::new());
        let inside = waiters.as_ptr().addr() - std::ptr::from_ref(&waiters).addr();
        offset_of!(WaitList, waiters) + inside
    }
}

impl ListWaits for WaitList {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Queue
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        if self.owner == QueueOwner::Channel {
            return; // the channel lists them
        }
        let waiters = self.waiters.borrow();
        waits.extend(waiters.waiting().map(|(waker, waiter)| FacadeWait {
            waker,
            kind: match self.owner {
                QueueOwner::Mutex => WaitKind::MutexLock {
                    owner: self.holder.get(),
                    is_unpolled: waiters.unpolled() > 0,
                },
                QueueOwner::Semaphore | QueueOwner::Channel => WaitKind::Semaphore {
                    wants: waiter.wants,
                    available: self.supply.get(),
                    unpolled: waiters.unpolled(),
                },
                QueueOwner::Event => WaitKind::Event,
                QueueOwner::Watch => WaitKind::Watch,
                QueueOwner::Broadcast => WaitKind::Broadcast,
                QueueOwner::ChannelEnd => WaitKind::Closed,
                QueueOwner::Stop => WaitKind::Stop,
            },
            object: std::ptr::from_ref(self).addr(),
            created_at: Some(self.created_at),
            awaited_at: waiter.awaited_at,
        }));
    }
}

pub(super) struct Waiters {
    slab: Slab<Waiter>,
    /// The ends of the list of those that are `Waiting`.
    first: Option<Index>,
    last: Option<Index>,
}

#[derive(Default)]
pub(super) struct Waiter {
    state: WaitState,
    wants: usize,
    waker: Option<Waker>,
    /// Where the future is awaited.
    awaited_at: Option<Place>,
    before: Option<Index>,
    after: Option<Index>,
}

impl Waiter {
    pub(super) const OFFSETS: [usize; 4] = [
        Slab::<Waiter>::VALUE_OFFSET + offset_of!(Waiter, state),
        Slab::<Waiter>::VALUE_OFFSET + offset_of!(Waiter, waker),
        Slab::<Waiter>::VALUE_OFFSET + offset_of!(Waiter, wants),
        Slab::<Waiter>::VALUE_OFFSET + offset_of!(Waiter, awaited_at),
    ];

    fn has(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|own| own.will_wake(waker))
    }
}

impl Waiters {
    pub(super) const ENTRIES_OFFSET: usize =
        offset_of!(Waiters, slab) + Slab::<Waiter>::ENTRIES_OFFSET;
    pub(super) const ENTRY_SIZE: usize = Slab::<Waiter>::ENTRY_SIZE;

    const fn new() -> Self {
        Waiters {
            slab: Slab::new(),
            first: None,
            last: None,
        }
    }

    /// Those that are `Waiting`, in their order, with their wakers.
    fn waiting(&self) -> impl Iterator<Item = (WakerId, &Waiter)> {
        let mut next = self.first;
        let each = std::iter::from_fn(move || {
            let waiter = &self.slab[next?];
            next = waiter.after;
            Some(waiter)
        });
        each.filter_map(|waiter| Some((WakerId::of(waiter.waker.as_ref()?), waiter)))
    }

    /// What was granted to waiters that have not been polled since.
    fn unpolled(&self) -> usize {
        let served = self.slab.iter().filter(|it| it.state == WaitState::Served);
        served.map(|it| it.wants).sum()
    }

    fn release(&mut self, index: Index) {
        self.slab.release(index);
    }

    fn push(&mut self, wants: usize, waker: Option<Waker>, awaited_at: Place) -> WaitKey {
        let (index, waiter) = self.slab.acquire(|_| Waiter::default());
        *waiter = Waiter {
            state: WaitState::Waiting,
            wants,
            waker,
            awaited_at: Some(awaited_at),
            before: self.last,
            after: None,
        };
        *self.link_after(self.last) = Some(index);
        self.last = Some(index);
        WaitKey(index)
    }

    /// Takes the first waiter out of the list if the supply covers its request, and returns its
    /// waker.
    #[inline]
    fn serve_first(&mut self, supply: &mut usize) -> Option<Option<Waker>> {
        let waiter = &mut self.slab[self.first?];
        *supply = supply.checked_sub(waiter.wants)?;
        Some(self.finish_first(WaitState::Served))
    }

    /// Takes the first waiter out of the list, and leaves the reason for its future.
    #[inline]
    fn finish_first(&mut self, state: WaitState) -> Option<Waker> {
        let waiter = &mut self.slab[self.first?];
        waiter.state = state;
        let (waker, after) = (waiter.waker.take(), waiter.after);
        self.first = after;
        *self.link_before(after) = None;
        waker
    }

    #[inline]
    fn remove(&mut self, index: Index) -> (WaitState, Option<Waker>) {
        let waiter = &mut self.slab[index];
        let (state, waker) = (waiter.state, waiter.waker.take());
        if state == WaitState::Waiting {
            self.unlink(index);
        }
        self.slab.release(index);
        (state, waker)
    }

    fn unlink(&mut self, index: Index) {
        let Waiter { before, after, .. } = self.slab[index];
        *self.link_after(before) = after;
        *self.link_before(after) = before;
    }

    /// The link that leads on from a waiter, or to the first one.
    fn link_after(&mut self, index: Option<Index>) -> &mut Option<Index> {
        match index {
            Some(index) => &mut self.slab[index].after,
            None => &mut self.first,
        }
    }

    fn link_before(&mut self, index: Option<Index>) -> &mut Option<Index> {
        match index {
            Some(index) => &mut self.slab[index].before,
            None => &mut self.last,
        }
    }
}
