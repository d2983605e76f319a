//! Groups of tasks that end together.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{
    AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind,
};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use windlass_executor::{Task, budget, drop_nested, spawn_at};

use super::child::{Caught, Payload, count_by_location, drop_each};
use super::group_state::{Contents, State};
use super::listed_group::ListedGroup;
use crate::sync::waker_cell::WakerCell;
use crate::waits::{FacadeGroup, FacadeWait, ListWaits, Listed, ObjectKind, WaitKind};

/// Tasks that belong together and end together.
///
/// The group owns its children. The first one that fails, by an error or a panic, cancels the
/// others, and its error or panic propagates to the task that awaits the group. **Dropping the
/// group cancels all children**, so no child outlives the function that has spawned it, however
/// that function ends: by `return`, by `?`, by a panic, or by its own cancellation.
///
/// There are three kinds:
///
/// | children | constructor | the other children are cancelled by |
/// |---|---|---|
/// | return `Result<T, E>` | [`TaskGroup::new`] | the first `Err`, the first panic |
/// | return anything | [`TaskGroup::infallible`] | the first panic |
/// | are independent of each other | [`TaskGroup::independent`] | nothing |
///
/// The children are tasks, which run whether or not a task awaits the group. For children that
/// borrow from the surrounding function use a [`scope`](crate::task::scope()).
///
/// # Groups that live long
///
/// The connections of a server end with the server. If the handler of one panics, the others
/// continue, so their group is [`independent`](TaskGroup::independent). In a group of another kind
/// that panic would cancel all of them and drop all later ones. The accept loop, which only spawns,
/// would not notice.
///
/// The output of a child stays in the group until [`join_next`](TaskGroup::join_next) returns it.
/// Children that are never joined should return `()`, which takes no memory.
///
/// # As a stream
///
/// A group is a [`Stream`] of the outputs, in the order in which children end, with the methods of
/// `StreamExt`. It is a [`FusedStream`] too: in `futures::select!` a branch `group.next()` gets
/// `None` once when no child is left, and is then skipped until a child is spawned.
///
/// ```
/// use futures::StreamExt;
/// use windlass::block_on;
/// use windlass::task::TaskGroup;
///
/// let sum = block_on(async {
///     let group = TaskGroup::infallible();
///     for length in [3, 5, 7] {
///         group.spawn(async move { length });
///     }
///     group.fold(0, |sum, length| async move { sum + length }).await
/// });
/// assert_eq!(sum, 15);
/// ```
///
/// # Cancel safety
///
/// Dropping the future of [`join_next`](TaskGroup::join_next) or [`room`](TaskGroup::room) loses
/// nothing. [`close`](TaskGroup::close) takes the group by value, so dropping its future cancels
/// all children.
///
/// # Examples
///
/// ```
/// use windlass::block_on;
/// use windlass::task::TaskGroup;
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
/// The idea is from the nurseries of [trio](https://trio.readthedocs.io) (N. J. Smith, "Notes on
/// structured concurrency", 2018), and from Python's and Swift's task groups.
#[must_use = "dropping a group cancels its children: join them, or `close().await`"]
pub struct TaskGroup<R: 'static> {
    inner: Shared<R>,
}

impl<T: 'static, E: 'static> TaskGroup<Result<T, E>> {
    /// Creates a group whose children may fail. The first error cancels the other children.
    #[track_caller]
    pub fn new() -> Self {
        TaskGroup::failing_by(|ended| !matches!(ended, Ok(Ok(_))))
    }

    /// Waits until all children have ended, including those that they spawn meanwhile. Drops their
    /// outputs.
    ///
    /// # Errors
    ///
    /// Returns the first error of a child, after the futures of all children are dropped. In a
    /// group made by [`new`](TaskGroup::new) the error has cancelled them, in others they have
    /// ended.
    ///
    /// # Panics
    ///
    /// Resumes the panic of a child that has ended the group, after the futures of all children are
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all children.
    ///
    /// ```
    /// # use windlass::block_on;
    /// # use windlass::task::TaskGroup;
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
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl TaskGroup<()> {
    /// Waits until all children have ended, including those that they spawn meanwhile. For outputs
    /// other than `()` and `Result` use [`join_next`](TaskGroup::join_next).
    ///
    /// # Panics
    ///
    /// Resumes the panic of a child that has ended the group, after the futures of all children are
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all children.
    pub async fn close(mut self) {
        while let Some(()) = self.join_next().await {}
    }
}

impl<R> TaskGroup<R> {
    /// Creates a group of children that cannot fail, or that return errors as ordinary outputs.
    /// Only a panic cancels the other children.
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
    #[track_caller]
    pub fn infallible() -> Self {
        TaskGroup::failing_by(Result::is_err)
    }

