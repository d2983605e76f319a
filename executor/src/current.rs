//! The executors of this thread, and the one that is entered.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use crate::cell::Ref;
use crate::inbox;
use crate::inner::{CurrentPoll, ExecutorInner, SpawnOutcome, WakeOutcome};
use crate::key::Key;
use crate::observe::Observer;
use crate::pulse::{OBSERVE, set_report};
use crate::task_entry::TaskEntry;
use crate::task_id::TaskId;

type Executors = ManuallyDrop<Vec<Rc<ExecutorInner>>>;

// `ManuallyDrop`, because a thread-local value without a destructor is reached in one instruction,
// and is still there for wakers and destructors that run while the thread ends. It leaks no
// executor, since a dropped executor leaves the list, and a guard restores the entered one.
thread_local! {
    /// The executors of this thread. A wake of their tasks takes no lock.
    static LOCAL: RefCell<Executors> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// The executor that `spawn` uses. A wake tries it first. It is taken out of this cell for
    /// short moments in which no user code runs.
    static ENTERED: Cell<ManuallyDrop<Option<Rc<ExecutorInner>>>> =
        const { Cell::new(ManuallyDrop::new(None)) };
}

pub(crate) fn add(inner: Rc<ExecutorInner>) {
    LOCAL.with_borrow_mut(|local| local.push(inner));
}

pub(crate) fn remove(executor: u16) {
    let removed = LOCAL.with_borrow_mut(|local| {
        let position = local.iter().position(|inner| inner.id == executor)?;
        let removed = local.swap_remove(position);
        if local.is_empty() {
            local.shrink_to_fit();
        }
        Some(removed)
    });
    drop(removed); // outside of the borrow
}

/// Puts a new task into the entered executor. Returns `None` outside of any executor.
#[inline(always)]
pub(crate) fn insert(cell: &Ref) -> Option<SpawnOutcome> {
    let entered = ENTERED.take();
    #[expect(clippy::manual_map, reason = "a closure would not be inlined")]
    let outcome = match &*entered {
        Some(inner) => Some(inner.insert(cell)),
        None => None,
    };
    ENTERED.set(entered);
    outcome
}

/// ⑥ Puts the task on the run queue if its executor lives on this thread, and into the executor's
/// inbox otherwise.
#[inline]
pub(crate) fn wake(key: Key) {
    let outcome = with_entered(|entered| match entered {
        Some(inner) => inner.wake(key),
        None => WakeOutcome::NotFound,
    });
    // The cold paths are outlined, so that the hot path spills no registers.
    match outcome {
        WakeOutcome::Done => {}
        WakeOutcome::NeedsWakeup => wake_driver(),
        WakeOutcome::NotFound => wake_on_another(key),
    }
}

#[cold]
fn wake_driver() {
    if let Some(inner) = entered() {
        inner.wake_driver(); // user code, so the entered executor is back in its cell
    }
}

/// Wakes a task of another executor of this thread, or of another thread.
#[cold]
fn wake_on_another(key: Key) {
    match find_local(key.executor()) {
        Some(inner) => {
            if let WakeOutcome::NeedsWakeup = inner.wake(key) {
                inner.wake_driver();
            }
        }
        None => inbox::of(key.executor()).post(key),
    }
}

/// The executor of that id, if it belongs to this thread.
#[cold]
pub(crate) fn find_local(executor: u16) -> Option<Rc<ExecutorInner>> {
    // Nearly always this is the entered executor, which takes a third of the time to find.
    let is_it = |inner: &&Rc<ExecutorInner>| inner.id == executor;
    let entered = with_entered(|entered| entered.as_ref().filter(is_it).cloned());
    entered.or_else(|| LOCAL.with_borrow(|local| local.iter().find(is_it).cloned()))
}

/// Returns true inside of a task of an executor of this crate, where blocking would stop all other
/// tasks.
///
/// ```
/// use windlass_executor::{block_on, in_task, Executor};
///
/// assert!(!in_task());
/// block_on(Executor::new().run(async { assert!(in_task()) }));
/// ```
pub fn in_task() -> bool {
    // All executors, since a task may have entered another one.
    LOCAL.with_borrow(|local| local.iter().any(|inner| inner.is_running.get()))
}

impl TaskId {
    /// Returns the id of the task that is being polled on this thread. `None` outside of tasks, in
    /// the main future, and once the task has woken itself in this poll.
    pub fn current() -> Option<TaskId> {
        let key = |inner: &Rc<ExecutorInner>| inner.pulse.current_task.get();
        TaskId::of_key(with_entered(|entered| entered.as_ref().map(key))?)
    }

