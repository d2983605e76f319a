//! Tasks that belong together: one fails, all end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{
    AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind,
};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::child::{Caught, Payload, Place, by_place, drop_each};
use crate::sync::shrink::shrink_queue;
use crate::sync::waiter::Waiter;
use windlass_executor::{Task, budget, drop_nested, spawn_at};

/// Tasks that belong together, and end together.
///
/// The group owns its children. The first one that fails, by an error or by a panic, cancels the
/// rest, and its error or panic comes out where the group is awaited. **Dropping the group cancels
/// all**, so no child outlives the function that has spawned it, however that is left: by `return`,
/// by `?`, by a panic, or because it was itself cancelled.
///
/// There are three kinds:
///
/// | children | made by | the rest is cancelled by |
/// |---|---|---|
/// | return `Result<T, E>` | [`TaskGroup::new`] | the first `Err`, the first panic |
/// | return anything | [`TaskGroup::infallible`] | the first panic |
/// | have nothing to do with each other | [`TaskGroup::independent`] | nothing |
///
/// The children are tasks: they run whether or not anybody waits for the group. Those that shall
/// borrow from the function around them are for [`scope`](crate::task::scope()).
///
/// # Groups that live long
///
/// The connections of a server end with the server; but if the handler of one panics, that is no
/// reason to hang up on the others: they are [`independent`](TaskGroup::independent). In a group of
/// another kind that panic would cancel all, and whatever is spawned from then on is dropped. The
/// accept loop, which spawns and doesn't join, would not hear of it.
///
/// What a child has returned is kept until [`join_next`](TaskGroup::join_next) hands it out. So let
/// children that nobody joins return `()`, which takes no memory.
///
/// # Cancel safety
///
/// Nothing is lost when a [`join_next`](TaskGroup::join_next) or [`room`](TaskGroup::room) is
/// dropped. [`close`](TaskGroup::close) takes the group with it, so dropping that cancels all.
///
/// # Examples
///
/// ```
/// use windlass::task::TaskGroup;
/// use windlass::block_on;
///
/// async fn length(rope: &'static str) -> Result<usize, String> {
///     if rope.is_empty() { Err("no rope".into()) } else { Ok(rope.len()) }
/// }
///
/// async fn sum(ropes: [&'static str; 3]) -> Result<usize, String> {
///     let mut group = TaskGroup::new();
///     for rope in ropes {
///         group.spawn(length(rope));
///     }
///     let mut sum = 0;
///     while let Some(length) = group.join_next().await {
///         sum += length?;
///     }
///     Ok(sum)
/// }
///
/// block_on(async {
///     assert_eq!(sum(["sheet", "stay", "halyard"]).await, Ok(16));
///     assert_eq!(sum(["sheet", "", "halyard"]).await, Err("no rope".into()));
/// });
/// ```
///
/// The idea is that of the nurseries of [trio](https://trio.readthedocs.io) (N. J. Smith, "Notes on
/// structured concurrency", 2018), and of Python's and Swift's task groups.
#[must_use = "a dropped group cancels its children: join them, or `close().await`"]
pub struct TaskGroup<R: 'static> {
    shared: Rc<Shared<R>>,
}

impl<T: 'static, E: 'static> TaskGroup<Result<T, E>> {
    /// Makes a group whose children may fail: the first error cancels the rest.
    pub fn new() -> Self {
        TaskGroup::failing_by(|ended| !matches!(ended, Ok(Ok(_))))
    }

    /// Waits until all children have ended, also those that they spawn meanwhile. What they
    /// returned is dropped.
    ///
    /// # Errors
    ///
    /// The first error of a child. All are gone by then, and their futures dropped: cancelled by
    /// that error, if the group is made by [`new`](TaskGroup::new); else they have ended.
    ///
    /// # Panics
    ///
    /// Resumes the panic of a child that has ended the group; likewise.
    ///
    /// # Cancel safety
    ///
    /// Dropping this cancels all children.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::block_on;
    /// # use std::future::pending;
    /// block_on(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(pending::<Result<(), _>>());
    ///     group.spawn(async { Err("the rope broke") });
    ///     assert_eq!(group.close().await, Err("the rope broke"));
    /// });
    /// ```
    pub async fn close(mut self) -> Result<(), E> {
        let mut first = Ok(());
        while let Some(ended) = self.join_next().await {
            first = first.and(ended.map(drop));
        }
        first
    }
}