    /// Creates a group of children that are independent of each other, and end with the group. The
    /// failure of one never cancels another. If one panics, the panic hook reports it, and
    /// [`join_next`](TaskGroup::join_next) returns nothing for it.
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
    #[track_caller]
    pub fn independent() -> Self {
        TaskGroup::failing_by(|_| false)
    }

    #[track_caller]
    fn failing_by(fails: fn(&Result<R, Payload>) -> bool) -> Self {
        let inner = Rc::pin(Listed::new(Inner {
            fails,
            state: RefCell::new(State::new()),
            owner: WakerCell::new(),
            listed: ListedGroup::new(Location::caller()),
        }));
        inner
            .listed
            .set(&inner.owner, &inner.state.borrow().running);
        inner.as_ref().join();
        TaskGroup { inner }
    }

    /// Limits the number of children that run at once. Further children wait, first in, first out,
    /// until a running one ends.
    ///
    /// # Panics
    ///
    /// Panics if the limit is zero. For children that may run now, panics as
    /// [`spawn`](TaskGroup::spawn) does.
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
        assert!(at_once > 0, "the limit of a group must be at least 1");
        self.inner.state.borrow_mut().limit = at_once;
        Inner::start_waiting(&self.inner); // the previous limit may have been lower
        self
    }

    /// Spawns a child. It is first polled after this call returns. After a failure has ended the
    /// group, the future is dropped.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime, as [`spawn`](crate::spawn()) does, if the child may run now.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        #[cfg(feature = "tracing")]
        let future = crate::tracing::traced(Location::caller(), Box::into_pin(Box::new(future)));
        Inner::spawn(&self.inner, Box::new(future));
    }

    /// Returns a handle with which children spawn children.
    ///
    /// ```
    /// # use windlass::block_on;
    /// # use windlass::task::{Spawner, TaskGroup};
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
            inner: self.inner.clone(),
        }
    }

    /// Waits for the next child to end and returns its output. Outputs are returned in the order in
    /// which children end. Returns `None` when no child is left. The failure that has ended the
    /// group comes last.
    ///
    /// # Panics
    ///
    /// Resumes the panic that has ended the group, after the outputs of children that ended before.
    /// In groups of all kinds, panics if children cannot end because their runtime was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn join_next(&mut self) -> Option<R> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// [`join_next`](TaskGroup::join_next) for hand-written futures.
    ///
    /// # Panics
    ///
    /// Panics as [`join_next`](TaskGroup::join_next) does.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        budget::poll_with(cx, |cx| self.inner.poll_next(cx))
    }

    /// Returns the output of a child that has ended, without waiting. `None` if all children that
    /// have ended were joined.
    ///
    /// # Panics
    ///
    /// Panics as [`join_next`](TaskGroup::join_next) does.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::{block_on, yield_now};
    /// block_on(async {
    ///     let mut group = TaskGroup::infallible();
    ///     group.spawn(async { "hauled" });
    ///     assert_eq!(group.try_join_next(), None);
    ///     yield_now().await;
    ///     assert_eq!(group.try_join_next(), Some("hauled"));
    /// });
    /// ```
    pub fn try_join_next(&mut self) -> Option<R> {
        let next = self.inner.state.borrow_mut().next_ended();
        next.map(|next| next.unwrap_or_else(|payload| resume_unwind(payload)))
    }

    /// Cancels all children, including those that wait to run. Their futures are dropped now, apart
    /// from the one of a child that makes this call, which is dropped when its poll returns. The
    /// outputs of children that have ended are kept, and further children may be spawned.
    ///
    /// ```
    /// # use windlass::task::TaskGroup;
    /// # use windlass::{block_on, yield_now};
    /// # use std::future::pending;
    /// block_on(async {
    ///     let mut group = TaskGroup::infallible();
    ///     group.spawn(async { "hauled" });
    ///     group.spawn(pending());
    ///     yield_now().await;
    ///     group.cancel_all();
    ///     assert_eq!(group.join_next().await, Some("hauled"));
    ///     assert_eq!(group.join_next().await, None);
    ///     group.spawn(async { "again" });
    ///     assert_eq!(group.join_next().await, Some("again"));
    /// });
    /// ```
    pub fn cancel_all(&self) {
        let mut cancelled = self.inner.state.borrow_mut().take_children();
        cancelled.drop_each();
        self.inner.owner.wake();
    }

    /// Waits until fewer children run than the [`limit`](TaskGroup::limit) allows. A server that
    /// awaits this before it accepts leaves further clients in the backlog of the listener.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// # use windlass::block_on;
    /// # use windlass::task::TaskGroup;
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
        poll_fn(|cx| budget::poll_with(cx, |cx| self.inner.poll_room(cx))).await;
    }

    /// Returns the number of children that have not ended, including those that wait to run.
    pub fn len(&self) -> usize {
        self.inner.state.borrow().len()
    }

    /// Returns true if all children have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R> Stream for TaskGroup<R> {
    type Item = R;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        self.poll_join_next(cx)
    }
}

