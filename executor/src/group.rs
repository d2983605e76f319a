//! Tasks that belong together: one fails, all end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::child::{Caught, Payload};
use crate::task::{Task, quietly};

/// Tasks that belong together, and end together.
///
/// The group owns its children. The first one that fails, by an error or by a panic, cancels the
/// rest, and its error or panic comes out where the group is awaited. **Dropping the group cancels
/// all**, so no child outlives the function that has spawned it, however that is left: by `return`,
/// by `?`, by a panic, or because it was itself cancelled.
///
/// There are two kinds, by what the children return:
///
/// | children return | made by | the rest is cancelled by |
/// |---|---|---|
/// | `Result<T, E>` | [`TaskGroup::new`] | the first `Err`, the first panic |
/// | anything else | [`TaskGroup::infallible`] | the first panic |
///
/// The children are tasks: they run whether or not anybody waits for the group. Those that shall
/// borrow from the function around them are for [`scope`](crate::scope()).
///
/// What a child has returned is kept until [`join_next`](TaskGroup::join_next) hands it out. For a
/// group that lives long and that nobody joins, such as that of a server's connections, let the
/// children return `()`, which takes no memory.
///
/// # Cancel safety
///
/// Nothing is lost when a [`join_next`](TaskGroup::join_next) or [`room`](TaskGroup::room) is
/// dropped. [`close`](TaskGroup::close) takes the group with it, so dropping that cancels all.
///
/// # Examples
///
/// ```
/// use windlass_executor::{block_on, Executor, TaskGroup};
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
/// block_on(Executor::new().run(async {
///     assert_eq!(sum(["sheet", "stay", "halyard"]).await, Ok(16));
///     assert_eq!(sum(["sheet", "", "halyard"]).await, Err("no rope".into()));
/// }));
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
        TaskGroup::failing_by(Result::is_err)
    }

    /// Waits until all children have ended, also those that they spawn meanwhile. What they
    /// returned is dropped.
    ///
    /// # Errors
    ///
    /// The first error of a child. The others are gone by then, and their futures dropped.
    ///
    /// # Panics
    ///
    /// Resumes the first panic of a child; likewise.
    ///
    /// # Cancel safety
    ///
    /// Dropping this cancels all children.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor, TaskGroup};
    /// # use std::future::pending;
    /// block_on(Executor::new().run(async {
    ///     let group = TaskGroup::new();
    ///     group.spawn(pending::<Result<(), _>>());
    ///     group.spawn(async { Err("the rope broke") });
    ///     assert_eq!(group.close().await, Err("the rope broke"));
    /// }));
    /// ```
    pub async fn close(mut self) -> Result<(), E> {
        while let Some(ended) = self.join_next().await {
            ended?;
        }
        Ok(())
    }
}

impl<T: 'static, E: 'static> Default for TaskGroup<Result<T, E>> {
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup<()> {
    /// Waits until all children have ended, also those that they spawn meanwhile.
    ///
    /// # Panics
    ///
    /// Resumes the first panic of a child. The others are gone by then, and their futures dropped.
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
    /// # use windlass_executor::{block_on, yield_now, Executor, TaskGroup};
    /// block_on(Executor::new().run(async {
    ///     let mut group = TaskGroup::infallible();
    ///     group.spawn(async { yield_now().await; "last" });
    ///     group.spawn(async { "first" });
    ///     assert_eq!(group.join_next().await, Some("first"));
    ///     assert_eq!(group.join_next().await, Some("last"));
    ///     assert_eq!(group.join_next().await, None);
    /// }));
    /// ```
    pub fn infallible() -> Self {
        TaskGroup::failing_by(|_| false)
    }

    fn failing_by(fails: fn(&R) -> bool) -> Self {
        let state = State {
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            limit: usize::MAX,
            next_id: 0,
            ended: VecDeque::new(),
            panic: None,
            owner: None,
            closed: false,
        };
        let state = RefCell::new(state);
        TaskGroup {
            shared: Rc::new(Shared { fails, state }),
        }
    }

    /// Lets at most so many children run at once. Those that are spawned beyond wait, in the order
    /// of spawning, and take the place of one that has ended.
    ///
    /// # Panics
    ///
    /// If it is zero.
    ///
    /// ```
    /// # use windlass_executor::{block_on, yield_now, Executor, TaskGroup};
    /// # use std::{cell::Cell, rc::Rc};
    /// let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    /// block_on(Executor::new().run(async {
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
    /// }));
    /// assert_eq!(most.get(), 2);
    /// ```
    #[track_caller]
    pub fn limit(self, at_once: usize) -> Self {
        assert!(at_once > 0, "a group with a limit of zero would never end");
        self.shared.state.borrow_mut().limit = at_once;
        self
    }

    /// Spawns a child. It's polled later, never at once. After a child has failed the group takes
    /// no more: the future is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a running executor, as [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        self.shared.spawn(future);
    }

