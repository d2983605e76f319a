//! The order of the operations of one file handle, whether they run on the ring or on threads.
//!
//! Each operation enters the queue when its future is first polled, and starts once no earlier
//! operation conflicts with it. It leaves when the system has completed it, whether or not its
//! future is polled again. If its future is dropped while it waits in the queue, it leaves at once.
//! So a dropped future blocks no later operation for good, and reads and writes of different ranges
//! run at the same time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::{self, offset_of};
use std::ops::{Deref, Range};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::files::Files;
use super::handle::Handle;
use crate::waits::{FacadeWait, SHARED_LISTS, WaitKind, WakerId};
use windlass_reactor::completion::Registration;
use windlass_reactor::fork::{self, Origin, PerProcess};
use windlass_reactor::wake::wake_all;

/// The part of a file that an operation accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads this range. Metadata is a read of the whole file.
    Read(Range<u64>),
    /// Writes this range.
    Write(Range<u64>),
    /// Waits for earlier writes. Later reads and writes at an offset overtake it.
    Sync,
    /// Changes the position, the length or the permissions, or accesses all bytes.
    All,
}

impl Access {
    pub(crate) const READ_ALL: Access = Access::Read(0..u64::MAX);

    /// Whether `later` must wait for this one.
    fn blocks(&self, later: &Access) -> bool {
        use Access::{All, Read, Sync, Write};
        let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        match (self, later) {
            (All, _) | (_, All) | (Write(_), Sync) => true,
            (Sync, _) | (_, Sync) | (Read(_), Read(_)) => false,
            (Write(a), Read(b) | Write(b)) | (Read(a), Write(b)) => overlap(a, b),
        }
    }

    fn writes(&self) -> bool {
        matches!(self, Access::Write(_) | Access::All)
    }
}

/// How many operations a queue keeps memory for after a burst.
const KEPT_SLOTS: usize = 64;

/// The queue of one handle.
#[derive(Debug)]
pub(crate) struct OrderQueue {
    origin: Origin,
    inner: Mutex<Inner>,
    /// The queue of a forked child. In the inherited one the parent's operations never complete,
    /// and a thread of the parent may hold the lock.
    in_child: OnceLock<Arc<OrderQueue>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The slots of operations. Those of completed operations are reused.
    entries: Vec<Entry>,
    /// The head of the list of vacant slots, or the number of slots if none is vacant. The list is
    /// linked through the entries.
    vacant: usize,
    /// The number of operations that have entered.
    entered: u64,
    /// The number of operations that have entered and not completed.
    live: usize,
    /// How many of the live operations write.
    writers: usize,
    /// How many of the live operations have not started.
    waiting: usize,
    /// The slots and numbers of operations that have not started, in the order of entering. An
    /// operation that was dropped stays here and is skipped.
    queue: VecDeque<(u32, u64)>,
    /// The error of a background write. The next operation that may fail returns it.
    error: Option<io::Error>,
    /// The buffer of the last background write, for the next one.
    spare: Vec<u8>,
    /// The waker of a future that waits until the queue is empty.
    idle: Option<Waker>,
    /// The queue is in the list of queues.
    is_listed: bool,
}

#[derive(Debug)]
struct Entry {
    access: Access,
    phase: Phase,
    /// Counts the operations in the order of entering. In a vacant slot, the next vacant slot.
    number: u64,
    waker: Option<Waker>,
}

/// Readers outside of the process know the numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Done,
}

impl Default for OrderQueue {
    fn default() -> OrderQueue {
        OrderQueue {
            origin: Origin::here(),
            inner: Mutex::default(),
            in_child: OnceLock::new(),
        }
    }
}

impl OrderQueue {
    /// Returns this process's queue of the handle.
    #[inline]
    fn here(self: &Arc<Self>) -> &Arc<OrderQueue> {
        if self.is_inherited() {
            return self.in_child();
        }
        self
    }

    #[cold]
    fn in_child(&self) -> &Arc<OrderQueue> {
        self.in_child.get_or_init(Arc::default).here()
    }

    /// Returns true in a forked child if the parent made the queue.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        !self.origin.is_here()
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code under the lock panics, so a poisoned lock guards consistent state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the queue is empty. The caller owns the handle and starts no operation in the
    /// meantime, so only background writes and operations whose futures were dropped are left.
    ///
    /// # Errors
    ///
    /// Returns an error if no reactor turns that could complete them.
    #[inline]
    pub(crate) fn poll_empty(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.here();
        this.poll_until(cx, |inner| match inner.live {
            0 => Wait::Done(inner.idle.take()),
            _ => Wait::For(&mut inner.idle),
        })
    }