/// Terminated once the stream has ended, until a child is spawned.
impl<R> FusedStream for TaskGroup<R> {
    fn is_terminated(&self) -> bool {
        self.inner.state.borrow().is_exhausted
    }
}

impl<R> Drop for TaskGroup<R> {
    fn drop(&mut self) {
        let mut state = self.inner.state.borrow_mut();
        let contents = Contents {
            cancelled: state.cancel(),
            ended: std::mem::take(&mut state.ended),
            panic: state.panic.take(),
        };
        drop(state);
        drop_nested(contents);
        self.inner.owner.clear();
    }
}

impl<R> fmt::Debug for TaskGroup<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("TaskGroup", f)
    }
}

/// Spawns children into a [`TaskGroup`]. Children own a clone to spawn further children.
///
/// It does not own the group. If the group was dropped or has failed, spawned futures are dropped.
///
/// See [`TaskGroup::spawner`] for an example.
pub struct Spawner<R: 'static> {
    inner: Shared<R>,
}

impl<R> Spawner<R> {
    /// Spawns a child as [`TaskGroup::spawn`] does.
    ///
    /// # Panics
    ///
    /// Panics as [`TaskGroup::spawn`] does.
    #[track_caller]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = R> + 'static,
    {
        #[cfg(feature = "tracing")]
        let future = crate::tracing::traced(Location::caller(), Box::into_pin(Box::new(future)));
        Inner::spawn(&self.inner, Box::new(future));
    }
}

impl<R> Clone for Spawner<R> {
    fn clone(&self) -> Self {
        let inner = self.inner.clone();
        Spawner { inner }
    }
}

impl<R> fmt::Debug for Spawner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt("Spawner", f)
    }
}

/// The payload of the panic of a group that can't end otherwise.
const RUNTIME_DROPPED: &str =
    "the children of this group cannot end, because their runtime was dropped";

/// The state that the group, its spawners and its children share.
struct Inner<R: 'static> {
    /// Returns whether the result of a child is a failure, which ends the group.
    fails: fn(&Result<R, Payload>) -> bool,
    /// No user code runs under the borrow.
    state: RefCell<State<R>>,
    /// The task that waits for the next end of a child.
    owner: WakerCell,
    listed: ListedGroup,
}

type Shared<R> = Pin<Rc<Listed<Inner<R>>>>;

impl<R> ListWaits for Inner<R> {
    fn kind(&self) -> ObjectKind {
        ObjectKind::Group
    }

    fn address(&self) -> usize {
        ptr::from_ref(&self.listed).expose_provenance()
    }

    fn list_waits(&self, waits: &mut Vec<FacadeWait>) {
        waits.extend(self.owner.id().map(|waker| FacadeWait {
            waker,
            kind: WaitKind::Group,
            object: ptr::from_ref(self).addr(),
            created_at: Some(self.listed.created_at),
            awaited_at: None,
        }));
    }

    fn list_group(&self, groups: &mut Vec<FacadeGroup>) {
        let state = self.state.borrow();
        let running = state
            .running
            .iter()
            .filter_map(|(_, _, task)| task.as_ref());
        groups.push(FacadeGroup {
            object: ptr::from_ref(self).addr(),
            created_at: self.listed.created_at,
            created_by: self.listed.created_by,
            children: running.filter_map(Task::id).collect(),
            queued: state.waiting.len(),
        });
    }
}

// A panic leaves it usable: no user code runs while its state is inconsistent.
impl<R> UnwindSafe for Inner<R> {}
impl<R> RefUnwindSafe for Inner<R> {}

