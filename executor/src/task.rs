//! A spawned future, and the handle to it.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::executor::Core;
use crate::key::Key;
use crate::table::{Cancelled, Join};

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
    core: Rc<Core>,
    key: Key,
    /// The output was handed out, or the task let go: nothing is left to cancel.
    over: bool,
    _output: PhantomData<T>,
}

// The output is never pinned inside the handle.
impl<T> Unpin for Task<T> {}

impl<T: 'static> Task<T> {
    /// ① Puts the future into the table and its id on the run queue. It's polled later, never at
    /// once.
    pub(crate) fn spawn<F>(core: Rc<Core>, future: F) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        let key = core.insert(Box::pin(Cell::Pending(future)));
        Task {
            core,
            key,
            over: false,
            _output: PhantomData,
        }
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
        self.over = true;
        self.core.detach(self.key);
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
        self.over || self.core.table().is_finished(self.key)
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
        match self.core.cancel(self.key) {
            Cancelled::Waiting(job) => {
                self.over = true;
                drop(job);
                None
            }
            Cancelled::Done(job) => {
                self.over = true;
                Some(output(job).unwrap_or_else(|panic| panic.resume()))
            }
            Cancelled::Gone => None,
            Cancelled::Running => poll_fn(|cx| self.poll_end(cx))
                .await
                .map(|ended| ended.unwrap_or_else(|panic| panic.resume())),
        }
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

    fn poll_catch(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Panic>> {
        assert!(!self.over, "this task was awaited to its end before");
        self.poll_end(cx)
            .map(|ended| ended.expect("this task can't finish any more: its executor was dropped"))
    }

    /// `None` if there will never be an output.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Panic>>> {
        match self.core.join(self.key, cx.waker()) {
            Join::Pending | Join::Unknown => Poll::Pending,
            Join::Gone => Poll::Ready(None),
            Join::Done(job) => {
                self.over = true;
                Poll::Ready(Some(output(job)))
            }
        }
    }
}

impl<T: 'static> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.poll_catch(cx)
            .map(|ended| ended.unwrap_or_else(|panic| panic.resume()))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.over {
            let cancelled = self.core.cancel(self.key);
            if let Cancelled::Running = cancelled {
                self.core.detach(self.key);
            }
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finished = self.over || self.core.table().is_finished(self.key);
        f.debug_struct("Task")
            .field("finished", &finished)
            .finish_non_exhaustive()
    }
}

/// What a task panicked with.
///
/// # Examples
///
/// ```
/// # use windlass_executor::{block_on, spawn, Executor};
/// block_on(Executor::new().run(async {
///     let panic = spawn(async { panic!("{} ropes", 3) }).catch().await.unwrap_err();
///     assert_eq!(panic.message(), Some("3 ropes"));
/// }));
/// ```
pub struct Panic(Box<Payload>);

/// Boxed, since the place for it is in every task.
struct Payload {
    message: Option<String>,
    /// The mutex makes a `Sync` error of what is only `Send`; it's never locked.
    value: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    #[cold]
    fn new(value: Box<dyn Any + Send>) -> Self {
        let text = value
            .downcast_ref::<&'static str>()
            .map(|text| text.to_string());
        let message = text.or_else(|| value.downcast_ref::<String>().cloned());
        let value = Mutex::new(value);
        Panic(Box::new(Payload { message, value }))
    }

    /// The text given to `panic!`, if it was a text.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Goes on with the panic, here. The panic hook is not called again.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_inner())
    }

    /// The value given to `panic_any`, or the text.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        let value = self.0.value.into_inner();
        value.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic")
            .field(&self.message().unwrap_or(".."))
            .finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a task panicked: {}",
            self.message().unwrap_or("(not with a text)")
        )
    }
}

impl std::error::Error for Panic {}

/// A task as the executor sees it: something to poll, which keeps its output for the handle.
pub(crate) trait Job {
    /// Polls the future; true once the output is there. A panic is caught and becomes the output.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool;

    /// Moves the output into `to`, an `Option<Result<T, Panic>>`.
    fn into_output(self: Pin<Box<Self>>, to: &mut dyn Any);
}

pub(crate) type BoxedJob = Pin<Box<dyn Job>>;

/// Future first, output then, in the same place.
enum Cell<F: Future> {
    Pending(F),
    Done(Result<F::Output, Panic>),
    Gone,
}

impl<F> Job for Cell<F>
where
    F: Future + 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let polled = catch_unwind(AssertUnwindSafe(|| match self.as_mut().future() {
            Some(future) => future.poll(cx),
            None => unreachable!("a finished task is not polled"),
        }));
        let output = match polled {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(Panic::new(payload)),
        };
        if !std::mem::needs_drop::<F>() {
            self.set(Cell::Done(output));
            return true;
        }
        // The future's own drop may panic: that, too, ends this task alone.
        match catch_unwind(AssertUnwindSafe(|| self.set(Cell::Gone))) {
            Ok(()) => self.set(Cell::Done(output)),
            Err(payload) => {
                quietly(|| drop(output));
                self.set(Cell::Done(Err(Panic::new(payload))));
            }
        }
        true
    }

    fn into_output(self: Pin<Box<Self>>, to: &mut dyn Any) {
        // SAFETY: what is moved out below is an output, and outputs are never pinned.
        let cell = unsafe { Pin::into_inner_unchecked(self) };
        if let Cell::Done(output) = *cell {
            let to = to.downcast_mut::<Option<Result<F::Output, Panic>>>();
            *to.expect("the handle has the type of its task") = Some(output);
        }
    }
}

impl<F: Future> Cell<F> {
    fn future(self: Pin<&mut Self>) -> Option<Pin<&mut F>> {
        // SAFETY: a pinned cell pins its future: it is only ever dropped in place, by `set`, and
        // `Cell` has neither a `Drop` of its own nor an `Unpin` that says otherwise.
        match unsafe { self.get_unchecked_mut() } {
            // SAFETY: as above.
            Cell::Pending(future) => Some(unsafe { Pin::new_unchecked(future) }),
            _ => None,
        }
    }
}

fn output<T: 'static>(job: BoxedJob) -> Result<T, Panic> {
    let mut output: Option<Result<T, Panic>> = None;
    job.into_output(&mut output);
    output.expect("a finished task holds its output")
}

/// Runs the user's code (a drop) where a panic has nobody to go to. The hook has reported it.
pub(crate) fn quietly(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
        // A payload may panic when it is dropped, too; then its memory is given up.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}