    /// Returns the name of the task, if it has one and belongs to this thread.
    ///
    /// ```
    /// use windlass_executor::{Executor, TaskId, block_on, spawn};
    ///
    /// block_on(Executor::new().run(async {
    ///     let name = async { TaskId::current()?.name() };
    ///     assert_eq!(spawn(name).named("hauler").await.as_deref(), Some("hauler"));
    /// }));
    /// ```
    pub fn name(self) -> Option<Arc<str>> {
        find_local(self.0.executor())?.inbox.pulse.name(self.0)
    }
}

/// Lists the tasks of all executors of this thread. See [`Executor::list_tasks`].
///
/// [`Executor::list_tasks`]: crate::Executor::list_tasks
pub fn list_tasks() -> Vec<TaskEntry> {
    LOCAL.with_borrow(|local| {
        let mut tasks = Vec::new();
        local.iter().for_each(|inner| inner.list_tasks(&mut tasks));
        tasks
    })
}

/// Sets an observer for all executors that this thread has now, as [`Executor::observe`] does for
/// one, or removes theirs.
///
/// [`Executor::observe`]: crate::Executor::observe
pub fn observe_all(observer: Option<Rc<dyn Observer>>) {
    let local: Vec<_> = LOCAL.with_borrow(|local| local.to_vec());
    for inner in local {
        drop(inner.set_observer(observer.clone())); // user code
    }
    if observer.is_some() {
        set_report(OBSERVE, true);
    }
}

/// The work of the executors of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Workload {
    /// How many polls they have made. Wraps around.
    pub polls: usize,
    /// How many unfinished tasks they have, with the main futures.
    pub tasks: usize,
}

/// Returns the work of the executors of this thread.
///
/// ```
/// use windlass_executor::{Executor, block_on, workload};
///
/// let executor = Executor::new();
/// executor.spawn(std::future::pending::<()>()).detach();
/// block_on(executor.run(async {}));
/// assert_eq!((workload().polls, workload().tasks), (2, 1));
/// ```
pub fn workload() -> Workload {
    let none = Workload { polls: 0, tasks: 0 };
    LOCAL.with_borrow(|local| {
        local.iter().fold(none, |sum, inner| Workload {
            polls: sum.polls.wrapping_add(inner.pulse.polls.get()),
            tasks: sum.tasks + inner.table().len(),
        })
    })
}

/// [`ExecutorInner::count_refill`] of the innermost loop on this thread's stack.
#[cold]
pub(crate) fn count_refill() -> Option<CurrentPoll> {
    let of_entered = with_entered(|entered| entered.as_ref()?.count_refill());
    // A task may have entered an idle executor.
    let of_last = |local: &Executors| local.iter().rev().find_map(|inner| inner.count_refill());
    of_entered.or_else(|| LOCAL.with_borrow(of_last))
}

/// True if another, idle executor of this thread has a task that is ready.
#[inline]
pub(crate) fn others_ready(executor: u16) -> bool {
    // Most threads have one executor, and pay for this comparison alone.
    LOCAL.with_borrow(|local| local.len() > 1 && any_ready(local, executor))
}

#[cold]
fn any_ready(local: &[Rc<ExecutorInner>], except: u16) -> bool {
    let mut others = local.iter().filter(|inner| inner.id != except);
    others.any(|inner| !inner.is_running.get() && inner.has_ready())
}

/// Passes the entered executor to `access`, which must neither run user code nor panic.
#[inline(always)]
pub(crate) fn with_entered<R>(access: impl FnOnce(&Option<Rc<ExecutorInner>>) -> R) -> R {
    let entered = ENTERED.take();
    let result = access(&entered);
    ENTERED.set(entered);
    result
}

#[cold]
pub(crate) fn entered() -> Option<Rc<ExecutorInner>> {
    with_entered(|entered| entered.clone())
}

/// The guard of [`Executor::enter`](crate::Executor::enter).
#[derive(Debug)]
#[must_use = "the executor is left again when this is dropped"]
pub struct Entered {
    previous: Option<Rc<ExecutorInner>>,
}

pub(crate) fn enter(inner: Rc<ExecutorInner>) -> Entered {
    let previous = replace(Some(inner));
    Entered { previous }
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(replace(self.previous.take()));
    }
}

/// Returns the executor that was entered. The caller drops it, since that may run user code.
fn replace(inner: Option<Rc<ExecutorInner>>) -> Option<Rc<ExecutorInner>> {
    ManuallyDrop::into_inner(ENTERED.replace(ManuallyDrop::new(inner)))
}