    /// Waits until `check` returns [`Wait::Done`]. Clones and drops wakers outside of the lock.
    fn poll_until(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        mut check: impl FnMut(&mut Inner) -> Wait<'_>,
    ) -> Poll<io::Result<()>> {
        let mut waker = None;
        loop {
            let mut inner = self.lock();
            match check(&mut inner) {
                Wait::Done(old) => {
                    drop(inner);
                    drop((old, waker));
                    return Poll::Ready(Ok(()));
                }
                Wait::For(known) => {
                    if known.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
                        break;
                    }
                    if waker.is_some() {
                        mem::swap(known, &mut waker);
                        break;
                    }
                }
            }
            drop(inner);
            waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.list();
        pending()
    }

    /// Puts the queue into the list of queues when an operation first waits in it.
    fn list(self: &Arc<Self>) {
        if !mem::replace(&mut self.lock().is_listed, true) {
            QUEUES
                .get(Mutex::default)
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(self);
        }
    }

    fn list_waits(self: &Arc<Self>, waits: &mut Vec<FacadeWait>) {
        let inner = self.lock();
        let running = inner.live - inner.waiting;
        let live = inner.entries.iter().filter(|it| it.phase != Phase::Done);
        let wakers = live.map(|it| &it.waker).chain([&inner.idle]).flatten();
        waits.extend(wakers.map(|waker| FacadeWait {
            waker: WakerId::of(waker),
            kind: WaitKind::FileOrder { running },
            object: address(self),
            created_at: None,
            awaited_at: None,
        }));
    }

    /// Returns whether an operation that entered now would start at once.
    #[inline]
    pub(crate) fn would_start(self: &Arc<Self>, access: &Access) -> bool {
        let inner = self.here().lock();
        !inner.is_blocked(inner.entered, access)
    }

    /// Returns the error of a failed background write, once.
    pub(crate) fn take_error(self: &Arc<Self>) -> io::Result<()> {
        self.here().lock().error.take().map_or(Ok(()), Err)
    }

    /// Returns the buffer of an earlier background write, to be reused.
    pub(crate) fn take_spare(self: &Arc<Self>) -> Vec<u8> {
        mem::take(&mut self.here().lock().spare)
    }
}

/// The queues in which an operation has waited.
static QUEUES: PerProcess<Mutex<Queues>> = PerProcess::new();

#[derive(Default)]
struct Queues {
    all: Vec<ListedQueue>,
    /// Beyond this number, dropped queues are removed.
    max_kept: usize,
}

/// A queue, and the address of its state, for readers outside of the process.
pub(super) struct ListedQueue {
    queue: Weak<OrderQueue>,
    inner: usize,
}

impl ListedQueue {
    pub(super) const LAYOUT: [usize; 3] = [
        size_of::<ListedQueue>(),
        offset_of!(ListedQueue, queue),
        offset_of!(ListedQueue, inner),
    ];

    pub(super) const STATE_OFFSETS: [usize; 4] = [
        offset_of!(Inner, live),
        offset_of!(Inner, waiting),
        offset_of!(Inner, entries),
        offset_of!(Inner, idle),
    ];

    pub(super) const ENTRY_LAYOUT: [usize; 4] = [
        size_of::<Entry>(),
        offset_of!(Entry, phase),
        offset_of!(Entry, waker),
        Phase::Done as usize,
    ];
}

impl Queues {
    fn add(&mut self, queue: &Arc<OrderQueue>) {
        if self.all.len() >= self.max_kept {
            self.all.retain(|it| it.queue.strong_count() > 0);
            self.max_kept = (2 * self.all.len()).max(KEPT_SLOTS);
            self.all.shrink_to(self.max_kept);
        }
        self.all.push(ListedQueue {
            queue: Arc::downgrade(queue),
            inner: ptr::from_ref(&*queue.lock()).expose_provenance(),
        });
        let address = ptr::from_ref(&self.all).expose_provenance();
        SHARED_LISTS.file_queues.store(address, Relaxed);
    }
}

