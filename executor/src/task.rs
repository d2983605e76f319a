//! A spawned future, and the handle to it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::budget;
use crate::cell::{
    self, CANCELLED, DETACHED, DONE, EMPTY, NAMED, NOBODY, NewCell, OTHER_JOINER, OutputRef,
    RUNNING, Ref,
};
use crate::current;
use crate::inner::{ExecutorInner, SpawnOutcome, too_many_tasks};
use crate::panic::Panic;
use crate::waker::index_in;

/// A spawned task. Await it for its output.
///
/// Tasks are structured: **dropping a `Task` cancels it**, that is, drops its future at once. Let
/// go of it with [`detach`](Task::detach) if it shall live on by itself.
///
/// | you want | write | and get |
/// |---|---|---|
/// | the output | `task.await` | `T`; a panic of the task goes on here |
/// | the output, or the panic as a value | `task.catch().await` | `Result<T, Panic>` |
/// | to stop it | `drop(task)` or `task.cancel().await` | nothing, or `Option<T>` |
/// | to let it go | `task.detach()` | |
///
/// # Tasks that own tasks
///
/// A task that is dropped drops the tasks whose handles it holds, wherever they are: in a variable,
/// a `windlass::task::TaskGroup`, a channel. All are gone when the drop of the first returns,
/// and a chain of any length takes little stack. Up to a depth of 32 each is dropped in place.
/// Deeper ones are dropped after their owner has been, depth first and in the order of the code.
/// So a destructor finds the future of a task that it has just dropped gone, unless it is that deep
/// inside the drops of other tasks. A destructor that panics keeps no deeper task from being
/// dropped.
///
/// If the future's poll panics, the future is dropped while the thread is panicking: a
/// [`std::sync::MutexGuard`] in it poisons its mutex.
///
/// # Cancel safety
///
/// Awaiting `&mut task` loses nothing when that await is dropped. Awaiting `task` by value, and
/// then dropping the await, drops the task with it, which cancels it.
///
/// # Panics
///
/// Awaiting resumes the task's panic, if it panicked. It panics as well if the task can't finish
/// any more, because its executor was dropped, or if the output was taken before.
///
/// # Examples
///
/// ```
/// use windlass_executor::{block_on, spawn, Executor};
///
/// let executor = Executor::new();
/// let sum = block_on(executor.run(async {
///     let parts = [spawn(async { 1 }), spawn(async { 2 })];
///     let mut sum = 0;
///     for part in parts {
///         sum += part.await;
///     }
///     sum
/// }));
/// assert_eq!(sum, 3);
/// ```
#[must_use = "a dropped task is cancelled: await it, keep it, or call `detach()`"]
pub struct Task<T> {
    /// None once the output was handed out, or the task let go: nothing is left to cancel.
    cell: Option<OutputRef<T>>,
}

// The output is never pinned inside the handle.
impl<T> Unpin for Task<T> {}

