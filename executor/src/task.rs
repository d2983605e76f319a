//! The handle to a spawned future.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::future::FusedFuture;

use crate::abort::AbortHandle;
use crate::budget;
use crate::cell::{
    ABORTED, CANCELLED, DETACHED, DONE, EMPTY, FOREIGN_JOINER, NAMED, OutputRef, RUNNING, Ref,
};
use crate::current;
use crate::fallback;
use crate::inner::{ExecutorInner, SpawnOutcome, too_many_tasks};
use crate::panic::Panic;
use crate::pulse::reports_polls;
use crate::task_id::TaskId;
use crate::waker::index_in;

/// A spawned task. Await it for its output.
///
/// Tasks are structured: **dropping a `Task` cancels it**, that is, drops its future at once. To
/// let it run on by itself, [`detach`](Task::detach) it.
///
/// | to get | write | result |
/// |---|---|---|
/// | the output | `task.await` | `T`, or the task's panic resumes here |
/// | the output, or the panic as a value | `task.catch().await` | `Result<T, Panic>` |
/// | the end of the task | `drop(task)` or `task.cancel().await` | nothing, or `Option<T>` |
/// | a task without a handle | `task.detach()` | |
///
/// # Patterns that drop a task
///
/// A pattern that binds no name leaves the task in a temporary value, which is dropped at the end
/// of the statement. That cancels the task, usually before its first poll.
///
/// | written | the task ends | reported by |
/// |---|---|---|
/// | `spawn(job());` | at the end of the statement | the compiler |
/// | `let _ = spawn(job());` | at the end of the statement | `clippy::let_underscore_future` |
/// | `let (addr, _) = start();` | at the end of the statement | nothing |
/// | `let Started { addr, .. } = start();` | at the end of the statement | nothing |
/// | `let addr = start().0;` | at the end of the statement | nothing |
/// | `let (addr, _task) = start();` | at the end of the block | |
///
/// So a function that starts a task in the background for its caller should detach the task, or own
/// it in a value that the caller has to use, such as the connection that the task serves.
///
/// # Tasks that own tasks
///
/// A task that is dropped drops the tasks of the handles it holds, in a variable, a group or a
/// channel. All are gone when the drop of the first returns, and a chain of any length takes little
/// stack. Up to a depth of 32 each is dropped in place. Deeper ones are dropped after their owner,
/// depth first and in the order of the code. So a destructor finds the future of a task that it has
/// just dropped gone, unless it is that deep inside the drops of other tasks. Deeper tasks are
/// dropped even if a destructor panics.
///
/// If the future's poll panics, the future is dropped while the thread is panicking. A
/// [`std::sync::MutexGuard`] in it then poisons its mutex.
///
/// # Cancel safety
///
/// Awaiting `&mut task` loses nothing when that await is dropped. Awaiting `task` by value, and
/// then dropping the await, drops the task with it, which cancels it.
///
/// # Panics
///
/// Awaiting resumes the task's panic, if it panicked. It also panics if the executor was dropped
/// before the task finished, if an [`AbortHandle`](crate::AbortHandle) has cancelled the task, or
/// if the output was taken before.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, spawn};
///
/// let sum = block_on(async {
///     let parts = [spawn(async { 1 }), spawn(async { 2 })];
///     let mut sum = 0;
///     for part in parts {
///         sum += part.await;
///     }
///     sum
/// });
/// assert_eq!(sum, 3);
/// ```
#[must_use = "a dropped task is cancelled: await it, bind it to a name other than `_`, or call \
              `detach()`"]
pub struct Task<T> {
    /// `None` once the output was taken or the task detached, when nothing is left to cancel.
    cell: Option<OutputRef<T>>,
}

// The output is never pinned inside the handle.
impl<T> Unpin for Task<T> {}