/// Lists the waits for earlier operations of a handle, of all threads.
pub(crate) fn list_waits(waits: &mut Vec<FacadeWait>) {
    let queues: Vec<_> = {
        let queues = QUEUES.get(Mutex::default).lock();
        let queues = queues.unwrap_or_else(PoisonError::into_inner);
        queues.all.iter().map(|it| it.queue.clone()).collect()
    };
    for queue in queues.iter().filter_map(Weak::upgrade) {
        queue.list_waits(waits);
    }
}

/// Whether a wait is over.
enum Wait<'a> {
    /// Holds the waker that was registered.
    Done(Option<Waker>),
    /// Holds the field that stores the waker.
    For(&'a mut Option<Waker>),
}

impl Inner {
    /// Returns whether the operation with this number must wait for an earlier one.
    #[inline]
    fn is_blocked(&self, number: u64, access: &Access) -> bool {
        let only_reads = self.writers == 0 && !access.writes();
        self.live > 0 && !only_reads && self.conflicts(number, access)
    }

    #[cold]
    fn conflicts(&self, number: u64, access: &Access) -> bool {
        let live = self.entries.iter().filter(|it| it.phase != Phase::Done);
        let mut earlier = live.filter(|it| it.number < number);
        earlier.any(|it| it.access.blocks(access))
    }

    /// Adds an operation. Returns its slot, and whether it must wait.
    #[inline]
    fn insert(&mut self, access: Access) -> (u32, bool) {
        let number = self.entered;
        let waits = self.is_blocked(number, &access);
        self.entered += 1;
        self.live += 1;
        self.writers += usize::from(access.writes());
        let entry = Entry {
            access,
            phase: if waits {
                Phase::Waiting
            } else {
                Phase::Running
            },
            number,
            waker: None,
        };
        let slot = self.vacant;
        match self.entries.get_mut(slot) {
            Some(vacant) => {
                self.vacant = vacant.number as usize;
                *vacant = entry;
            }
            None => self.push(entry),
        }
        if waits {
            self.waiting += 1;
            self.queue.push_back((slot as u32, number));
        }
        (slot as u32, waits)
    }

    #[cold]
    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.vacant = self.entries.len();
    }

    /// Removes an operation, and collects the wakers of those that may start now. Returns the waker
    /// of the removed one, if it was dropped while it waited.
    #[inline]
    fn remove(&mut self, slot: u32, wakers: &mut Vec<Waker>) -> Option<Waker> {
        let entry = &mut self.entries[slot as usize];
        let was_waiting = entry.phase == Phase::Waiting;
        entry.phase = Phase::Done;
        entry.number = self.vacant as u64;
        let own = entry.waker.take();
        self.writers -= usize::from(entry.access.writes());
        self.waiting -= usize::from(was_waiting);
        self.vacant = slot as usize;
        self.live -= 1;
        if self.live == 0 {
            if self.idle.is_some() || self.entries.len() > KEPT_SLOTS || !self.queue.is_empty() {
                self.reset(wakers);
            }
        } else if self.waiting > 0 {
            self.start_unblocked(wakers);
        }
        own
    }

    /// Called when the last operation has left. Wakes the future that waits for an empty queue, and
    /// frees memory after a burst.
    #[cold]
    fn reset(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.idle.take());
        self.queue.clear();
        if self.entries.len() > KEPT_SLOTS {
            self.entries.clear();
            self.entries.shrink_to(KEPT_SLOTS);
            self.queue.shrink_to(KEPT_SLOTS);
            self.vacant = 0;
        }
    }

    #[cold]
    fn start_unblocked(&mut self, wakers: &mut Vec<Waker>) {
        let mut index = 0;
        while let Some(&(slot, number)) = self.queue.get(index) {
            let entry = &self.entries[slot as usize];
            if entry.phase != Phase::Waiting || entry.number != number {
                self.queue.remove(index); // the operation was dropped
                continue;
            }
            let is_all = entry.access == Access::All;
            if self.is_blocked(number, &entry.access) {
                index += 1;
            } else {
                let entry = &mut self.entries[slot as usize];
                entry.phase = Phase::Running;
                wakers.extend(entry.waker.take());
                self.queue.remove(index);
                self.waiting -= 1;
            }
            if is_all || self.waiting == 0 {
                return; // every later operation waits for `All`
            }
        }
    }
}