    /// With it children spawn children.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor, Spawner, TaskGroup};
    /// fn count_down(from: u32, group: Spawner<()>) {
    ///     let siblings = group.clone();
    ///     group.spawn(async move {
    ///         if from > 0 {
    ///             count_down(from - 1, siblings);
    ///         }
    ///     });
    /// }
    ///
    /// block_on(Executor::new().run(async {
    ///     let group = TaskGroup::infallible();
    ///     count_down(10, group.spawner());
    ///     group.close().await;
    /// }));
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
    /// Resumes the panic of a child, after what had ended before it was handed out.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn join_next(&mut self) -> Option<R> {
        poll_fn(|cx| self.shared.poll_next(cx)).await
    }

    /// Waits until fewer children run than the [`limit`](TaskGroup::limit) allows. A server that
    /// waits for room before it accepts leaves the clients beyond to the system's queue.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// ```
    /// # use windlass_executor::{block_on, Executor, TaskGroup};
    /// block_on(Executor::new().run(async {
    ///     let mut group = TaskGroup::infallible().limit(1);
    ///     for _ in 0..10 {
    ///         group.room().await;
    ///         assert!(group.is_empty());
    ///         group.spawn(async {});
    ///     }
    /// }));
    /// ```
    pub async fn room(&mut self) {
        poll_fn(|cx| self.shared.poll_room(cx)).await;
    }

    /// How many children have not ended, those that wait for their turn included.
    pub fn len(&self) -> usize {
        let state = self.shared.state.borrow();
        state.running.len() + state.waiting.len()
    }

    /// True if no child is left that has not ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R> Drop for TaskGroup<R> {
    fn drop(&mut self) {
        let mut state = self.shared.state.borrow_mut();
        let unwanted = (state.cancel(), std::mem::take(&mut state.ended));
        let forgotten = (state.panic.take(), state.owner.take());
        drop(state);
        unwanted.0.drop_each();
        unwanted.1.into_iter().for_each(|it| quietly(|| drop(it)));
        quietly(|| drop(forgotten));
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
    /// Outside of a running executor.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        self.shared.spawn(future);
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
struct Shared<R: 'static> {
    /// Whether a child that returned this has failed.
    fails: fn(&R) -> bool,
    /// Borrowed for moments in which no user code runs.
    state: RefCell<State<R>>,
}

/// Where a child was spawned.
type Place = &'static Location<'static>;

struct State<R> {
    /// By number, which is the order of starting.
    running: BTreeMap<u64, Task<()>>,
    /// There are some only while as many run as may.
    waiting: VecDeque<(Place, Caught<'static, R>)>,
    limit: usize,
    next_id: u64,
    /// What children returned, until it's joined; a failure is the last.
    ended: VecDeque<R>,
    /// A panic came later than all that is in `ended`, since it has ended the group.
    panic: Option<Payload>,
    /// Who joins. Taken by the first end of a child after the owner has looked.
    owner: Option<Waker>,
    /// A child has failed, or the group was dropped.
    closed: bool,
}

impl<R> Shared<R> {
    #[track_caller]
    fn spawn<F>(self: &Rc<Self>, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        let state = self.state.borrow();
        let (closed, is_full) = (state.closed, state.is_full());
        drop(state);
        if closed {
            drop(future);
        } else if is_full {
            let child = (Location::caller(), Caught::new(future));
            self.state.borrow_mut().waiting.push_back(child);
        } else {
            self.start(Location::caller(), Caught::new(future));
        }
    }