impl<T: 'static> Task<T> {
    /// ① Puts a new task into the table and on the run queue. The loop polls it later.
    #[inline(always)]
    pub(crate) fn spawn(inner: &ExecutorInner, cell: OutputRef<T>) -> Self {
        let outcome = inner.insert(&cell);
        let task = Task { cell: Some(cell) };
        match outcome {
            SpawnOutcome::Queued => task,
            outcome => task.finish_spawn(inner, outcome),
        }
    }

    /// As [`spawn`](Self::spawn), on the entered executor.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn spawn_here(cell: OutputRef<T>) -> Self {
        let outcome = current::insert(&cell);
        let task = Task { cell: Some(cell) };
        match outcome {
            Some(SpawnOutcome::Queued) => task,
            outcome => task.finish_spawn_here(outcome),
        }
    }

    #[cold]
    #[track_caller]
    fn finish_spawn_here(self, outcome: Option<SpawnOutcome>) -> Self {
        let inner = current::entered().or_else(fallback::newest);
        match (inner, &self.cell) {
            (Some(inner), Some(cell)) => {
                let outcome = outcome.unwrap_or_else(|| inner.insert(cell));
                self.finish_spawn(&inner, outcome)
            }
            _ => {
                self.detach(); // drops the future, which is user code
                panic!(
                    "`spawn` was called outside of a windlass runtime: call it from inside of \
                     `windlass::block_on`, hold the guard of `Runtime::enter`, or use \
                     `Runtime::spawn`"
                );
            }
        }
    }

    /// A task of an executor that is gone.
    #[cold]
    pub(crate) fn without_executor(cell: OutputRef<T>) -> Self {
        let task = Task { cell: Some(cell) };
        task.cell.iter().for_each(|cell| cell.drop_future()); // user code
        task
    }

    /// The slow path of a spawn, which runs user code or panics. After a panic a task that was
    /// queued runs on, detached.
    #[cold]
    fn finish_spawn(self, inner: &ExecutorInner, outcome: SpawnOutcome) -> Self {
        let finished = catch_unwind(AssertUnwindSafe(|| match outcome {
            SpawnOutcome::Queued => {}
            SpawnOutcome::NeedsWakeup => inner.wake_driver(),
            SpawnOutcome::Closed => self.cell.iter().for_each(|cell| cell.drop_future()),
            SpawnOutcome::Full => panic!("{}", too_many_tasks()),
        }));
        if let Err(payload) = finished {
            self.detach();
            resume_unwind(payload);
        }
        self
    }

    /// Gives the task a name, for `Debug` and for the messages of its panics. Without a name these
    /// show where it was spawned.
    ///
    /// ```
    /// # use windlass::{block_on, spawn};
    /// block_on(async {
    ///     let task = spawn(async { panic!("no rope left") }).named("hauler");
    ///     let panic = task.catch().await.unwrap_err();
    ///     assert!(panic.to_string().starts_with("task `hauler`, spawned at "));
    /// });
    /// ```
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into(); // perhaps user code
        let cell = self.cell.as_ref().filter(|cell| !cell.has(EMPTY));
        if let Some((cell, inner)) = cell.and_then(|cell| Some((cell, executor_of(cell)?))) {
            inner.set_name(cell, name);
        }
        self
    }

    /// Returns the id of the task. `None` once the output was taken.
    pub fn id(&self) -> Option<TaskId> {
        TaskId::of_key(self.cell.as_ref()?.key.get())
    }

    /// Lets the task run on by itself. Its output is dropped when it ends. A panic ends the task
    /// alone. The panic hook reports it.
    ///
    /// ```
    /// # use windlass::{block_on, spawn, yield_now};
    /// # use std::{cell::Cell, rc::Rc};
    /// let done = Rc::new(Cell::new(false));
    /// let flag = done.clone();
    /// block_on(async {
    ///     spawn(async move { flag.set(true) }).detach();
    ///     yield_now().await;
    /// });
    /// assert!(done.get());
    /// ```
    pub fn detach(mut self) {
        if let Some(cell) = self.cell.take() {
            detach(cell.into_ref());
        }
    }

    /// Returns true if the task has finished or panicked, or if its executor was dropped.
    ///
    /// ```
    /// # use windlass::{block_on, spawn, yield_now};
    /// block_on(async {
    ///     let task = spawn(async {});
    ///     assert!(!task.is_finished());
    ///     yield_now().await;
    ///     assert!(task.is_finished());
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.cell.as_ref().is_none_or(|cell| cell.has(DONE | EMPTY))
    }

    /// Returns a handle that cancels the task from elsewhere on this thread, also after
    /// [`detach`](Task::detach).
    ///
    /// # Panics
    ///
    /// Panics if the task has more than 32,000 handles that are not clones of each other.
    ///
    /// ```
    /// # use windlass::{block_on, spawn, yield_now};
    /// block_on(async {
    ///     let task = spawn(std::future::pending::<()>());
    ///     let handle = task.abort_handle();
    ///     task.detach();
    ///     yield_now().await;
    ///     assert!(!handle.is_finished());
    ///     handle.abort();
    ///     assert!(handle.is_finished());
    /// });
    /// ```
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(self.cell.as_deref())
    }

    /// Returns where the task was spawned. `None` once its output has been taken.
    ///
    /// ```
    /// # use windlass::{block_on, spawn};
    /// block_on(async {
    ///     let task = spawn(async {});
    ///     assert_eq!(task.spawned_at().unwrap().file(), file!());
    /// });
    /// ```
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.cell.as_ref().map(|cell| cell.spawned_at)
    }

    /// Cancels the task. Returns `None` once its future has been dropped, and `Some` if the task
    /// had finished before.
    ///
    /// A task that cancels itself ends when its poll returns. It never returns from this await.
    ///
    /// # Panics
    ///
    /// Resumes the task's panic, if it had panicked before.
    ///
    /// # Cancel safety
    ///
    /// The task is cancelled at the first poll, or when the future is dropped before it.
    ///
    /// ```
    /// # use windlass::{block_on, spawn, yield_now};
    /// block_on(async {
    ///     let endless = spawn(std::future::pending::<()>());
    ///     assert_eq!(endless.cancel().await, None);
    ///
    ///     let quick = spawn(async { 7 });
    ///     yield_now().await;
    ///     assert_eq!(quick.cancel().await, Some(7));
    /// });
    /// ```
    pub async fn cancel(mut self) -> Option<T> {
        let result = if cancel(self.cell.as_ref()?) {
            self.take_output()
        } else {
            poll_fn(|cx| self.poll_end(cx)).await
        };
        result.map(|result| result.unwrap_or_else(|panic| panic.resume()))
    }

    /// Waits until the task ends, and returns its panic as a value.
    ///
    /// # Panics
    ///
    /// Panics if the executor was dropped before the task finished.
    ///
    /// # Cancel safety
    ///
    /// Dropping this drops the task with it, which cancels it.
    ///
    /// ```
    /// # use windlass::{block_on, spawn};
    /// block_on(async {
    ///     let task = spawn(async { panic!("no rope left") });
    ///     let panic = task.catch().await.unwrap_err();
    ///     assert_eq!(panic.message(), Some("no rope left"));
    /// });
    /// ```
    pub async fn catch(mut self) -> Result<T, Panic> {
        poll_fn(|cx| self.poll_catch(cx)).await
    }

    #[inline]
    fn poll_catch(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Panic>> {
        match ready!(self.poll_end(cx)) {
            Some(result) => Poll::Ready(result),
            None => Poll::Ready(Err(self.no_output())),
        }
    }

    /// `None` if there will never be an output.
    #[inline]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Panic>>> {
        let Some(cell) = &self.cell else {
            return Poll::Ready(None);
        };
        if !cell.has(DONE | EMPTY) {
            match index_in(cell.key.get().executor(), cx.waker()) {
                Some(index) if !cell.has(FOREIGN_JOINER) => {
                    cell.set_joiner(Some(index));
                    return Poll::Pending;
                }
                _ => set_joiner_slow(cell, cx.waker()),
            }
            // Cloning a waker is user code, during which the task may have ended.
            if !cell.has(DONE | EMPTY) {
                return Poll::Pending;
            }
        }
        ready!(budget::poll_charge(cx));
        Poll::Ready(self.take_output())
    }

    #[inline]
    fn take_output(&mut self) -> Option<Result<T, Panic>> {
        let cell = self.cell.take_if(|cell| cell.has(DONE))?;
        let mut output = cell.take();
        if let Some(Err(panic)) = &mut output {
            panic.set_task(describe(&cell));
        }
        forget_name(&cell);
        output
    }

    /// Returns the error of a task that was aborted. Panics if the task ended in another way.
    #[cold]
    fn no_output(&mut self) -> Panic {
        if let Some(cell) = self.cell.take_if(|cell| cell.has(ABORTED)) {
            let panic = Panic::aborted(describe(&cell));
            forget_name(&cell);
            return panic;
        }
        match &self.cell {
            None => panic!("this task was awaited to its end before"),
            Some(cell) => panic!(
                "{} can't finish any more: its executor was dropped",
                describe(cell)
            ),
        }
    }
}