impl<R> Inner<R> {
    #[track_caller]
    fn spawn(this: &Shared<R>, future: Box<dyn Future<Output = R>>) {
        let child = (Location::caller(), Caught::new(future));
        let mut state = this.state.borrow_mut();
        if state.closed {
            drop(state);
            drop(child);
            return;
        }
        state.is_exhausted = false;
        state.waiting.push_back(child);
        drop(state);
        Inner::start_waiting(this);
    }

    #[track_caller]
    fn start_waiting(this: &Shared<R>) {
        loop {
            let next = this.state.borrow_mut().start_next();
            let Some((id, spawned_at, future)) = next else {
                break;
            };
            let inner = this.clone();
            let task = spawn_at(spawned_at, Child { id, inner, future });
            let mut state = this.state.borrow_mut();
            if let Some((listed, entry)) = state.running.get_mut(id) {
                task.id().map(|task| listed.write(task));
                *entry = Some(task);
                continue;
            }
            let is_lost = state.lost == Some(id);
            drop(state); // the child or the group has ended meanwhile
            drop(task);
            if is_lost {
                this.fail(Box::new(RUNTIME_DROPPED));
            }
        }
    }

    /// Called by the child itself, in its last poll.
    fn child_ended(this: &Shared<R>, id: u64, result: Result<R, Payload>) {
        let mut state = this.state.borrow_mut();
        let Some(task) = state.running.remove(id) else {
            drop(state); // cancelled during this poll
            return;
        };
        let failed = (this.fails)(&result);
        let cancelled = failed.then(|| state.cancel());
        let mut unjoined = None;
        match result {
            Ok(returned) => state.ended.push_back(returned),
            Err(payload) if failed => state.panic = Some(payload),
            Err(payload) => unjoined = Some(payload), // the panic hook has reported it
        }
        drop(state);
        task.into_iter().for_each(Task::detach);
        cancelled.into_iter().for_each(|mut all| all.drop_each());
        drop_each(unjoined);
        let started = catch_unwind(AssertUnwindSafe(|| Inner::start_waiting(this)));
        started.unwrap_or_else(|payload| this.fail(payload));
        this.owner.wake();
    }

    /// Called when a child is dropped that has not ended and was not cancelled by the group.
    fn child_dropped(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        match state.running.remove(id) {
            Some(Some(task)) => {
                drop(state);
                task.detach();
                self.fail(Box::new(RUNTIME_DROPPED));
            }
            _ => {
                state.lost = Some(id);
                drop(state);
            }
        }
        self.owner.wake();
    }

    /// Ends the group with a panic that does not come from a child.
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
            if let Some(next) = state.next_ended() {
                return Some(next.map(Some));
            }
            let is_exhausted = state.len() == 0;
            state.is_exhausted |= is_exhausted;
            is_exhausted.then_some(Ok(None))
        })
        .map(|next| next.unwrap_or_else(|payload| resume_unwind(payload)))
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(cx, |state| (!state.is_full()).then_some(()))
    }

    /// Checks a condition, and registers the owner's waker if it is not met.
    fn poll_until<T>(
        &self,
        cx: &mut Context<'_>,
        check: impl Fn(&mut State<R>) -> Option<T>,
    ) -> Poll<T> {
        let check = || check(&mut self.state.borrow_mut());
        if let Some(output) = check() {
            return Poll::Ready(output);
        }
        self.owner.register(cx.waker()); // user code, in which a child may end
        check().map_or(Poll::Pending, Poll::Ready)
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        let running = state.running.iter();
        let running = running.filter_map(|(_, _, task)| task.as_ref()?.spawned_at());
        let waiting = state.waiting.iter().map(|(spawned_at, _)| *spawned_at);
        f.debug_struct(name)
            .field("running", &state.running.len())
            .field("waiting", &state.waiting.len())
            .field("ended", &state.ended.len())
            .field("children", &count_by_location(running.chain(waiting)))
            .finish_non_exhaustive()
    }
}

/// The future of a child's task.
struct Child<R: 'static> {
    id: u64,
    inner: Shared<R>,
    future: Caught<'static, R>,
}

impl<R> Future for Child<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let result = ready!(Pin::new(&mut self.future).poll(cx));
        Inner::child_ended(&self.inner, self.id, result);
        Poll::Ready(())
    }
}

impl<R> Drop for Child<R> {
    /// If the child has not ended and was not cancelled by its group, its executor was dropped. The
    /// owner must not wait forever for it.
    fn drop(&mut self) {
        let is_running = self.inner.state.borrow().running.contains(self.id);
        if is_running {
            self.future.clear(); // before the owner is woken
            self.inner.child_dropped(self.id);
        }
    }
}
