//! A runtime, read through its record.

use std::collections::HashSet;
use std::mem::offset_of;
use std::time::Duration;

use windlass_executor::layout as executor;
use windlass_reactor::{LoopState, layout as reactor};

use super::memory::Block;
use super::objects::{self, Objects, Source};
use super::program::Program;
use super::tasks::{Executor, Tasks};
use super::view::{
    FdView, PlacesView, RuntimeView, StateView, TaskNumber, TaskView, TimerView, WaitView,
};
use super::waits::{Event, Reactor, Wait};
use crate::inspect::root::Record;
use crate::inspect::wait::signals_text;

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
    shared: &(Vec<Wait>, bool),
    around: &dyn Surroundings,
) -> Option<Read> {
    let thread = around.thread(i32::try_from(record.word(offset_of!(Record, tid))?).ok()?)?;
    let executor = Executor::new(program, record, offset_of!(Record, executor))?;
    let reactor = Reactor::new(program, record, offset_of!(Record, reactor));
    let progress = progress(&executor, &reactor);
    let mut tasks = executor.tasks();
    let (waits, is_complete, objects) = waits(program, record, &reactor);
    let other_waits = Assignment {
        program,
        executor: &executor,
        objects: &objects,
        around,
        tasks: &mut tasks,
        others: Vec::new(),
    }
    .assign(&waits, &shared.0);
    let view = RuntimeView {
        thread,
        thread_name: thread_name(program, record),
        executor: executor.id,
        activity: around.activity(thread),
        loop_state: loop_state(&reactor)?,
        polls: progress[0]?,
        turns: reactor.word(offset_of!(reactor::Addresses, turns))?,
        current_task: current_task(&executor, &tasks.tasks),
        is_dropping: is_dropping(&executor),
        is_incomplete: tasks.is_incomplete || !(is_complete && shared.1),
        tasks: tasks.tasks,
        other_waits,
        timers: reactor.word(offset_of!(reactor::Addresses, timers_pending))? as usize,
        sources: reactor.word(offset_of!(reactor::Addresses, sources))? as usize,
    };
    Some(Read { view, progress })
}

/// Returns the waits of the thread, whether they are complete, and its objects.
fn waits(
    program: &Program<'_>,
    record: &Block,
    reactor: &Reactor<'_>,
) -> (Vec<Wait>, bool, Objects) {
    let (mut waits, is_complete) = reactor.waits();
    let (mut objects, has_objects) = objects::read(program, record);
    waits.append(&mut objects.waits);
    (waits, is_complete && has_objects, objects)
}

/// The loop forgets the key of a task that has woken itself, but its cell is marked.
fn current_task(executor: &Executor<'_>, tasks: &[TaskView]) -> Option<TaskNumber> {
    let is_polled = |task: &&TaskView| !task.is_main && task.state == StateView::Running;
    let polled = || tasks.iter().find(is_polled).map(|task| task.id);
    let current = executor.task(offset_of!(executor::Addresses, current_task));
    current.or_else(polled)
}

fn is_dropping(executor: &Executor<'_>) -> bool {
    executor
        .task(offset_of!(executor::Addresses, dropped_task))
        .is_some()
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

/// The assignment of waits to tasks.
struct Assignment<'a> {
    program: &'a Program<'a>,
    executor: &'a Executor<'a>,
    objects: &'a Objects,
    around: &'a dyn Surroundings,
    tasks: &'a mut Tasks,
    /// The waits of wakers that are not of tasks.
    others: Vec<WaitView>,
}

