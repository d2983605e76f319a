//! Spawning and running closures from other threads.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use futures_core::future::FusedFuture;
use windlass_executor::{Panic, drop_nested, spawn_at, yield_now};

use super::enter::NOT_CURRENT;
use crate::waits::{JobReceiver, RemoteCount, RemoteWait};

/// A handle that spawns tasks and runs closures on a runtime from any thread.
///
/// It sends a closure, which creates the future on the runtime's thread. So the closure has to be
/// `Send`, and the future need not be.
///
/// # Examples
///
/// ```
/// use std::{rc::Rc, thread};
///
/// let runtime = windlass::Runtime::new()?;
/// let remote = runtime.remote();
/// let thread = thread::spawn(move || {
///     remote.spawn(|| async {
///         let stays_here = Rc::new(42); // never leaves the runtime's thread
///         *stays_here
///     })
/// });
/// let answer = thread.join().unwrap();
/// assert_eq!(runtime.block_on(answer).unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Remote {
    jobs: mpsc::UnboundedSender<Job>,
    count: Arc<RemoteCount>,
}

/// What a runtime makes its [`Remote`]s from. It is not counted. The extension of its executor.
struct RemoteSource {
    jobs: mpsc::UnboundedSender<Job>,
    count: Arc<RemoteCount>,
}

// A panic leaves both usable, because a job is received as a whole or not at all.
impl UnwindSafe for Remote {}
impl RefUnwindSafe for Remote {}
impl<T> UnwindSafe for RemoteTask<T> {}
impl<T> RefUnwindSafe for RemoteTask<T> {}

type Job = Box<dyn FnOnce() + Send>;

/// How many jobs the runtime receives before it polls the tasks that they spawned.
const BATCH: usize = 64;

/// Returns the source of the handles, and the task that receives their jobs.
fn channel() -> (RemoteSource, impl Future<Output = ()>) {
    let (sender, mut jobs) = mpsc::unbounded::<Job>();
    let count = Arc::new(RemoteCount::new());
    let remotes = count.clone();
    let arrivals = async move {
        let _listed = JobReceiver::new(remotes);
        let mut arrived = 0;
        while let Some(job) = poll_fn(|cx| Pin::new(&mut jobs).poll_next(cx)).await {
            job();
            arrived += 1;
            if arrived % BATCH == 0 {
                yield_now().await;
            }
        }
    };
    let source = RemoteSource {
        jobs: sender,
        count,
    };
    (source, arrivals)
}

impl RemoteSource {
    /// Returns the source of an executor, if it has one.
    fn find(executor: &windlass_executor::Handle) -> Option<Rc<RemoteSource>> {
        executor.extension()?.downcast().ok()
    }

    fn remote(&self) -> Remote {
        self.count.add();
        Remote {
            jobs: self.jobs.clone(),
            count: self.count.clone(),
        }
    }
}

impl Clone for Remote {
    fn clone(&self) -> Self {
        self.count.add();
        Remote {
            jobs: self.jobs.clone(),
            count: self.count.clone(),
        }
    }
}

/// A loop that sleeps because another thread may send a job examines its tasks again after the last
/// `Remote` is gone. The job wakes it.
impl Drop for Remote {
    fn drop(&mut self) {
        if self.count.remove() {
            let _ = self.jobs.unbounded_send(Box::new(|| ())); // the runtime may be gone, too
        }
    }
}

impl Remote {
    /// Returns a handle to the runtime of an executor. The first one starts the task that receives
    /// the jobs.
    pub(super) fn of(
        executor: &windlass_executor::Handle,
        spawned_at: &'static Location<'static>,
    ) -> Remote {
        let source = RemoteSource::find(executor).unwrap_or_else(|| {
            let (source, arrivals) = channel();
            let source = Rc::new(source);
            executor.set_extension(source.clone());
            executor.spawn_at(spawned_at, arrivals).detach(); // may call this function
            source
        });
        source.remote()
    }