    #[track_caller]
    fn start(self: &Rc<Self>, place: Place, future: Caught<'static, R>) {
        let mut state = self.state.borrow_mut();
        let id = state.next_id;
        state.next_id += 1;
        drop(state);
        let shared = self.clone();
        let task = crate::spawn_at(place, Child { id, shared, future });
        // It was not polled yet. If it's over all the same, its executor is being dropped.
        if !task.is_finished() {
            self.state.borrow_mut().running.insert(id, task);
        }
    }

    /// Called by the child itself, in its last poll.
    fn ended(self: &Rc<Self>, id: u64, ended: Result<R, Payload>) {
        let mut state = self.state.borrow_mut();
        let Some(own) = state.running.remove(&id) else {
            drop(state); // cancelled in this very poll: nobody wants to know
            return;
        };
        let failed = ended.as_ref().map_or(true, self.fails);
        let cancelled = failed.then(|| state.cancel());
        match ended {
            Ok(returned) => state.ended.push_back(returned),
            Err(payload) => state.panic = Some(payload),
        }
        let owner = state.owner.take();
        drop(state);
        own.detach();
        cancelled.into_iter().for_each(Cancelled::drop_each);
        self.start_waiting();
        owner.into_iter().for_each(Waker::wake);
    }

    fn start_waiting(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            let next = if state.is_full() {
                None
            } else {
                state.waiting.pop_front()
            };
            drop(state);
            let Some((place, next)) = next else { break };
            self.start(place, next);
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        self.poll_until(cx, |state| {
            if let Some(returned) = state.ended.pop_front() {
                return Some(Ok(Some(returned)));
            }
            let panic = state.panic.take();
            let panic = panic.map(Err);
            panic.or_else(|| state.running.is_empty().then_some(Ok(None)))
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
        let mut state = self.state.borrow_mut();
        if let Some(seen) = look(&mut state) {
            return Poll::Ready(seen);
        }
        let known = state.owner.as_ref();
        if known.is_some_and(|known| known.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(state);
        let owner = cx.waker().clone(); // user code, in which a child may end: so look again
        let old = self.state.borrow_mut().owner.replace(owner);
        drop(old); // user code, too
        look(&mut self.state.borrow_mut()).map_or(Poll::Pending, Poll::Ready)
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct(name)
            .field("running", &state.running.len())
            .field("waiting", &state.waiting.len())
            .field("ended", &state.ended.len())
            .finish_non_exhaustive()
    }
}

impl<R> State<R> {
    fn is_full(&self) -> bool {
        self.running.len() >= self.limit
    }

    /// Hands out all children, to be dropped under no borrow.
    fn cancel(&mut self) -> Cancelled<R> {
        self.closed = true;
        Cancelled {
            running: std::mem::take(&mut self.running),
            waiting: std::mem::take(&mut self.waiting),
        }
    }
}

struct Cancelled<R> {
    running: BTreeMap<u64, Task<()>>,
    waiting: VecDeque<(Place, Caught<'static, R>)>,
}

impl<R> Cancelled<R> {
    /// One that panics in its drop doesn't keep the others from being dropped.
    fn drop_each(self) {
        let running = self.running.into_values();
        running.for_each(|task| quietly(|| drop(task)));
        let waiting = self.waiting.into_iter();
        waiting.for_each(|future| quietly(|| drop(future)));
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
            let message = "this group's children can't finish any more: their executor was dropped";
            self.shared.ended(self.id, Err(Box::new(message)));
        }
    }
}