impl<T: 'static, E: 'static> Default for TaskGroup<Result<T, E>> {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup<()> {
    /// Waits until all children have ended, also those that they spawn meanwhile. (Of other types
    /// than `()` and `Result` there is something to look at: [`join_next`](TaskGroup::join_next).)
    ///
    /// # Panics
    ///
    /// Resumes the panic of a child that has ended the group. The others are gone by then, and
    /// their futures dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping this cancels all children.
    pub async fn close(mut self) {
        while let Some(()) = self.join_next().await {}
    }
}

impl<R> TaskGroup<R> {
    /// Makes a group whose children can't fail, or whose errors are values like others: only a
    /// panic cancels the rest.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::{block_on, yield_now};
    /// block_on(async {
    ///     let mut group = TaskGroup::infallible();
    ///     group.spawn(async { yield_now().await; "last" });
    ///     group.spawn(async { "first" });
    ///     assert_eq!(group.join_next().await, Some("first"));
    ///     assert_eq!(group.join_next().await, Some("last"));
    ///     assert_eq!(group.join_next().await, None);
    /// });
    /// ```
    pub fn infallible() -> Self {
        TaskGroup::failing_by(Result::is_err)
    }

    /// Makes a group whose children have nothing to do with each other, but that all end with the
    /// group: nothing that one does cancels the rest. If one panics, the panic hook reports it, and
    /// that is all: [`join_next`](TaskGroup::join_next) has nothing to hand out for it.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::{block_on, yield_now};
    /// block_on(async {
    ///     let mut connections = TaskGroup::independent();
    ///     connections.spawn(async { panic!("the rope broke") });
    ///     connections.spawn(async { yield_now().await; "hauled" });
    ///     assert_eq!(connections.join_next().await, Some("hauled"));
    ///     assert_eq!(connections.join_next().await, None);
    /// });
    /// ```
    pub fn independent() -> Self {
        TaskGroup::failing_by(|_| false)
    }

    fn failing_by(fails: fn(&Result<R, Payload>) -> bool) -> Self {
        let state = State {
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            limit: usize::MAX,
            next_id: 0,
            ended: VecDeque::new(),
            panic: None,
            closed: false,
        };
        TaskGroup {
            shared: Rc::new(Shared {
                fails,
                state: RefCell::new(state),
                owner: Waiter::new(),
            }),
        }
    }

    /// Lets at most so many children run at once. Those that are spawned beyond wait, in the order
    /// of spawning, and take the place of one that has ended.
    ///
    /// # Panics
    ///
    /// If it is zero; and as [`spawn`](TaskGroup::spawn), for children that may run now.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::{block_on, yield_now};
    /// # use std::{cell::Cell, rc::Rc};
    /// let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    /// block_on(async {
    ///     let group = TaskGroup::infallible().limit(2);
    ///     for _ in 0..10 {
    ///         let (running, most) = (running.clone(), most.clone());
    ///         group.spawn(async move {
    ///             running.set(running.get() + 1);
    ///             most.set(most.get().max(running.get()));
    ///             yield_now().await;
    ///             running.set(running.get() - 1);
    ///         });
    ///     }
    ///     group.close().await;
    /// });
    /// assert_eq!(most.get(), 2);
    /// ```
    #[track_caller]
    pub fn limit(self, at_once: usize) -> Self {
        assert!(at_once > 0, "a group with a limit of zero would never end");
        self.shared.state.borrow_mut().limit = at_once;
        self.shared.start_waiting(); // the limit before may have been lower
        self
    }

    /// Spawns a child. It's polled later, never at once. A group that has been ended by a failure
    /// takes no more: the future is dropped.
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()): where that finds no executor. A future that is dropped, or has
    /// to wait for its turn, needs none yet.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        self.shared.spawn(Box::new(future));
    }

    /// With it children spawn children.
    ///
    /// ```
    /// # use windlass::task::{Spawner, TaskGroup};
    /// # use windlass::block_on;
    /// fn count_down(from: u32, group: Spawner<()>) {
    ///     let siblings = group.clone();
    ///     group.spawn(async move {
    ///         if from > 0 {
    ///             count_down(from - 1, siblings);
    ///         }
    ///     });
    /// }
    ///
    /// block_on(async {
    ///     let group = TaskGroup::infallible();
    ///     count_down(10, group.spawner());
    ///     group.close().await;
    /// });
    /// ```
    pub fn spawner(&self) -> Spawner<R> {
        Spawner {
            shared: self.shared.clone(),
        }
    }

    /// Waits for the next child to end and hands out what it returned, in the order of ending.
    /// `None` when no child is left. The last that a group gives is what it failed by.
    ///
    /// # Panics
    ///
    /// Resumes the panic that has ended the group, after what had ended before it was handed out.
    /// Of whatever kind the group is, it panics if children can't finish any more, because their
    /// executor was dropped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn join_next(&mut self) -> Option<R> {
        poll_fn(|cx| budget::poll_with(cx, |cx| self.shared.poll_next(cx))).await
    }

    /// Waits until fewer children run than the [`limit`](TaskGroup::limit) allows. A server that
    /// waits for room before it accepts leaves the clients beyond to the system's queue.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::block_on;
    /// block_on(async {
    ///     let mut group = TaskGroup::infallible().limit(1);
    ///     for _ in 0..10 {
    ///         group.room().await;
    ///         assert!(group.is_empty());
    ///         group.spawn(async {});
    ///     }
    /// });
    /// ```
    pub async fn room(&mut self) {
        poll_fn(|cx| budget::poll_with(cx, |cx| self.shared.poll_room(cx))).await;
    }

    /// How many children have not ended, those that wait for their turn included.
    pub fn len(&self) -> usize {
        self.shared.state.borrow().len()
    }

    /// True if no child is left that has not ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R> Drop for TaskGroup<R> {
    fn drop(&mut self) {
        let mut state = self.shared.state.borrow_mut();
        let contents = Contents {
            cancelled: state.cancel(),
            ended: std::mem::take(&mut state.ended),
            panic: state.panic.take(),
        };
        drop(state);
        drop_nested(contents);
        self.shared.owner.clear();
    }
}

