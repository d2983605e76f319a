//! Children that borrow from the function that spawns them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::iter;
use std::mem::{self, offset_of};
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pin_project_lite::pin_project;
use windlass_executor::budget;

use super::child::{Caught, Payload, SpawnedAt, count_by_location, drop_each};
use crate::sync::shrink::shrink_queue;
use crate::sync::slab::{Index, Slab};
use crate::waits::{FacadeWait, ListWaits, Listed, ObjectKind, WaitKind, WakerId};

/// The number of children that one poll of a scope polls at most. Other tasks wait meanwhile, and
/// the poll of the scope's task, some 20 ns, is spread over as many children.
const BUDGET: usize = 32;

/// Runs children that **may borrow from the surrounding function**. Completes when the body and all
/// children have ended, and returns the output of the body.
///
/// The body is a child like the others. It spawns them through its [`Scope`], and may pass clones
/// of it to them so that they can also spawn. The first panic cancels the other children and
/// propagates. For children that may also fail, [`try_scope`] ends with the first error.
///
/// | | [`scope`] | [`TaskGroup`](crate::task::TaskGroup) |
/// |---|---|---|
/// | children may borrow | yes | no |
/// | children run | while the scope is awaited | independently, as tasks |
/// | children return | `()`, and write to borrowed state | a value each, by `join_next` |
///
/// # Why it is sound
///
/// The scope's own future owns and polls the children, as it owns the variables of an async
/// function. Dropping it drops the children before the values that they borrow. If it is leaked,
/// for example by [`mem::forget`](std::mem::forget), the children are never polled again. Soundness
/// does not depend on a destructor, as it would if tasks of the executor borrowed, because those
/// run independently of their parent. The implementation is safe code that the compiler checks.
///
/// A scope inside a child of a scope is polled and dropped inside it. So scopes nest as deep as the
/// stack allows, like calls.
///
/// Each child has its own waker, so the cost of a poll depends only on the number of woken
/// children.
///
/// # Panics
///
/// Resumes the first panic of the body or a child, after all others are dropped.
///
/// # Cancel safety
///
/// Dropping the future drops the body and all children at their current await.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use windlass::task::scope;
/// use windlass::{block_on, yield_now};
///
/// let ropes = ["sheet", "stay", "halyard"];
/// let total = Cell::new(0);
/// block_on(scope(async |s| {
///     for rope in &ropes {
///         s.spawn(async {
///             yield_now().await;
///             total.set(total.get() + rope.len());
///         });
///     }
/// }));
/// assert_eq!(total.get(), 16);
/// ```
///
/// The interface follows [`std::thread::scope`]. The crate [moro](https://docs.rs/moro) by N.
/// Matsakis has shown that a scope for futures must poll its children itself.
pub async fn scope<'env, T, B>(body: impl FnOnce(Scope<'env>) -> B) -> T
where
    T: 'env,
    B: Future<Output = T> + 'env,
{
    let (owner, output) = (Owner::new(|()| false), Rc::new(Cell::new(None)));
    let slot = output.clone();
    let body = Box::into_pin(Box::new(body(owner.scope())));
    let body = async move { slot.set(Some(body.await)) };
    owner.0.spawn(None, Box::new(body));
    owner.run().await;
    output.take().expect("the body has stored its output")
}