impl<T: 'static> Future for Task<T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(self.poll_catch(cx)) {
            Ok(output) => Poll::Ready(output),
            Err(panic) => panic.resume(),
        }
    }
}

/// Terminated once its output was taken. A task that was aborted has its error as the output.
impl<T: 'static> FusedFuture for Task<T> {
    fn is_terminated(&self) -> bool {
        self.cell.is_none()
    }
}

impl<T> Drop for Task<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            drop_handle(cell.into_ref());
        }
    }
}

/// Spawns a task on the executor that runs on this thread.
///
/// Neither the future nor its output need be `Send`. The loop polls it later, never at once.
///
/// # Panics
///
/// Panics outside of a running executor. There, use [`Executor::spawn`](crate::Executor::spawn), or
/// [`Executor::enter`](crate::Executor::enter) first.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, spawn};
///
/// block_on(async {
///     assert_eq!(spawn(async { 7 }).await, 7);
/// });
/// ```
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    Task::spawn_here(OutputRef::new(future, Location::caller()))
}

/// Spawns a task on behalf of other code. `Debug` and panic messages report `spawned_at` as the
/// place where it was spawned.
///
/// # Panics
///
/// Panics as [`spawn`] does.
///
/// # Examples
///
/// ```
/// use std::panic::Location;
/// use windlass::{Task, block_on, spawn, spawn_at};
///
/// /// Spawned later, but `Debug` and panic messages name the caller.
/// #[track_caller]
/// fn later() -> impl FnOnce() -> Task<u32> {
///     let caller = Location::caller();
///     move || spawn_at(caller, async { 7 })
/// }
///
/// block_on(async {
///     assert_eq!(later()().await, 7);
/// });
/// ```
#[track_caller]
pub fn spawn_at<F>(spawned_at: &'static Location<'static>, future: F) -> Task<F::Output>
where
    F: Future + 'static,
{
    Task::spawn_here(OutputRef::new(future, spawned_at))
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = self.cell.as_ref();
        f.debug_struct("Task")
            .field("task", &cell.map(|cell| describe(cell)))
            .field("finished", &cell.is_none_or(|cell| cell.has(DONE | EMPTY)))
            .finish()
    }
}

