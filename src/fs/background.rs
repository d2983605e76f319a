//! Operations on files whose callers have gone on, at the end of a loop.

use std::cell::RefCell;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use super::operation::Ended;
use crate::BlockingTask;

/// How long the end of a loop waits for the next of the operations to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// When an operation has last ended, for a loop that waits for all.
pub(crate) struct Progress(Option<Instant>);

impl Progress {
    pub(crate) const fn new() -> Progress {
        Progress(None)
    }

    /// An operation has ended.
    pub(crate) fn made(&mut self) {
        self.0 = None;
    }

    /// How long to wait for the next one.
    pub(crate) fn time_left(&mut self) -> Duration {
        let since = self.0.get_or_insert_with(Instant::now);
        PATIENCE.saturating_sub(since.elapsed())
    }
}

/// Operations that threads perform.
pub(crate) struct Background(RefCell<Tasks>);

struct Tasks {
    tasks: Vec<BlockingTask<Ended>>,
    /// At so many, those that have finished are dropped.
    room: usize,
}

/// So many are kept before any is looked at.
const FEW: usize = 64;

impl Background {
    pub(crate) const fn new() -> Background {
        Background(RefCell::new(Tasks {
            tasks: Vec::new(),
            room: FEW,
        }))
    }

    /// From now on nobody comes for the task, and the end of the loop waits for it.
    pub(crate) fn add(&self, task: BlockingTask<Ended>) {
        let mut this = self.0.borrow_mut();
        let finished = this.make_room();
        this.tasks.push(task);
        drop(this);
        drop(finished); // under no borrow
    }

    /// Waits until the tasks have finished. One that doesn't while none does goes on, and no later
    /// call waits for it.
    pub(crate) fn finish(&self, progress: &mut Progress) {
        let tasks = mem::take(&mut self.0.borrow_mut().tasks);
        if tasks.is_empty() {
            return;
        }
        let news = Arc::new(News::default());
        let waker = Waker::from(news.clone());
        let mut cx = Context::from_waker(&waker);
        for mut task in tasks {
            loop {
                if Pin::new(&mut task).poll(&mut cx).is_ready() {
                    progress.made();
                    break;
                }
                if !news.wait(progress.time_left()) {
                    task.detach();
                    break;
                }
            }
        }
    }
}

impl Tasks {
    /// Returns those that have finished if there are too many.
    fn make_room(&mut self) -> Vec<BlockingTask<Ended>> {
        if self.tasks.len() < self.room {
            return Vec::new();
        }
        let tasks = mem::take(&mut self.tasks).into_iter();
        let (finished, rest) = tasks.partition(BlockingTask::is_finished);
        self.tasks = rest;
        self.room = FEW.max(2 * self.tasks.len());
        finished
    }
}

/// Ends the wait for a thread.
#[derive(Default)]
struct News {
    is_there: Mutex<bool>,
    changed: Condvar,
}

impl News {
    /// Returns false if none comes in time.
    fn wait(&self, limit: Duration) -> bool {
        let is_there = self.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |is_there: &mut bool| !*is_there;
        let waited = self.changed.wait_timeout_while(is_there, limit, nothing);
        mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Wake for News {
    fn wake(self: Arc<Self>) {
        *self.is_there.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