/// A [`scope`] with children that return `Result<(), E>` and a body that returns `Result<T, E>`.
/// The first error cancels the other children and is returned.
///
/// # Errors
///
/// Returns the first error of the body or a child, after all others are dropped.
///
/// # Panics
///
/// Resumes the first panic of the body or a child, after all others are dropped.
///
/// # Cancel safety
///
/// Dropping the future drops the body and all children at their current await.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use windlass::block_on;
/// use windlass::task::try_scope;
///
/// let name = String::from("halyard");
/// let hauled: Result<u32, String> = block_on(try_scope(async |s| {
///     s.spawn(async { Err(format!("the {name} broke")) });
///     pending().await // dropped when the child has failed
/// }));
/// assert_eq!(hauled, Err("the halyard broke".into()));
/// ```
pub async fn try_scope<'env, T, E, B>(
    body: impl FnOnce(Scope<'env, Result<(), E>>) -> B,
) -> Result<T, E>
where
    T: 'env,
    E: 'env,
    B: Future<Output = Result<T, E>> + 'env,
{
    let (owner, output) = (Owner::new(Result::is_err), Rc::new(Cell::new(None)));
    let slot = output.clone();
    let body = Box::into_pin(Box::new(body(owner.scope())));
    let body = async move {
        slot.set(Some(body.await?));
        Ok(())
    };
    owner.0.spawn(None, Box::new(body));
    if let Some(failure) = owner.run().await {
        failure?;
    }
    Ok(output.take().expect("the body has stored its output"))
}

/// Spawns children into a [`scope`] or [`try_scope`]. Cloning it is cheap. Children own a clone to
/// spawn further children.
///
/// `R` is the output of children: `()`, or `Result<(), E>` in a [`try_scope`].
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use windlass::block_on;
/// use windlass::task::scope;
///
/// let log = &RefCell::new(Vec::new());
/// block_on(scope(async |s| {
///     let inner = s.clone();
///     s.spawn(async move {
///         log.borrow_mut().push("child");
///         inner.spawn(async move { log.borrow_mut().push("grandchild") });
///     });
/// }));
/// assert_eq!(log.take(), ["child", "grandchild"]);
/// ```
pub struct Scope<'env, R = ()> {
    inner: Pin<Rc<Inner<'env, R>>>,
}

impl<'env, R: 'env> Scope<'env, R> {
    /// Spawns a child, which may borrow anything that outlives the scope. It is first polled after
    /// this call returns. If the scope has ended or failed, the future is dropped.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'env,
    {
        self.inner.spawn(Some(Location::caller()), Box::new(future));
    }
}

impl<R> Clone for Scope<'_, R> {
    fn clone(&self) -> Self {
        let inner = self.inner.clone();
        Scope { inner }
    }
}

impl<R> fmt::Debug for Scope<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.borrow();
        let locations = state.slots.iter().flatten();
        let locations = locations.filter_map(|child| child.spawned_at);
        f.debug_struct("Scope")
            .field("running", &state.running)
            .field("children", &count_by_location(locations))
            .finish_non_exhaustive()
    }
}

/// The scope's own handle. Children end with it, while [`Scope`] handles may live on.
struct Owner<'env, R>(Pin<Rc<Inner<'env, R>>>);

impl<'env, R: 'env> Owner<'env, R> {
    fn new(fails: fn(&R) -> bool) -> Self {
        Owner(Rc::pin(Inner {
            fails,
            state: RefCell::new(State {
                slots: Slab::new(),
                running: 0,
                closed: false,
            }),
            wakers: Listed::new(Wakers {
                ready: Arc::default(),
                newest: Cell::default(),
            }),
        }))
    }

    fn scope(&self) -> Scope<'env, R> {
        let inner = self.0.clone();
        Scope { inner }
    }

    /// Runs the children until all have ended or one has failed, and returns the failure. The
    /// others are dropped by then. A panic propagates.
    async fn run(self) -> Option<R> {
        budget::charge().await; // a scope whose children never wait completes in one poll
        let ended = poll_fn(|cx| self.0.as_ref().poll(cx)).await;
        drop(self);
        ended.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

impl<R> Drop for Owner<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.closed = true;
        state.running = 0;
        let slots = mem::replace(&mut state.slots, Slab::new());
        drop(state);
        // Wakers of children may live on, and would keep the parent's waker.
        drop_each(self.0.wakers.ready.take_parent());
        drop_each(slots.into_values());
    }
}