impl Assignment<'_> {
    /// Adds each wait to the task of its waker. Returns the waits of wakers that are not of tasks,
    /// apart from those that other threads may have.
    fn assign(mut self, waits: &[Wait], shared: &[Wait]) -> Vec<WaitView> {
        let mut seen = HashSet::new();
        let mut waiting_children = HashSet::new();
        let is_own = waits.iter().map(|wait| (wait, true));
        for (wait, is_own) in is_own.chain(shared.iter().map(|wait| (wait, false))) {
            if !is_present(self.executor, wait) {
                continue;
            }
            let key = self.key_of(wait.waker);
            if self.executor.key_in(wait.waker).is_none() {
                waiting_children.extend(wait.waker);
            }
            // A task may wait for the same event several times, and so may a waker of a combinator.
            if (is_own || key.is_some()) && seen.insert((wait.waker, &wait.event)) {
                self.add(key, &wait.event);
            }
        }
        for &(key, remotes) in &self.objects.job_receivers {
            self.add(Some(key), &Event::Jobs(remotes));
        }
        // A child of a scope without a listed wait waits for an unknown event.
        let children = self.objects.scopes.iter();
        let silent = children.filter(|(child, _)| !waiting_children.contains(child));
        let keys: HashSet<_> = silent
            .filter_map(|(_, parent)| self.key_of(*parent))
            .collect();
        keys.into_iter()
            .for_each(|key| self.add(Some(key), &Event::Unknown));
        self.others
    }

    fn add(&mut self, key: Option<u64>, event: &Event) {
        let view = self.view(event);
        match key {
            None => self.others.push(view),
            Some(key) => {
                let slot = self.executor.slot(key);
                let task = slot.and_then(|slot| self.tasks.get_mut(slot));
                // A waker may outlive its task.
                let task = task.filter(|task| Some(task.id) == self.executor.number(key));
                task.into_iter()
                    .for_each(|task| task.waits.push(view.clone()));
            }
        }
    }

    /// Returns the key of the task that a waker wakes, possibly through the scopes that it is a
    /// child of.
    fn key_of(&self, mut waker: [u64; 2]) -> Option<u64> {
        const DEEPEST: usize = 256;
        for _ in 0..DEEPEST {
            if let Some(key) = self.executor.key_in(waker) {
                return Some(key);
            }
            let scopes = &self.objects.scopes;
            waker = *waker.iter().find_map(|word| scopes.get(word))?;
        }
        None
    }

    /// Returns the task that a waker wakes, if it is in the list.
    fn task(&self, waker: [u64; 2]) -> Option<TaskNumber> {
        self.listed(self.key_of(waker)?)
    }

    fn listed(&self, key: u64) -> Option<TaskNumber> {
        let number = self.executor.number(key)?;
        let task = self.tasks.get(self.executor.slot(key)?)?;
        (task.id == number).then_some(number)
    }

    /// The task at the other end of a channel. A combinator's waker is no sign of it.
    fn peer(&self, waker: [u64; 2]) -> Option<TaskNumber> {
        self.listed(self.executor.key_in(waker)?)
    }

    fn place(&self, address: u64) -> String {
        self.program.location(address).unwrap_or_default()
    }

    fn places(&self, created_at: u64, awaited_at: u64) -> PlacesView {
        let awaited_at = (awaited_at != 0).then(|| self.program.location(awaited_at));
        PlacesView {
            created_at: self.place(created_at),
            awaited_at: awaited_at
                .flatten()
                .filter(|place| self.program.is_await(place)),
        }
    }

    fn view(&self, event: &Event) -> WaitView {
        match *event {
            Event::Fd(0, fd) if self.objects.sources.contains_key(&fd) => {
                match &self.objects.sources[&fd] {
                    Source::Child(pid) => WaitView::Child(*pid),
                    Source::Signals(signals) => WaitView::Signal(signals_text(signals)),
                }
            }
            Event::Fd(interest, fd) => {
                let fd = self.fd(fd);
                match interest {
                    0 => WaitView::Readable(fd),
                    1 => WaitView::Writable(fd),
                    2 => WaitView::Priority(fd),
                    _ => WaitView::Error(fd),
                }
            }
            Event::Timer(deadline) => WaitView::Timer(self.timer(deadline)),
            Event::NextTurn => WaitView::NextTurn,
            ref event => self.view_outer(event),
        }
    }

    /// Describes a wait for another thread or the system.
    fn view_outer(&self, event: &Event) -> WaitView {
        match *event {
            Event::Closure {
                pool: [address, len],
                started_at,
                is_running,
            } => WaitView::Blocking {
                pool: self.program.reader.text(address, len).unwrap_or_default(),
                started_at: self.place(started_at),
                is_running,
            },
            Event::File {
                operation,
                fd,
                is_running,
            } => WaitView::File {
                operation,
                fd: (fd >= 0).then(|| self.fd(fd)),
                is_running,
            },
            Event::FileOrder(running) => WaitView::FileOrder { running },
            Event::Remote(place) => WaitView::RemoteTask {
                spawned_at: self.place(place),
            },
            Event::Jobs(remotes) => WaitView::Jobs { remotes },
            Event::Unknown => WaitView::Unknown,
            ref event => self.view_object(event),
        }
    }

    /// Describes a wait for an object of the thread.
    fn view_object(&self, event: &Event) -> WaitView {
        match *event {
            Event::Lock {
                created_at,
                awaited_at,
                holder,
            } => WaitView::Lock {
                at: self.places(created_at, awaited_at),
                held_by: self.task(holder),
            },
            Event::Semaphore {
                created_at,
                awaited_at,
                wanted,
                available,
            } => WaitView::Semaphore {
                at: self.places(created_at, awaited_at),
                wanted,
                available,
            },
            Event::Object(operation, created_at, awaited_at) => WaitView::Object {
                operation,
                at: self.places(created_at, awaited_at),
            },
            Event::Group {
                created_at,
                ref children,
            } => WaitView::Group {
                created_at: self.place(created_at),
                children: children
                    .iter()
                    .filter_map(|&key| self.listed(key))
                    .collect(),
            },
            Event::Scope(children) => WaitView::Scope { children },
            ref event => self.view_channel(event),
        }
    }

    fn view_channel(&self, event: &Event) -> WaitView {
        match *event {
            Event::Send {
                created_at,
                awaited_at,
                capacity,
                receiver,
            } => WaitView::Send {
                at: self.places(created_at, awaited_at),
                capacity,
                receiver: self.peer(receiver),
            },
            Event::Receive {
                created_at,
                awaited_at,
                senders,
                sender,
            } => WaitView::Receive {
                at: self.places(created_at, awaited_at),
                senders,
                sender: self.peer(sender),
            },
            _ => WaitView::Unknown,
        }
    }

    fn fd(&self, fd: i32) -> FdView {
        FdView {
            fd,
            target: self.around.fd_target(fd),
        }
    }

    fn timer(&self, deadline: u64) -> TimerView {
        let between = |from: u64, to: u64| Duration::from_nanos(to - from);
        match self.around.now() {
            _ if deadline == u64::MAX => TimerView::Never,
            None => TimerView::At(Duration::from_nanos(deadline)),
            Some(now) if now <= deadline => TimerView::In(between(now, deadline)),
            Some(now) => TimerView::Overdue(between(deadline, now)),
        }
    }
}