/// An operation's entry in the queue of its handle. It also keeps the handle open.
///
/// Dropping the guard completes the operation.
#[derive(Debug)]
pub(crate) struct OperationGuard {
    /// None once the operation has completed.
    handle: Option<Arc<Handle>>,
    /// The address of the queue that was entered. A forked child has another queue, and must leave
    /// the parent's alone. 0 if the operation is not ordered.
    queue: usize,
    slot: u32,
    /// Whether the operation had to wait when it entered.
    waits: bool,
}

impl OperationGuard {
    /// Enters the queue.
    #[inline]
    pub(crate) fn new(handle: &Arc<Handle>, access: Access) -> OperationGuard {
        let queue = handle.order.here();
        let (slot, waits) = queue.lock().insert(access);
        OperationGuard {
            handle: Some(handle.clone()),
            queue: address(queue),
            slot,
            waits,
        }
    }

    /// Returns the guard of an operation on a pipe or a device, which has neither a position nor
    /// offsets. Its peer decides on the order.
    #[inline]
    pub(crate) fn without_order(handle: &Arc<Handle>) -> OperationGuard {
        OperationGuard {
            handle: Some(handle.clone()),
            queue: 0,
            slot: 0,
            waits: false,
        }
    }

    /// Returns whether [`wait_turn`](OperationGuard::wait_turn) may have to wait.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Waits until the operation may start.
    ///
    /// # Errors
    ///
    /// Returns an error if no reactor turns that could complete the operations before it.
    pub(crate) async fn wait_turn(&self) -> io::Result<()> {
        match self.waits {
            true => poll_fn(|cx| self.poll_turn(cx)).await,
            false => Ok(()),
        }
    }

    #[cold]
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let queue = self.handle.as_ref().map(|it| it.order.here());
        let Some(queue) = queue.filter(|queue| address(queue) == self.queue) else {
            return Poll::Ready(Err(fork::error("this operation on a file")));
        };
        queue.poll_until(cx, |inner| {
            let entry = &mut inner.entries[self.slot as usize];
            match entry.phase {
                Phase::Waiting => Wait::For(&mut entry.waker),
                _ => Wait::Done(entry.waker.take()),
            }
        })
    }

    /// Completes the operation. The caller calls the wakers, after the handle was released.
    ///
    /// On any other thread than the owner's, the handle is released before the operation leaves
    /// the queue. Otherwise the owner could find an empty queue and a handle that is still in use.
    #[inline]
    pub(crate) fn finish(&mut self, is_owners_thread: bool, wakers: &mut Vec<Waker>) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        let queue = handle.order.here();
        if is_owners_thread {
            self.leave(queue, wakers);
        } else {
            let queue = queue.clone();
            drop(handle);
            self.leave(&queue, wakers);
        }
    }

    #[inline]
    fn leave(&self, queue: &Arc<OrderQueue>, wakers: &mut Vec<Waker>) {
        if address(queue) == self.queue {
            let own = queue.lock().remove(self.slot, wakers);
            drop(own);
        }
    }

    /// Completes a background write, and leaves its error and its buffer for later operations.
    #[cold]
    pub(crate) fn finish_in_background(
        &mut self,
        error: Option<io::Error>,
        mut buffer: Vec<u8>,
        wakers: &mut Vec<Waker>,
    ) {
        if let Some(handle) = &self.handle {
            let queue = handle.order.here();
            if address(queue) == self.queue {
                buffer.clear();
                let mut inner = queue.lock();
                let old = mem::replace(&mut inner.spare, buffer);
                if inner.error.is_none() {
                    inner.error = error;
                }
                drop(inner);
                drop(old);
            }
        }
        self.finish(false, wakers);
    }
}

#[inline]
fn address(queue: &Arc<OrderQueue>) -> usize {
    Arc::as_ptr(queue).addr()
}

impl Deref for OperationGuard {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        self.handle
            .as_ref()
            .expect("the handle is present until the operation completes")
    }
}

impl Drop for OperationGuard {
    #[inline]
    fn drop(&mut self) {
        if self.handle.is_some() {
            self.finish_and_wake();
        }
    }
}

impl OperationGuard {
    #[cold]
    fn finish_and_wake(&mut self) {
        let mut wakers = Vec::new();
        self.finish(false, &mut wakers);
        wake_all(wakers);
    }
}

