//! Children that borrow from their parent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use windlass_executor::budget;

use super::child::{Caught, Payload, Place, by_place, drop_each};
use crate::sync::shrink::shrink_queue;

/// How many children one poll of a scope polls at most. It's one poll of its task, so others must
/// get their turn soon; and the poll of the task, some 20 ns, is spread over as many children.
const BUDGET: usize = 32;

/// Runs children that **may borrow from the function around it**, and ends when the body and all
/// children have ended. Gives what the body returns.
///
/// The body is a child like the others: it spawns them through its [`Scope`], which it may hand on
/// to them so that they spawn as well. The first panic cancels the rest and goes on here. If
/// children may fail as well, [`try_scope`] ends with the first error.
///
/// | | [`scope`] | [`TaskGroup`](crate::task::TaskGroup) |
/// |---|---|---|
/// | children may borrow | yes | no |
/// | children run | while the scope is awaited | by themselves, as tasks |
/// | what they return | `()`: they write to what they borrow | a value each, by `join_next` |
///
/// # Why it is sound
///
/// Children are owned and polled by the scope's own future: they are values in it, as the variables
/// of an async function are. When it's dropped, they are dropped with it, before what they borrow.
/// If it's leaked, say by [`mem::forget`](std::mem::forget), nobody is left who could poll them,
/// and what they borrow can't be missed. Nothing rests on a destructor that must have run, as it
/// would if tasks of the executor borrowed: those run without their parent's doing. It's all safe
/// code, and the compiler checks it.
///
/// A scope within a child of a scope is polled and dropped within it. So scopes nest as deep as the
/// stack allows, as calls do.
///
/// Each child has its own waker, so a poll of the scope costs as much as there are woken children,
/// however many others wait.
///
/// # Panics
///
/// Resumes the first panic of the body or a child, when all others are dropped.
///
/// # Cancel safety
///
/// Dropping it drops the body and all children, at whatever await they are.
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
/// The interface is that of [`std::thread::scope`]; that a scope for futures must poll its children
/// itself was shown by the crate [moro](https://docs.rs/moro) (N. Matsakis).
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
    output.take().expect("the body has ended")
}

/// A [`scope`] whose children return `Result<(), E>`, and its body `Result<T, E>`: the first error
/// of any cancels the rest and is returned.
///
/// # Errors
///
/// The first error of the body or a child, when all others are dropped.
///
/// # Panics
///
/// Resumes the first panic; likewise.
///
/// # Cancel safety
///
/// Dropping it drops the body and all children, at whatever await they are.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use windlass::task::try_scope;
/// use windlass::block_on;
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
    Ok(output.take().expect("the body has ended"))
}

/// Spawns children into a [`scope`] or [`try_scope`]. To clone it is cheap: children take a clone
/// with them to spawn further ones.
///
/// `R` is what children return: `()`, or `Result<(), E>` in a [`try_scope`].
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use windlass::task::scope;
/// use windlass::block_on;
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
    children: Rc<Children<'env, R>>,
}

impl<'env, R: 'env> Scope<'env, R> {
    /// Spawns a child, which may borrow whatever outlives the scope. It's polled later, never at
    /// once. When the scope has ended, or is ending by a failure, the future is dropped.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'env,
    {
        self.children
            .spawn(Some(Location::caller()), Box::new(future));
    }
}

impl<R> Clone for Scope<'_, R> {
    fn clone(&self) -> Self {
        let children = self.children.clone();
        Scope { children }
    }
}

impl<R> fmt::Debug for Scope<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.children.state.borrow();
        let slots = state.slots.iter().flatten();
        let places = slots.filter_map(|child| child.future.as_ref().and(child.place));
        f.debug_struct("Scope")
            .field("running", &state.running())
            .field("children", &by_place(places))
            .finish_non_exhaustive()
    }
}

/// A scope's own hold on its children. They end with it; handles to the scope may live on.
struct Owner<'env, R>(Rc<Children<'env, R>>);

