//! Detached operations, for which the end of a loop waits.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use super::operation::OpOutput;
use crate::BlockingTask;

/// How long the end of a loop waits for the next completion.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time of the last completion, at the end of a loop.
pub(crate) struct Progress(Option<Instant>);

impl Progress {
    pub(crate) const fn new() -> Progress {
        Progress(None)
    }

    /// Records that an operation has completed.
    pub(crate) fn made(&mut self) {
        self.0 = None;
    }

    /// Returns how long to wait for the next completion.
    pub(crate) fn time_left(&mut self) -> Duration {
        let since = self.0.get_or_insert_with(Instant::now);
        PATIENCE.saturating_sub(since.elapsed())
    }
}

/// Detached operations of the pool.
pub(crate) struct Background(RefCell<Tasks>);

struct Tasks {
    tasks: Vec<BlockingTask<OpOutput>>,
    /// At this number of tasks, the finished ones are dropped.
    max_kept: usize,
}

/// The least number of tasks at which finished ones are dropped.
const MIN_KEPT: usize = 64;

impl Background {
    pub(crate) const fn new() -> Background {
        Background(RefCell::new(Tasks {
            tasks: Vec::new(),
            max_kept: MIN_KEPT,
        }))
    }

    /// Adds a task. The end of the loop waits for it.
    pub(crate) fn add(&self, task: BlockingTask<OpOutput>) {
        let mut this = self.0.borrow_mut();
        let finished = this.take_finished();
        this.tasks.push(task);
        drop(this);
        drop(finished); // outside of the borrow
    }

    /// Waits until the tasks have finished. If the time runs out, the rest continue, and later
    /// calls ignore them.
    pub(crate) fn finish(&self, progress: &mut Progress) {
        let tasks = mem::take(&mut self.0.borrow_mut().tasks);
        if tasks.is_empty() {
            return;
        }
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(signal.clone());
        let mut cx = Context::from_waker(&waker);
        for mut task in tasks {
            loop {
                if Pin::new(&mut task).poll(&mut cx).is_ready() {
                    progress.made();
                    break;
                }
                if !signal.wait(progress.time_left()) {
                    task.detach();
                    break;
                }
            }
        }
    }
}

impl Tasks {
    /// Returns the finished tasks if there are too many.
    fn take_finished(&mut self) -> Vec<BlockingTask<OpOutput>> {
        if self.tasks.len() < self.max_kept {
            return Vec::new();
        }
        let tasks = mem::take(&mut self.tasks).into_iter();
        let (finished, rest) = tasks.partition(BlockingTask::is_finished);
        self.tasks = rest;
        self.max_kept = MIN_KEPT.max(2 * self.tasks.len());
        finished
    }
}

/// A waker that unblocks the thread.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits for a wake. Returns false on a timeout.
    fn wait(&self, limit: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let is_clear = |is_set: &mut bool| !*is_set;
        let waited = self.changed.wait_timeout_while(is_set, limit, is_clear);
        mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