/// Operations of a ring complete only while a reactor turns.
#[cold]
fn pending() -> Poll<io::Result<()>> {
    match Registration::<Files>::existing() {
        Some(files) if files.ring().is_some() => files.check_driven()?,
        _ => {}
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    /// Returns the numbers of the operations that have started, in order.
    fn running(inner: &Inner) -> Vec<u64> {
        let running = inner.entries.iter().filter(|it| it.phase == Phase::Running);
        let mut numbers = running.map(|it| it.number).collect::<Vec<_>>();
        numbers.sort_unstable();
        numbers
    }

    fn queue_of(accesses: &[Access]) -> Inner {
        let mut inner = Inner::default();
        for access in accesses {
            inner.insert(access.clone());
        }
        inner
    }

    #[test]
    fn ranges_that_do_not_overlap_run_at_the_same_time() {
        use Access::{All, Read, Sync, Write};
        let inner = queue_of(&[
            Read(0..9),
            Read(5..9),
            Write(9..12),
            Write(8..9),
            Read(11..20),
        ]);
        assert_eq!(running(&inner), [0, 1, 2]);
        let inner = queue_of(&[
            Write(0..9),
            Write(9..10),
            Sync,
            Read(9..10),
            Read(10..11),
            Sync,
        ]);
        assert_eq!(running(&inner), [0, 1, 4]);
        let inner = queue_of(&[
            Read(0..9),
            Sync,
            Read(0..9),
            Write(9..10),
            All,
            Read(50..60),
        ]);
        assert_eq!(running(&inner), [0, 1, 2, 3]);
    }

    #[test]
    fn an_operation_starts_when_the_last_that_blocks_it_completes() {
        use Access::{All, Read, Write};
        let mut inner = queue_of(&[Read(0..9), Write(20..30), All, Write(0..5), Read(4..6), All]);
        let mut wakers = Vec::new();
        inner.remove(1, &mut wakers);
        assert_eq!(running(&inner), [0]);
        inner.remove(0, &mut wakers);
        assert_eq!(running(&inner), [2]);
        inner.remove(3, &mut wakers); // its future was dropped
        inner.remove(2, &mut wakers);
        assert_eq!(running(&inner), [4]);
        inner.remove(4, &mut wakers);
        assert_eq!(running(&inner), [5]);
        inner.remove(5, &mut wakers);
        assert_eq!((inner.live, inner.writers, inner.waiting), (0, 0, 0));
        assert!(inner.queue.is_empty());
    }

    fn waits_in(queue: &Arc<OrderQueue>) -> Vec<WaitKind> {
        let mut waits = Vec::new();
        list_waits(&mut waits);
        waits.retain(|wait| wait.object == address(queue));
        waits.into_iter().map(|wait| wait.kind).collect()
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn an_operation_that_waits_is_in_the_snapshot() {
        use crate::inspect::outside::{Snapshot, WaitView};
        crate::block_on(async {
            let handle = Arc::new(Handle::new(std::fs::File::open("Cargo.toml").unwrap()));
            let [_first, second] = [(); 2].map(|()| OperationGuard::new(&handle, Access::All));
            let _task = crate::spawn(async move { second.wait_turn().await }).named("2nd");
            crate::yield_now().await;
            let snapshot = Snapshot::of_self().expect("the memory is readable");
            let tasks = snapshot.runtimes.iter().flat_map(|it| &it.tasks);
            let mut waits = tasks.flat_map(|task| &task.waits);
            assert!(waits.any(|wait| *wait == WaitView::FileOrder { running: 1 }));
        });
    }

    #[test]
    fn an_operation_is_listed_while_it_waits_for_earlier_ones() {
        crate::block_on(async {
            let file = std::fs::File::open("Cargo.toml").expect("it exists");
            let handle = Arc::new(Handle::new(file));
            let first = OperationGuard::new(&handle, Access::All);
            let second = OperationGuard::new(&handle, Access::All);
            let third = OperationGuard::new(&handle, Access::All);
            let mut cx = Context::from_waker(Waker::noop());
            assert!(pin!(second.wait_turn()).poll(&mut cx).is_pending());
            assert!(pin!(third.wait_turn()).poll(&mut cx).is_pending());
            let wait = WaitKind::FileOrder { running: 1 };
            assert_eq!(waits_in(&handle.order), [wait.clone(), wait.clone()]);
            drop(third);
            assert_eq!(waits_in(&handle.order), [wait]);
            drop(first);
            assert_eq!(waits_in(&handle.order), []);
        });
    }
}