pin_project! {
    /// A set of futures, of which only those that were woken are polled.
    struct Inner<'env, R> {
        // Whether a child that returned this has failed.
        fails: fn(&R) -> bool,
        // No user code runs under the borrow.
        state: RefCell<State<'env, R>>,
        // Joins the list of objects when the scope first waits.
        #[pin]
        wakers: Listed<Wakers>,
    }
}

/// The state of a scope apart from its children, which may borrow.
pub(super) struct Wakers {
    ready: Arc<ReadyQueue>,
    /// The signal of the last slot, which leads to all others.
    newest: Cell<Weak<ChildSignal>>,
}

impl Wakers {
    /// The `Arc` of the ready children, and the `Weak` of the newest signal.
    pub(super) const OFFSETS: [usize; 2] = [offset_of!(Wakers, ready), offset_of!(Wakers, newest)];
}

impl ListWaits for Wakers {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Scope
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        waits.extend(self.ready.parent().map(|waker| FacadeWait {
            waker,
            kind: WaitKind::Scope {
                children: self.of_children(),
            },
            object: ptr::from_ref(self).addr(),
            created_at: None,
            awaited_at: None,
        }));
    }
}

impl Wakers {
    fn of_children(&self) -> Vec<WakerId> {
        let newest = self.newest.take();
        let mut signal = newest.upgrade();
        self.newest.set(newest);
        let each = iter::from_fn(|| {
            let this = signal.take()?;
            signal = this.previous.upgrade();
            Some(WakerId::of(&Waker::from(this)))
        });
        each.collect()
    }
}

// A panic leaves it usable, because user code runs only while its state is consistent.
impl<R> UnwindSafe for Inner<'_, R> {}
impl<R> RefUnwindSafe for Inner<'_, R> {}

struct State<'env, R> {
    /// A child is taken out of its slot while it is polled. A vacant slot keeps its waker for the
    /// next child, to which a wake for an earlier one is at most a spurious poll.
    slots: Slab<Option<Child<'env, R>>>,
    running: usize,
    closed: bool,
}

struct Child<'env, R> {
    future: Option<Caught<'env, R>>,
    signal: Arc<ChildSignal>,
    /// Wakes `signal`.
    waker: Waker,
    /// `None` for the body.
    spawned_at: Option<SpawnedAt>,
}

impl<'env, R: 'env> Inner<'env, R> {
    #[inline]
    fn spawn(&self, spawned_at: Option<SpawnedAt>, future: Box<dyn Future<Output = R> + 'env>) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            drop(future);
            return;
        }
        let (index, slot) = state.slots.acquire(|index| {
            let signal = Arc::new(ChildSignal {
                index,
                is_queued: AtomicBool::new(false),
                ready: self.wakers.ready.clone(),
                previous: self.wakers.newest.take(),
            });
            self.wakers.newest.set(Arc::downgrade(&signal));
            Some(Child {
                future: None,
                waker: Waker::from(signal.clone()),
                signal,
                spawned_at,
            })
        });
        let child = slot.as_mut().expect("a vacant slot keeps its waker");
        child.future = Some(Caught::new(future));
        child.spawned_at = spawned_at;
        let is_queued = child.signal.is_queued.swap(true, AcqRel);
        state.running += 1;
        drop(state);
        if !is_queued {
            self.wakers.ready.push(index);
        }
    }

    /// Polls woken children, first in, first out. Completes when all have ended, or with the first
    /// failure.
    fn poll(self: Pin<&Self>, cx: &mut Context<'_>) -> Poll<Result<Option<R>, Payload>> {
        let ready = &self.wakers.ready;
        let parent = ready.take_parent();
        for _ in 0..BUDGET {
            let Some(index) = ready.pop() else {
                break;
            };
            match self.poll_child(index) {
                Poll::Ready(Ok(returned)) if !(self.fails)(&returned) => drop(returned),
                Poll::Ready(failure) => return Poll::Ready(failure.map(Some)),
                Poll::Pending => {}
            }
        }
        if self.state.borrow().running == 0 {
            return Poll::Ready(Ok(None));
        }
        let parent = parent.filter(|parent| parent.will_wake(cx.waker()));
        let parent = parent.unwrap_or_else(|| cx.waker().clone());
        // Children are still queued. Other tasks run before the next poll.
        self.project_ref().wakers.join();
        let requeue = ready.set_parent(parent);
        requeue.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    fn poll_child(&self, index: Index) -> Poll<Result<R, Payload>> {
        // The waker of a child that has ended may name a slot that no longer exists.
        let mut state = self.state.borrow_mut();
        let child = state.slots.get_mut(index).and_then(Option::take);
        drop(state);
        let Some(mut child) = child else {
            return Poll::Pending;
        };
        // Before the poll, which then sees everything that preceded the wake.
        child.signal.is_queued.swap(false, AcqRel);
        let mut cx = Context::from_waker(&child.waker);
        let future = child.future.as_mut();
        let polled = future.map_or(Poll::Pending, |future| Pin::new(future).poll(&mut cx));
        if polled.is_ready() {
            child.future = None;
        }
        let mut state = self.state.borrow_mut();
        state.slots[index] = Some(child);
        if polled.is_ready() {
            state.running -= 1;
            state.slots.release(index);
            if index.is_far() {
                self.find_newest(&state.slots);
            }
        }
        polled
    }

    /// The release of a slot may have removed slots, of which the last had the newest signal.
    #[cold]
    fn find_newest(&self, slots: &Slab<Option<Child<'env, R>>>) {
        let last = slots.last().and_then(Option::as_ref);
        let newest = last.map(|child| Arc::downgrade(&child.signal));
        self.wakers.newest.set(newest.unwrap_or_default());
    }
}

