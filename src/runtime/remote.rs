//! Spawning and running closures from other threads.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use windlass_executor::{Panic, TaskId, drop_nested, spawn_at, yield_now};

use crate::waits::RemoteWait;

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
#[derive(Clone)]
pub struct Remote {
    jobs: mpsc::UnboundedSender<Job>,
    /// Its references are the `Remote`s of a runtime.
    _counted: Arc<()>,
}

// A panic leaves both usable, because a job is received as a whole or not at all.
impl UnwindSafe for Remote {}
impl RefUnwindSafe for Remote {}
impl<T> UnwindSafe for RemoteTask<T> {}
impl<T> RefUnwindSafe for RemoteTask<T> {}

type Job = Box<dyn FnOnce() + Send>;

/// How many jobs the runtime receives before it polls the tasks that they spawned.
const BATCH: usize = 64;

/// Returns a handle and the task that receives its jobs.
pub(crate) fn channel() -> (Remote, impl Future<Output = ()>) {
    let (sender, mut jobs) = mpsc::unbounded::<Job>();
    let counted = Arc::new(());
    let remotes = Arc::downgrade(&counted);
    let arrivals = async move {
        let _listed = ListedReceiver::new(remotes);
        let mut arrived = 0;
        while let Some(job) = poll_fn(|cx| Pin::new(&mut jobs).poll_next(cx)).await {
            job();
            arrived += 1;
            if arrived % BATCH == 0 {
                yield_now().await;
            }
        }
    };
    let remote = Remote {
        jobs: sender,
        _counted: counted,
    };
    (remote, arrivals)
}

thread_local! {
    /// The tasks of this thread that receive jobs, each with the count of its `Remote`s.
    static RECEIVERS: RefCell<Vec<(TaskId, Weak<()>)>> = const { RefCell::new(Vec::new()) };
}

/// Lists the tasks of this thread that receive jobs, each with the number of `Remote`s beside the
/// runtime's own.
pub(crate) fn list_job_receivers() -> Vec<(TaskId, usize)> {
    let of_others = |remotes: &Weak<()>| remotes.strong_count().saturating_sub(1);
    RECEIVERS.with_borrow(|receivers| {
        let receivers = receivers.iter();
        receivers
            .map(|(task, remotes)| (*task, of_others(remotes)))
            .collect()
    })
}

/// Keeps a task that receives jobs in the list.
struct ListedReceiver(Option<TaskId>);

impl ListedReceiver {
    fn new(remotes: Weak<()>) -> Self {
        let task = TaskId::current();
        RECEIVERS.with_borrow_mut(|receivers| receivers.extend(task.map(|task| (task, remotes))));
        ListedReceiver(task)
    }
}

impl Drop for ListedReceiver {
    fn drop(&mut self) {
        // While the thread ends, the list may be gone.
        let _ = RECEIVERS.try_with(|receivers| {
            receivers
                .borrow_mut()
                .retain(|(task, _)| Some(*task) != self.0);
        });
    }
}

impl Remote {
    /// Spawns the future that `make` returns on the runtime's thread, and wakes the runtime. The
    /// queue of jobs is unbounded.
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
        let job = move || {
            let task = spawn_at(
                spawned_at,
                async move { Box::into_pin(Box::new(make())).await },
            );
            spawn_at(spawned_at, async move { sender.send(task.catch().await) }).detach();
        };
        // If the runtime was dropped, so is the job with its sender, and the handle returns `Gone`.
        let _ = self.jobs.unbounded_send(Box::new(job));
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
#[derive(Debug)]
pub struct RemoteTask<T> {
    /// Present until drop.
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
        let output = this.output.as_mut().expect("output is present until drop");
        let Poll::Ready(ended) = Pin::new(output).poll(cx) else {
            this.wait.begin(cx.waker());
            return Poll::Pending;
        };
        this.wait.end();
        Poll::Ready(match ended {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => Err(RemoteError::Panicked(panic)),
            Err(oneshot::Canceled) => Err(RemoteError::Gone),
        })
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