impl<R> fmt::Debug for TaskGroup<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt("TaskGroup", f)
    }
}

/// Spawns children into a [`TaskGroup`]: what they take with them to spawn further ones.
///
/// It doesn't own the group. When that is dropped, or has failed, what is spawned is dropped.
///
/// See [`TaskGroup::spawner`] for an example.
pub struct Spawner<R: 'static> {
    shared: Rc<Shared<R>>,
}

impl<R> Spawner<R> {
    /// As [`TaskGroup::spawn`].
    ///
    /// # Panics
    ///
    /// As that.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        self.shared.spawn(Box::new(future));
    }
}

impl<R> Clone for Spawner<R> {
    fn clone(&self) -> Self {
        let shared = self.shared.clone();
        Spawner { shared }
    }
}

impl<R> fmt::Debug for Spawner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt("Spawner", f)
    }
}

/// What the group, its spawners and its children share.
pub(crate) struct Shared<R: 'static> {
    /// Whether a child that has ended so ends the group.
    fails: fn(&Result<R, Payload>) -> bool,
    /// Borrowed for moments in which no user code runs.
    state: RefCell<State<R>>,
    /// Where the owner waits for the next end of a child.
    owner: Waiter,
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl<R> UnwindSafe for Shared<R> {}
impl<R> RefUnwindSafe for Shared<R> {}

struct State<R> {
    /// By number, which is the order of starting. It's there, as `None`, before the child is
    /// spawned: that may call the waker of an executor that rests, user code in which the child
    /// may run and end, or be cancelled.
    running: BTreeMap<u64, Option<Task<()>>>,
    /// There are some only while as many run as may.
    waiting: VecDeque<(Place, Caught<'static, R>)>,
    limit: usize,
    next_id: u64,
    /// What children returned, until it's joined; a failure is the last.
    ended: VecDeque<R>,
    /// A panic came later than all that is in `ended`, since it has ended the group.
    panic: Option<Payload>,
    /// A failure has ended the group, or it was dropped.
    closed: bool,
}

impl<R> Shared<R> {
    #[track_caller]
    fn spawn(self: &Rc<Self>, future: Box<dyn Future<Output = R>>) {
        let child = (Location::caller(), Caught::new(future));
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            drop(child);
            return;
        }
        state.waiting.push_back(child);
        drop(state);
        self.start_waiting();
    }

    #[track_caller]
    fn start_waiting(self: &Rc<Self>) {
        loop {
            let next = self.state.borrow_mut().start_next();
            let Some((id, place, future)) = next else {
                break;
            };
            let shared = self.clone();
            let task = spawn_at(place, Child { id, shared, future });
            let mut state = self.state.borrow_mut();
            match state.running.get_mut(&id) {
                Some(own) => *own = Some(task),
                None => {
                    drop(state); // it has ended meanwhile, or the group
                    drop(task);
                }
            }
        }
    }

    /// Called by the child itself, in its last poll.
    fn ended(self: &Rc<Self>, id: u64, ended: Result<R, Payload>) {
        let mut state = self.state.borrow_mut();
        let Some(own) = state.running.remove(&id) else {
            drop(state); // cancelled in this very poll: nobody wants to know
            return;
        };
        let failed = (self.fails)(&ended);
        let cancelled = failed.then(|| state.cancel());
        let mut unheard = None;
        match ended {
            Ok(returned) => state.ended.push_back(returned),
            Err(payload) if failed => state.panic = Some(payload),
            Err(payload) => unheard = Some(payload), // the hook has reported it
        }
        drop(state);
        own.into_iter().for_each(Task::detach);
        cancelled.into_iter().for_each(|mut all| all.drop_each());
        drop_each(unheard);
        let started = catch_unwind(AssertUnwindSafe(|| self.start_waiting()));
        started.unwrap_or_else(|payload| self.fail(payload));
        self.owner.wake();
    }

