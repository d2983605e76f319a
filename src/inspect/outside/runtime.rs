//! A runtime, read through its record.

use std::collections::HashSet;
use std::mem::offset_of;
use std::time::Duration;

use windlass_executor::layout as executor;
use windlass_reactor::{LoopState, layout as reactor};

use super::memory::Block;
use super::objects;
use super::program::Program;
use super::tasks::{Executor, Tasks};
use super::view::{FdView, RuntimeView, StateView, TaskView, TimerView, WaitView};
use super::waits::{Event, Reactor, Wait};
use crate::inspect::root::Record;

/// What the reader knows about the process apart from its memory.
pub(super) trait Surroundings {
    /// Returns the thread with this number in the namespace of the process, by the number that it
    /// has for the reader. `None` if it has ended.
    fn thread(&self, tid: i32) -> Option<i32>;

    /// Describes the activity of a thread.
    fn activity(&self, thread: i32) -> String;

    /// Returns the target of the link of a file descriptor.
    fn fd_target(&self, fd: i32) -> Option<String>;

    /// Returns the time of the clock of timers (ns).
    fn now(&self) -> Option<u64>;
}

/// A runtime, and numbers that change when it continues.
pub(super) struct Read {
    pub(super) view: RuntimeView,
    pub(super) progress: Progress,
}

/// The numbers of polls, of spawned and ended tasks, of turns, and of started timers.
pub(super) type Progress = [Option<u64>; 5];

/// Reads a runtime. Returns `None` if its thread has ended, which is so for the inherited runtimes
/// of a forked child, or if the record makes no sense.
pub(super) fn read(
    program: &Program<'_>,
    record: &Block,
    around: &dyn Surroundings,
) -> Option<Read> {
    let thread = around.thread(i32::try_from(record.word(offset_of!(Record, tid))?).ok()?)?;
    let executor = Executor::new(program, record, offset_of!(Record, executor))?;
    let reactor = Reactor::new(program, record, offset_of!(Record, reactor));
    let progress = progress(&executor, &reactor);
    let mut tasks = executor.tasks();
    let (mut waits, is_complete) = reactor.waits();
    let is_complete = objects::add(program, record, &mut waits).is_some() && is_complete;
    let other_waits = assign(waits, program, &executor, &mut tasks, around);
    let task = |field| executor.word(field).and_then(|key| executor.number(key));
    let is_polled = |task: &&TaskView| !task.is_main && task.state == StateView::Running;
    let polled = tasks.tasks.iter().find(is_polled).map(|task| task.id);
    let view = RuntimeView {
        thread,
        thread_name: thread_name(program, record),
        executor: executor.id,
        activity: around.activity(thread),
        loop_state: loop_state(&reactor)?,
        polls: progress[0]?,
        turns: reactor.word(offset_of!(reactor::Addresses, turns))?,
        // The loop forgets the key of a task that has woken itself.
        current_task: task(offset_of!(executor::Addresses, current_task)).or(polled),
        is_dropping: task(offset_of!(executor::Addresses, dropped_task)).is_some(),
        is_incomplete: tasks.is_incomplete || !is_complete,
        tasks: tasks.tasks,
        other_waits,
        timers: reactor.word(offset_of!(reactor::Addresses, timers_pending))? as usize,
        sources: reactor.word(offset_of!(reactor::Addresses, sources))? as usize,
    };
    Some(Read { view, progress })
}

fn thread_name(program: &Program<'_>, record: &Block) -> Option<String> {
    let len = record.word(offset_of!(Record, name_len))?;
    let name = record.word(offset_of!(Record, name))?;
    (len > 0).then(|| program.reader.text(name, len))?
}

fn loop_state(reactor: &Reactor<'_>) -> Option<LoopState> {
    let is_entered = reactor.byte(offset_of!(reactor::Addresses, is_entered))? != 0;
    Some(match (is_entered, reactor.is_parked()?) {
        (false, _) => LoopState::Detached,
        (true, true) => LoopState::Asleep,
        (true, false) => LoopState::Awake,
    })
}

fn progress(executor: &Executor<'_>, reactor: &Reactor<'_>) -> Progress {
    [
        executor.word(offset_of!(executor::Addresses, polls)),
        executor.word(offset_of!(executor::Addresses, spawned)),
        executor.word(offset_of!(executor::Addresses, ended)),
        reactor.word(offset_of!(reactor::Addresses, turns)),
        reactor.word(offset_of!(reactor::Addresses, timers_set)),
    ]
}

/// Reads the progress of a runtime.
pub(super) fn read_progress(program: &Program<'_>, record: &Block) -> Option<Progress> {
    let executor = Executor::new(program, record, offset_of!(Record, executor))?;
    let reactor = Reactor::new(program, record, offset_of!(Record, reactor));
    Some(progress(&executor, &reactor))
}

/// One of the words of an absent waker is zero. So is the key of the first task of a process.
fn is_present(executor: &Executor<'_>, wait: &Wait) -> bool {
    executor.key_in(wait.waker).is_some() || !wait.waker.contains(&0)
}

/// Adds each wait to the task of its waker. Returns the waits of wakers that are not of tasks.
fn assign(
    waits: Vec<Wait>,
    program: &Program<'_>,
    executor: &Executor<'_>,
    tasks: &mut Tasks,
    around: &dyn Surroundings,
) -> Vec<WaitView> {
    let mut others = Vec::new();
    let mut seen = HashSet::new();
    for wait in waits.iter().filter(|wait| is_present(executor, wait)) {
        // A task may wait for the same event several times, and so may a waker of a combinator.
        if !seen.insert((wait.waker, &wait.event)) {
            continue;
        }
        let list = match executor.key_in(wait.waker) {
            None => Some(&mut others),
            Some(key) => {
                let task = executor.slot(key).and_then(|slot| tasks.get_mut(slot));
                // A waker may outlive its task.
                let task = task.filter(|task| Some(task.id) == executor.number(key));
                task.map(|task| &mut task.waits)
            }
        };
        if let Some(list) = list {
            list.push(view(&wait.event, program, around));
        }
    }
    others
}

fn view(event: &Event, program: &Program<'_>, around: &dyn Surroundings) -> WaitView {
    match *event {
        Event::Object(operation, place) => WaitView::Object {
            operation,
            created_at: program.location(place).unwrap_or_default(),
        },
        Event::Fd(interest, fd) => {
            let target = around.fd_target(fd);
            let fd = FdView { fd, target };
            match interest {
                0 => WaitView::Readable(fd),
                1 => WaitView::Writable(fd),
                2 => WaitView::Priority(fd),
                _ => WaitView::Error(fd),
            }
        }
        Event::Timer(u64::MAX) => WaitView::Timer(TimerView::Never),
        Event::Timer(deadline) => {
            let between = |from: u64, to: u64| Duration::from_nanos(to - from);
            WaitView::Timer(match around.now() {
                None => TimerView::At(Duration::from_nanos(deadline)),
                Some(now) if now <= deadline => TimerView::In(between(now, deadline)),
                Some(now) => TimerView::Overdue(between(deadline, now)),
            })
        }
        Event::NextTurn => WaitView::NextTurn,
    }
}