    /// Returns a handle to the current runtime, for the threads that the code here starts.
    /// [`Handle`](crate::Handle) has a table of which runtime that is.
    ///
    /// # Panics
    ///
    /// Panics if there is none. [`try_current`](Remote::try_current) returns `None` then.
    ///
    /// ```
    /// use std::thread;
    /// use windlass::Remote;
    ///
    /// let answer = windlass::block_on(async {
    ///     let remote = Remote::current();
    ///     let thread = thread::spawn(move || remote.spawn(|| async { 42 }));
    ///     thread.join().unwrap().await
    /// });
    /// assert_eq!(answer.unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn current() -> Remote {
        match Remote::try_current() {
            Some(remote) => remote,
            None => panic!("{NOT_CURRENT}"),
        }
    }

    /// Returns a handle to the current runtime. `None` if there is none.
    ///
    /// ```
    /// assert!(windlass::Remote::try_current().is_none());
    /// ```
    #[track_caller]
    pub fn try_current() -> Option<Remote> {
        let executor = windlass_executor::Handle::current()?;
        Some(Remote::of(&executor, Location::caller()))
    }

    /// Returns true once the runtime was dropped.
    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Returns whether this is a handle to the current runtime.
    fn is_current(&self) -> bool {
        let current = windlass_executor::Handle::current();
        let source = current.and_then(|executor| RemoteSource::find(&executor));
        source.is_some_and(|source| Arc::ptr_eq(&source.count, &self.count))
    }

    /// Spawns the future that `make` returns on the runtime's thread, and wakes the runtime. The
    /// queue of jobs is unbounded. Where the runtime is the
    /// [current](crate::Handle#the-current-runtime) one, the task is spawned at once and bypasses
    /// the queue. The task calls `make` in its first poll.
    ///
    /// The task is detached: it keeps running when the handle is dropped.
    #[track_caller]
    pub fn spawn<M, F>(&self, make: M) -> RemoteTask<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send,
    {
        // In boxes, because debug builds copy arguments that are passed by value on the stack.
        let make = Box::new(make);
        let (sender, output) = oneshot::channel();
        let spawned_at = Location::caller();
        #[cfg(feature = "tracing")]
        let spans = crate::tracing::TaskSpans::new(spawned_at);
        let job = move || {
            let future = async move { Box::into_pin(Box::new(make())).await };
            #[cfg(feature = "tracing")]
            let future = spans.wrap(future);
            let task = spawn_at(spawned_at, future);
            spawn_at(spawned_at, async move { sender.send(task.catch().await) }).detach();
        };
        // If the runtime was dropped, so is the job with its sender, and the handle returns `Gone`.
        if self.is_current() {
            job();
        } else {
            let _ = self.jobs.unbounded_send(Box::new(job));
        }
        RemoteTask {
            output: Some(output),
            drop: drop_nested,
            wait: RemoteWait::new(spawned_at),
        }
    }

    /// Runs the closure on the runtime's thread, as a task that completes in its first poll.
    ///
    /// ```
    /// use std::{cell::Cell, thread};
    ///
    /// thread_local!(static HAULED: Cell<u32> = const { Cell::new(0) });
    ///
    /// let runtime = windlass::Runtime::new()?;
    /// let remote = runtime.remote();
    /// let haul = || HAULED.replace(HAULED.get() + 1);
    /// let before = thread::spawn(move || remote.run(haul)).join().unwrap();
    /// assert_eq!(runtime.block_on(before).unwrap(), 0);
    /// assert_eq!(HAULED.get(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn run<F, T>(&self, run: F) -> RemoteTask<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn(|| ready(run()))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("gone", &self.jobs.is_closed())
            .finish_non_exhaustive()
    }
}

/// The handle of a task of [`Remote::spawn`] or a closure of [`Remote::run`]. Any thread may await
/// it.
///
/// # Cancel safety
///
/// Dropping the handle detaches the task. Its output is then dropped on the runtime's thread.
///
/// # Panics
///
/// Panics if it is polled again after it has completed.
#[derive(Debug)]
pub struct RemoteTask<T> {
    /// `None` once it has completed.
    output: Option<Output<T>>,
    /// Drops `output`, which may contain further handles, without deep recursion. A function
    /// pointer, because only [`Remote::spawn`] knows that `T` is `'static`.
    drop: fn(Output<T>),
    wait: RemoteWait,
}

type Output<T> = oneshot::Receiver<Result<T, Panic>>;

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        if let Some(output) = self.output.take() {
            (self.drop)(output);
        }
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, RemoteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(output) = &mut this.output else {
            panic!("this `RemoteTask` was awaited to its end before");
        };
        let Poll::Ready(ended) = Pin::new(output).poll(cx) else {
            this.wait.begin(cx.waker());
            return Poll::Pending;
        };
        this.wait.end();
        this.output = None; // empty, since the output was received
        Poll::Ready(match ended {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => Err(RemoteError::Panicked(panic)),
            Err(oneshot::Canceled) => Err(RemoteError::Gone),
        })
    }
}

impl<T> FusedFuture for RemoteTask<T> {
    fn is_terminated(&self) -> bool {
        self.output.is_none()
    }
}

/// Why a [`RemoteTask`] has no output.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoteError {
    /// The task panicked.
    Panicked(Panic),
    /// The runtime was dropped before the task completed.
    Gone,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::Panicked(panic) => panic.fmt(f),
            RemoteError::Gone => f.write_str("the runtime was dropped before the task completed"),
        }
    }
}

impl std::error::Error for RemoteError {}
