//! Statistics of tasks: their age, and the number and duration of their polls.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass_executor::{Observer, TaskId, list_tasks};

use super::id_map::IdMap;
use super::observers;

/// Starts or stops to collect statistics of the tasks of this thread:
/// [`TaskInfo::age`](super::TaskInfo::age), [`polls`](super::TaskInfo::polls) and
/// [`busy`](super::TaskInfo::busy). Takes effect at the next turn of the loop.
///
/// While it is on, each poll costs some 30 ns more, and each task takes 60 bytes in a table. Tasks
/// that have ended leave the table when it is twice as large as the number of tasks.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, inspect, spawn, yield_now};
///
/// inspect::track(true);
/// block_on(async {
///     spawn(async {
///         for _ in 0..9 {
///             yield_now().await;
///         }
///         let tasks = inspect::tasks();
///         let this = tasks.iter().find(|task| !task.is_main).unwrap();
///         assert_eq!(this.polls, Some(10));
///     })
///     .await;
/// });
/// ```
pub fn track(collects: bool) {
    let tracker = TRACKER.take();
    if tracker.is_some() == collects {
        TRACKER.set(tracker);
    } else if collects {
        let tracker = Rc::new(Tracker::default());
        TRACKER.set(Some(tracker.clone()));
        observers::add(tracker);
    } else if let Some(tracker) = tracker {
        observers::remove(&(tracker as Rc<dyn Observer>));
    }
}

/// Returns the statistics of a task, if they are collected.
pub(crate) fn statistics(task: TaskId) -> Option<Statistics> {
    let tracker = TRACKER.take();
    let found = tracker
        .as_ref()
        .and_then(|tracker| tracker.tasks.borrow().get(&task).copied());
    TRACKER.set(tracker);
    found
}

thread_local!(static TRACKER: Cell<Option<Rc<Tracker>>> = const { Cell::new(None) });

/// The statistics of a task.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) since: Instant,
    pub(crate) polls: u64,
    pub(crate) busy: Duration,
}

#[derive(Default)]
struct Tracker {
    tasks: RefCell<IdMap<Statistics>>,
    /// The number of tasks in the table at which those that have ended are removed.
    prune_at: Cell<usize>,
    /// The polls on the stack, the innermost last. A loop may run inside a poll of another.
    polling: RefCell<Vec<Polling>>,
}

/// A poll on the stack.
struct Polling {
    task: TaskId,
    /// The start of a poll that is measured, and the number of polls that it counts for.
    measured: Option<(Instant, u32)>,
}

/// The first polls of a task are all measured, and then 1 of as many.
const SAMPLE: u32 = 16;

/// A panic of a main future leaves its poll in the list, which is therefore bounded.
const MAX_NESTED: usize = 64;

/// The table isn't pruned below this size.
const MIN_PRUNED: usize = 1024;

impl Observer for Tracker {
    fn polling(&self, task: TaskId) {
        let mut tasks = self.tasks.borrow_mut();
        let is_new = !tasks.contains_key(&task);
        let statistics = tasks.entry(task).or_insert_with(|| Statistics {
            since: Instant::now(),
            polls: 0,
            busy: Duration::ZERO,
        });
        let polls = statistics.polls;
        statistics.polls += 1;
        let measured = match polls {
            0 => Some((statistics.since, 1)), // read just now
            polls if polls < SAMPLE.into() => Some((Instant::now(), 1)),
            polls if polls % u64::from(SAMPLE) == 0 => Some((Instant::now(), SAMPLE)),
            _ => None,
        };
        let len = tasks.len();
        drop(tasks);
        if is_new && len > self.prune_at.get().max(MIN_PRUNED) {
            self.prune();
        }
        let mut polling = self.polling.borrow_mut();
        if polling.len() == MAX_NESTED {
            polling.clear();
        }
        polling.push(Polling { task, measured });
    }

    fn polled(&self, task: TaskId) {
        let mut polling = self.polling.borrow_mut();
        let Some(position) = polling.iter().rposition(|poll| poll.task == task) else {
            return;
        };
        let measured = polling[position].measured;
        polling.truncate(position);
        if let Some((start, weight)) = measured {
            let mut tasks = self.tasks.borrow_mut();
            if let Some(statistics) = tasks.get_mut(&task) {
                statistics.busy += start.elapsed() * weight;
            }
        }
    }
}

impl Tracker {
    /// Removes the tasks that have ended.
    #[cold]
    fn prune(&self) {
        let live: HashSet<TaskId> = list_tasks().into_iter().map(|entry| entry.id).collect();
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task, _| live.contains(task));
        let len = tasks.len();
        tasks.shrink_to(2 * len);
        self.prune_at.set(2 * len);
    }
}