/// The indices of woken children, first in, first out. Wakers may be called from any thread, so
/// this is the one part of a scope that threads share. No user code runs under the lock.
#[derive(Default)]
pub(super) struct ReadyQueue(Mutex<Ready>);

#[derive(Default)]
struct Ready {
    queue: VecDeque<Index>,
    /// The waker of the scope's task, present only between polls. The first wake takes it.
    parent: Option<Waker>,
}

impl ReadyQueue {
    /// Returns the offset of the parent's waker, which is not a constant.
    pub(super) fn parent_offset() -> usize {
        let queue = ReadyQueue::default();
        let ready = queue.lock();
        ptr::from_ref(&ready.parent).addr() - ptr::from_ref(&queue).addr()
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, index: Index) {
        let mut ready = self.lock();
        ready.queue.push_back(index);
        let parent = ready.parent.take();
        drop(ready);
        parent.into_iter().for_each(Waker::wake);
    }

    fn pop(&self) -> Option<Index> {
        let mut ready = self.lock();
        shrink_queue(&mut ready.queue);
        ready.queue.pop_front()
    }

    /// The identity of the waker of the scope's task, to be listed.
    fn parent(&self) -> Option<WakerId> {
        self.lock().parent.as_ref().map(WakerId::of)
    }

    /// A poll of the scope begins. It drains the queue, so wakes need not wake the scope's task.
    fn take_parent(&self) -> Option<Waker> {
        self.lock().parent.take()
    }

    /// A poll of the scope ends. Returns the waker to be called if the queue is not empty.
    fn set_parent(&self, parent: Waker) -> Option<Waker> {
        let mut ready = self.lock();
        if !ready.queue.is_empty() {
            return Some(parent);
        }
        ready.parent.replace(parent)
    }
}

/// The waker of a child.
pub(super) struct ChildSignal {
    index: Index,
    /// A child is queued at most once.
    is_queued: AtomicBool,
    ready: Arc<ReadyQueue>,
    /// The signal of the slot before, which is removed after this signal's slot.
    previous: Weak<ChildSignal>,
}

impl ChildSignal {
    pub(super) const PREVIOUS_OFFSET: usize = offset_of!(ChildSignal, previous);
}

impl Wake for ChildSignal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, AcqRel) {
            self.ready.push(self.index);
        }
    }
}