/// The executor of the task, if it still exists.
fn executor_of(cell: &Ref) -> Option<Rc<ExecutorInner>> {
    current::find_local(cell.key.get().executor())
}

/// Drops the future of an unfinished task. Returns false if the task is running. It then ends when
/// its poll returns.
#[inline(always)]
fn cancel(cell: &Ref) -> bool {
    if cell.has(RUNNING) {
        cell.set(CANCELLED);
        return false;
    }
    if !cell.has(DONE | EMPTY) {
        let inner = executor_of(cell).expect("an unfinished task has its executor");
        let removed = inner.remove(cell.key.get());
        if reports_polls() {
            drop_published(&inner, cell);
        } else {
            forget_name(cell); // before user code, which may panic
            cell.drop_future();
        }
        drop(removed); // a foreign joiner's drop is user code, which finds the task gone
    }
    true
}

/// Cancels the task when its handle is dropped.
#[inline(never)]
fn drop_handle(cell: Ref) {
    if cancel(&cell) {
        forget_name(&cell);
        cell.drop_output();
    } else {
        detach(cell);
    }
}

/// Makes sure that the output is dropped, now or when the task ends.
fn detach(cell: Ref) {
    cell.set(DETACHED);
    cell.set_joiner(None);
    if cell.has(FOREIGN_JOINER) {
        let joiner = executor_of(&cell).and_then(|inner| inner.table().take_foreign_joiner(&cell));
        drop(joiner);
    }
    if cell.has(DONE | EMPTY) {
        forget_name(&cell);
        cell.drop_output();
    }
}

/// Registers a foreign joiner, or replaces one.
#[cold]
fn set_joiner_slow(cell: &Ref, waker: &Waker) {
    let Some(inner) = executor_of(cell) else {
        return;
    };
    let is_known = |known: &Waker| known.will_wake(waker);
    if inner.table().foreign_joiner(cell).is_some_and(is_known) {
        return;
    }
    let index = index_in(inner.id, waker);
    let old = if index.is_some() {
        cell.set_joiner(index);
        inner.table().take_foreign_joiner(cell)
    } else {
        let waker = waker.clone(); // user code, outside of any borrow
        inner.table().set_foreign_joiner(cell, waker)
    };
    drop(old); // also user code
}

/// Drops the future of a cancelled task, and shows other threads which task that is.
#[cold]
fn drop_published(inner: &ExecutorInner, cell: &Ref) {
    let _dropping = inner.pulse.start_drop(cell.key.get(), cell.spawned_at);
    let _named = Named(cell);
    cell.drop_future();
}

/// Forgets the name of a task when it is dropped.
struct Named<'a>(&'a Ref);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        forget_name(self.0);
    }
}

#[inline]
fn forget_name(cell: &Ref) {
    if cell.has(NAMED) {
        forget_name_slow(cell);
    }
}

#[cold]
fn forget_name_slow(cell: &Ref) {
    if let Some(inner) = executor_of(cell) {
        inner.forget_name(cell);
    }
}

fn describe(cell: &Ref) -> String {
    match executor_of(cell) {
        Some(inner) => inner.describe_task(cell),
        None => cell.describe(None),
    }
}

#[cfg(all(test, not(windlass_loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_spawn_into_a_full_table_panics_with_the_limit() {
        struct SetOnDrop(Rc<Cell<bool>>);
        impl Drop for SetOnDrop {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = Rc::new(Cell::new(false));
        let guard = SetOnDrop(dropped.clone());
        let future = async move { drop(guard) };
        let cell = Some(OutputRef::new(future, Location::caller()));
        let spawn = || Task { cell }.finish_spawn(&ExecutorInner::new(), SpawnOutcome::Full);
        let payload = catch_unwind(AssertUnwindSafe(spawn)).unwrap_err();
        let limit = if cfg!(target_pointer_width = "64") {
            "16777216"
        } else {
            "16384"
        };
        let expected = format!("more than {limit} tasks at once on one executor");
        assert_eq!(payload.downcast_ref::<String>(), Some(&expected));
        assert!(dropped.get());
    }
}