    /// A child is dropped that has neither ended nor was cancelled.
    fn lost(&self, id: u64) {
        let own = self.state.borrow_mut().running.remove(&id);
        if let Some(own) = own.flatten() {
            own.detach();
            let message = "this group's children can't finish any more: their executor was dropped";
            self.fail(Box::new(message));
        } // else it was never spawned, and whoever spawns it knows why
        self.owner.wake();
    }

    /// Ends the group by a panic that is no child's.
    fn fail(&self, payload: Payload) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            drop(state);
            drop_each([payload]);
            return;
        }
        state.panic = Some(payload);
        let mut cancelled = state.cancel();
        drop(state);
        cancelled.drop_each();
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        self.poll_until(cx, |state| {
            shrink_queue(&mut state.ended);
            if let Some(returned) = state.ended.pop_front() {
                return Some(Ok(Some(returned)));
            }
            let panic = state.panic.take();
            let panic = panic.map(Err);
            panic.or_else(|| (state.len() == 0).then_some(Ok(None)))
        })
        .map(|next| next.unwrap_or_else(|payload| resume_unwind(payload)))
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |state| (!state.is_full()).then_some(()))
    }

    /// Looks, and leaves the owner's waker if there's nothing to see.
    fn poll_until<T>(
        &self,
        cx: &mut Context<'_>,
        look: impl Fn(&mut State<R>) -> Option<T>,
    ) -> Poll<T> {
        let look = || look(&mut self.state.borrow_mut());
        if let Some(seen) = look() {
            return Poll::Ready(seen);
        }
        self.owner.register(cx.waker()); // user code, in which a child may end: so look again
        look().map_or(Poll::Pending, Poll::Ready)
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        let running = state
            .running
            .values()
            .flatten()
            .filter_map(Task::spawned_at);
        let waiting = state.waiting.iter().map(|(place, _)| *place);
        f.debug_struct(name)
            .field("running", &state.running.len())
            .field("waiting", &state.waiting.len())
            .field("ended", &state.ended.len())
            .field("children", &by_place(running.chain(waiting)))
            .finish_non_exhaustive()
    }
}

impl<R> State<R> {
    fn len(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.limit
    }

    /// Takes out the next child if it may run, and enters it among those that do.
    fn start_next(&mut self) -> Option<(u64, Place, Caught<'static, R>)> {
        if self.is_full() {
            return None;
        }
        shrink_queue(&mut self.waiting);
        let (place, future) = self.waiting.pop_front()?;
        let id = self.next_id;
        self.next_id += 1;
        self.running.insert(id, None);
        Some((id, place, future))
    }

    /// Hands out all children, to be dropped one by one under no borrow.
    fn cancel(&mut self) -> Cancelled<R> {
        self.closed = true;
        Cancelled {
            running: std::mem::take(&mut self.running),
            waiting: std::mem::take(&mut self.waiting),
        }
    }
}

struct Cancelled<R> {
    running: BTreeMap<u64, Option<Task<()>>>,
    waiting: VecDeque<(Place, Caught<'static, R>)>,
}

impl<R> Cancelled<R> {
    fn drop_each(&mut self) {
        drop_each(std::mem::take(&mut self.running).into_values());
        drop_each(std::mem::take(&mut self.waiting));
    }
}

/// What a dropped group has held.
struct Contents<R> {
    cancelled: Cancelled<R>,
    ended: VecDeque<R>,
    panic: Option<Payload>,
}

impl<R> Drop for Contents<R> {
    fn drop(&mut self) {
        self.cancelled.drop_each();
        drop_each(std::mem::take(&mut self.ended));
        drop_each(self.panic.take());
    }
}

/// A child, as a task.
struct Child<R: 'static> {
    id: u64,
    shared: Rc<Shared<R>>,
    future: Caught<'static, R>,
}

impl<R> Future for Child<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(Pin::new(&mut self.future).poll(cx));
        self.shared.ended(self.id, ended);
        Poll::Ready(())
    }
}

impl<R> Drop for Child<R> {
    /// Nothing, if it has ended or was cancelled by its group. Otherwise the executor was dropped:
    /// whoever joins must not wait for ever.
    fn drop(&mut self) {
        let is_running = self.shared.state.borrow().running.contains_key(&self.id);
        if is_running {
            self.future.clear(); // gone before anybody hears of it
            self.shared.lost(self.id);
        }
    }
}