impl<T: 'static> Task<T> {
    /// ① Puts a new task into the table and on the run queue.
    #[inline(always)]
    pub(crate) fn spawn(inner: &ExecutorInner, new: NewCell<T>) -> Self {
        let outcome = inner.insert(new.in_table, new.in_queue);
        let cell = Some(new.handle);
        let task = Task { cell };
        match outcome {
            SpawnOutcome::Queued => task,
            outcome => task.finish_spawn(inner, outcome),
        }
    }

    /// As [`spawn`](Self::spawn), on the entered executor.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn spawn_here(new: NewCell<T>) -> Self {
        let insert = |inner: &ExecutorInner| inner.insert(new.in_table, new.in_queue);
        let outcome = current::with_entered(|inner| inner.as_deref().map(insert));
        let cell = Some(new.handle);
        let task = Task { cell };
        match outcome {
            Some(SpawnOutcome::Queued) => task,
            outcome => task.finish_spawn_here(outcome),
        }
    }

    #[cold]
    #[track_caller]
    fn finish_spawn_here(self, outcome: Option<SpawnOutcome>) -> Self {
        match (current::entered(), outcome) {
            (Some(inner), Some(outcome)) => self.finish_spawn(&inner, outcome),
            _ => {
                self.detach(); // drops the future, which is user code
                panic!(
                    "`spawn` was called outside of a windlass runtime: call it from inside of \
                     `windlass::block_on`, or use `Runtime::spawn`"
                );
            }
        }
    }

    /// Does what is left after [`ExecutorInner::insert`], which runs user code or panics. After a
    /// panic a task that was queued runs on, detached.
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

    /// Gives the task a name, for `Debug` and for the messages of its panics. These say where it
    /// was spawned in any case.
    ///
    /// ```
    /// # use windlass_executor::{block_on, spawn, Executor};
    /// block_on(Executor::new().run(async {
    ///     let task = spawn(async { panic!("no rope left") }).named("hauler");
    ///     let panic = task.catch().await.unwrap_err();
    ///     assert!(panic.to_string().starts_with("task `hauler`, spawned at "));
    /// }));
    /// ```
    pub fn named(self, name: impl Into<Rc<str>>) -> Self {
        let name = name.into(); // user code, perhaps
        let cell = self.cell.as_ref().filter(|cell| !cell.has(EMPTY));
        if let Some((cell, core)) = cell.and_then(|cell| Some((cell, home(cell)?))) {
            core.table().set_name(cell, name);
        }
        self
    }

    /// Lets the task run on by itself; its output is dropped when it ends. A panic in it ends the
    /// task alone: the panic hook reports it, and the executor goes on.
    ///
    /// ```
    /// # use windlass_executor::{block_on, spawn, yield_now, Executor};
    /// # use std::{cell::Cell, rc::Rc};
    /// let done = Rc::new(Cell::new(false));
    /// let flag = done.clone();
    /// block_on(Executor::new().run(async {
    ///     spawn(async move { flag.set(true) }).detach();
    ///     yield_now().await;
    /// }));
    /// assert!(done.get());
    /// ```
    pub fn detach(mut self) {
        if let Some(cell) = self.cell.take() {
            detach(cell.into_ref());
        }
    }

    /// True if the task has finished, panicked, or can't finish any more.
    ///
    /// ```
    /// # use windlass_executor::{block_on, spawn, yield_now, Executor};
    /// block_on(Executor::new().run(async {
    ///     let task = spawn(async {});
    ///     assert!(!task.is_finished());
    ///     yield_now().await;
    ///     assert!(task.is_finished());
    /// }));
    /// ```
    pub fn is_finished(&self) -> bool {
        self.cell.as_ref().is_none_or(|cell| cell.has(DONE | EMPTY))
    }

    /// Cancels the task. When this returns `None`, its future has been dropped; `Some` if it had
    /// finished before.
    ///
    /// A task that cancels itself ends when its poll returns: it never comes back from this await.
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
    /// # use windlass_executor::{block_on, spawn, yield_now, Executor};
    /// block_on(Executor::new().run(async {
    ///     let endless = spawn(std::future::pending::<()>());
    ///     assert_eq!(endless.cancel().await, None);
    ///
    ///     let quick = spawn(async { 7 });
    ///     yield_now().await;
    ///     assert_eq!(quick.cancel().await, Some(7));
    /// }));
    /// ```
    pub async fn cancel(mut self) -> Option<T> {
        let ended = if cancel(self.cell.as_ref()?) {
            self.take_output()
        } else {
            poll_fn(|cx| self.poll_end(cx)).await
        };
        ended.map(|ended| ended.unwrap_or_else(|panic| panic.resume()))
    }

    /// Waits for the end of the task and hands out a panic as a value.
    ///
    /// # Panics
    ///
    /// If the task can't finish any more, because its executor was dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping this drops the task with it, which cancels it.
    ///
    /// ```
    /// # use windlass_executor::{block_on, spawn, Executor};
    /// block_on(Executor::new().run(async {
    ///     let task = spawn(async { panic!("no rope left") });
    ///     let panic = task.catch().await.unwrap_err();
    ///     assert_eq!(panic.message(), Some("no rope left"));
    /// }));
    /// ```
    pub async fn catch(mut self) -> Result<T, Panic> {
        poll_fn(|cx| self.poll_catch(cx)).await
    }

    #[inline]
    fn poll_catch(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Panic>> {
        match self.poll_end(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(ended)) => Poll::Ready(ended),
            Poll::Ready(None) => self.no_output(),
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
                Some(index) if !cell.has(OTHER_JOINER) => {
                    cell.joiner.set(index);
                    return Poll::Pending;
                }
                _ => join_other(cell, cx.waker()),
            }
            // To clone a waker is user code, in which the task may have ended.
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

    /// Where the task was spawned. `None` once its output has been taken.
    ///
    /// ```
    /// # use windlass_executor::Executor;
    /// let executor = Executor::new();
    /// let task = executor.spawn(async {});
    /// assert_eq!(task.spawned_at().unwrap().file(), file!());
    /// ```
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.cell.as_ref().map(|cell| cell.place)
    }

    #[cold]
    fn no_output(&self) -> ! {
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
        match self.poll_catch(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(output)) => Poll::Ready(output),
            Poll::Ready(Err(panic)) => panic.resume(),
        }
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

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = self.cell.as_ref();
        f.debug_struct("Task")
            .field("task", &cell.map(|cell| describe(cell)))
            .field("finished", &cell.is_none_or(|cell| cell.has(DONE | EMPTY)))
            .finish()
    }
}