impl<'env, R: 'env> Owner<'env, R> {
    fn new(fails: fn(&R) -> bool) -> Self {
        let ready = Arc::new(Ready(Mutex::default()));
        let state = RefCell::new(State {
            slots: Vec::new(),
            free: Vec::new(),
            ended: 0,
            give_back_at: KEPT,
            closed: false,
        });
        Owner(Rc::new(Children {
            fails,
            ready,
            state,
        }))
    }

    fn scope(&self) -> Scope<'env, R> {
        let children = self.0.clone();
        Scope { children }
    }

    /// Runs the children until all have ended, or one has failed: then it gives what that returned.
    /// The others are dropped by then. A panic goes on.
    async fn run(self) -> Option<R> {
        budget::charge().await; // a scope without anything to wait for completes in one poll
        let ended = poll_fn(|cx| self.0.poll(cx)).await;
        drop(self);
        ended.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

impl<R> Drop for Owner<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.closed = true;
        let slots = std::mem::take(&mut state.slots);
        state.free.clear();
        drop(state);
        drop_each(self.0.ready.begin()); // wakers of children, which may live on, would keep it
        drop_each(slots);
    }
}

/// A set of futures of which only those are polled that were woken.
pub(crate) struct Children<'env, R> {
    /// Whether a child that returned this has failed.
    fails: fn(&R) -> bool,
    ready: Arc<Ready>,
    /// Borrowed for moments in which no user code runs.
    state: RefCell<State<'env, R>>,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl<R> UnwindSafe for Children<'_, R> {}
impl<R> RefUnwindSafe for Children<'_, R> {}

struct State<'env, R> {
    /// A child is out of its slot only while it's being polled.
    slots: Vec<Option<Child<'env, R>>>,
    /// Slots whose child has ended. They keep its waker for the next one: what a waker does that is
    /// as old is at most a spurious poll.
    free: Vec<usize>,
    /// How many children have ended since free slots were given back.
    ended: usize,
    /// With so many free slots, those at the end are given back.
    give_back_at: usize,
    closed: bool,
}

/// So many slots are not given back.
const KEPT: usize = 64;

struct Child<'env, R> {
    future: Option<Caught<'env, R>>,
    waker: Waker,
    /// Where it was spawned; the body was not.
    place: Option<Place>,
}

impl<'env, R: 'env> Children<'env, R> {
    #[inline]
    fn spawn(&self, place: Option<Place>, future: Box<dyn Future<Output = R> + 'env>) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            drop(future);
            return;
        }
        let index = state.free.pop().unwrap_or_else(|| {
            let index = state.slots.len();
            let waker = Waker::from(Arc::new(ChildWaker {
                index,
                ready: self.ready.clone(),
            }));
            let future = None;
            state.slots.push(Some(Child {
                future,
                waker,
                place,
            }));
            state.give_back_at = KEPT.max(state.slots.len() / 4 * 3);
            index
        });
        if let Some(child) = &mut state.slots[index] {
            child.future = Some(Caught::new(future));
            child.place = place;
        }
        drop(state);
        self.ready.wake(index);
    }

    /// Polls woken children, first in, first out. Ready when all have ended, or with the first
    /// failure.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Option<R>, Payload>> {
        let known = self.ready.begin();
        for _ in 0..BUDGET {
            let Some(index) = self.ready.next() else {
                break;
            };
            match self.poll_child(index) {
                Poll::Ready(Ok(returned)) if !(self.fails)(&returned) => drop(returned),
                Poll::Ready(failure) => return Poll::Ready(failure.map(Some)),
                Poll::Pending => {}
            }
        }
        if self.state.borrow().running() == 0 {
            return Poll::Ready(Ok(None));
        }
        let known = known.filter(|known| known.will_wake(cx.waker()));
        let parent = known.unwrap_or_else(|| cx.waker().clone());
        // Woken since, or left by the budget: the others get their turn first.
        self.ready.rest(parent).into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    fn poll_child(&self, index: usize) -> Poll<Result<R, Payload>> {
        // A waker of a child that has ended may name a slot that was given back.
        let mut state = self.state.borrow_mut();
        let child = state.slots.get_mut(index).and_then(Option::take);
        drop(state);
        let Some(mut child) = child else {
            return Poll::Pending;
        };
        let mut cx = Context::from_waker(&child.waker);
        let future = child.future.as_mut();
        let polled = future.map_or(Poll::Pending, |future| Pin::new(future).poll(&mut cx));
        if polled.is_ready() {
            child.future = None;
        }
        let mut state = self.state.borrow_mut();
        state.slots[index] = Some(child);
        if polled.is_ready() {
            state.free.push(index);
            state.ended += 1;
            if state.may_give_back() {
                let slots = state.give_back();
                self.ready.give_back(slots);
            }
        }
        polled
    }
}