/// The executor of the task, if it still lives.
fn home(cell: &Ref) -> Option<Rc<ExecutorInner>> {
    current::living(cell.key.get().executor())
}

/// Drops the future of a task that has not finished. False if the task is running: it ends when
/// its poll returns.
fn cancel(cell: &Ref) -> bool {
    if cell.has(RUNNING) {
        cell.set(CANCELLED);
        return false;
    }
    if !cell.has(DONE | EMPTY) {
        let core = home(cell).expect("a task that has not finished has its executor");
        let removed = core.table().remove(cell.key.get());
        forget_name(cell); // before user code, which may panic
        cell.drop_future();
        drop(removed); // the joiner's drop is user code, too: it finds the task gone
    }
    true
}

/// Cancels the task, whose handle is dropped.
#[inline(never)]
fn drop_handle(cell: Ref) {
    if cancel(&cell) {
        forget_name(&cell);
        cell.drop_output();
    } else {
        detach(cell);
    }
}

/// Nobody will want the output. If it is there already, it's dropped.
fn detach(cell: Ref) {
    cell.set(DETACHED);
    cell.joiner.set(NOBODY);
    if cell.has(OTHER_JOINER) {
        let joiner = home(&cell).and_then(|core| core.table().take_other(&cell));
        drop(joiner);
    }
    if cell.has(DONE | EMPTY) {
        forget_name(&cell);
        cell.drop_output();
    }
}

#[cold]
fn join_other(cell: &Ref, waker: &Waker) {
    if let Some(core) = home(cell) {
        set_foreign_joiner(&core, cell, waker);
    }
}

#[inline]
fn forget_name(cell: &Ref) {
    if cell.has(NAMED) {
        take_name(cell);
    }
}

#[cold]
fn take_name(cell: &Ref) {
    if let Some(core) = home(cell) {
        core.table().take_name(cell);
    }
}

/// The task, in a message.
fn describe(cell: &Ref) -> String {
    cell::describe(cell, home(cell).and_then(|core| core.table().name(cell)))
}

/// `waker` is to be woken when the task ends. It may belong to another executor.
#[cold]
fn set_foreign_joiner(inner: &ExecutorInner, cell: &Ref, waker: &Waker) {
    let is_known = |known: &Waker| known.will_wake(waker);
    if inner.table().other(cell).is_some_and(is_known) {
        return;
    }
    let old = match index_in(inner.id(), waker) {
        Some(index) => {
            cell.joiner.set(index);
            inner.table().take_other(cell)
        }
        None => {
            let waker = waker.clone(); // user code, under no borrow
            inner.table().set_other(cell, waker)
        }
    };
    drop(old); // user code, too
}