impl<R> State<'_, R> {
    fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives back the free slots at the end, if they are at least half of all. New children take
    /// the lowest slots from now on. Returns how many there are. (What is dropped is wakers of our
    /// own: no user code runs.)
    #[cold]
    fn give_back(&mut self) -> usize {
        let is_free = |slot: &Option<Child<'_, R>>| {
            let future = slot.as_ref().map(|child| child.future.is_some());
            future == Some(false) // one that is being polled is out of its slot
        };
        let end = self.slots.iter().rposition(|slot| !is_free(slot));
        let end = end.map_or(0, |last| last + 1).max(KEPT / 2);
        if end <= self.slots.len() / 2 {
            self.slots.truncate(end);
            self.slots.shrink_to(2 * end);
        }
        self.free.clear();
        let slots = self.slots.iter().enumerate().rev();
        let free = slots.filter(|(_, slot)| is_free(slot));
        self.free.extend(free.map(|(index, _)| index));
        self.free.shrink_to(2 * self.free.len());
        self.ended = 0;
        self.give_back_at = KEPT.max(self.free.len() + self.running().div_ceil(2));
        self.slots.len()
    }

    /// Once per halving of the children, and once per so many ends of children as there are slots:
    /// so it costs a constant for each.
    fn may_give_back(&self) -> bool {
        let (free, slots) = (self.free.len(), self.slots.len());
        let is_due = self.ended >= slots.max(KEPT) && free >= slots / 4 * 3;
        free >= self.give_back_at || is_due
    }
}

/// Which children were woken. Wakers may be called from any thread, so this is the one part of a
/// scope that threads share. No user code runs under the lock.
struct Ready(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// First in, first out, each child once...
    order: VecDeque<usize>,
    /// ...which is marked here.
    queued: Vec<bool>,
    /// Wakes the scope's task. It's here only while the scope rests: the first wake takes it.
    parent: Option<Waker>,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, index: usize) {
        let mut queue = self.lock();
        if index >= queue.queued.len() {
            queue.queued.resize(index + 1, false);
        }
        if std::mem::replace(&mut queue.queued[index], true) {
            return;
        }
        queue.order.push_back(index);
        let parent = queue.parent.take();
        drop(queue);
        parent.into_iter().for_each(Waker::wake);
    }

    /// A poll of the scope begins: it will look at the queue, so wakes needn't tell its task. Gives
    /// the waker that was left there.
    fn begin(&self) -> Option<Waker> {
        self.lock().parent.take()
    }

    fn next(&self) -> Option<usize> {
        let mut queue = self.lock();
        shrink_queue(&mut queue.order);
        let index = queue.order.pop_front()?;
        queue.queued[index] = false;
        Some(index)
    }

    /// Slots from there on were given back. Wakes of them have nobody to go to.
    #[cold]
    fn give_back(&self, slots: usize) {
        let mut queue = self.lock();
        queue.order.retain(|&index| index < slots);
        queue.queued.truncate(slots);
        queue.queued.shrink_to(2 * slots);
    }

    /// The poll ends. If there is something in the queue, the waker is handed back to be woken.
    fn rest(&self, parent: Waker) -> Option<Waker> {
        let mut queue = self.lock();
        if !queue.order.is_empty() {
            return Some(parent);
        }
        queue.parent.replace(parent)
    }
}

struct ChildWaker {
    index: usize,
    ready: Arc<Ready>,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.wake(self.index);
    }
}
