//! The hosts of a world.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use windlass_executor::{Observer, TaskId, list_tasks};
use windlass_reactor::host as reactor;

use super::clock::Clock;
use super::current;
use super::disk::Disk;
use super::net::HostId;
use super::outcome::Outcome;
use super::problem::Problem;
use super::run::Run;
use super::signals::HostSignals;
use super::site::Site;
use super::system::HostSystem;
use super::trace::EventKind;
use super::world::{WorldState, nanos};
use crate::signal::Signal;
use crate::{Runtime, Task};

/// A host of a [`World`](super::World).
#[derive(Clone)]
pub struct Host {
    world: Weak<WorldState>,
    state: Rc<HostState>,
}

impl Host {
    pub(super) fn new(world: &Rc<WorldState>, state: Rc<HostState>) -> Host {
        Host {
            world: Rc::downgrade(world),
            state,
        }
    }

    /// Ends the host at once, as a power failure does. Its tasks vanish, and its peers are not
    /// informed. Its disk keeps what was synced.
    ///
    /// The futures of the tasks are dropped. Their destructors can neither send nor write.
    pub fn crash(&self) {
        self.crash_at(self.now());
    }

    /// Starts a host that has crashed, or whose program has finished. Calls its function again.
    pub fn restart(&self) {
        self.restart_at(self.now());
    }

    /// Ends the host as [`crash`](Host::crash) does, at a time since the start of the world.
    pub fn crash_at(&self, at: Duration) {
        self.plan(at, |host, world| host.crash(world));
    }

    /// Starts the host as [`restart`](Host::restart) does, at a time since the start of the world.
    pub fn restart_at(&self, at: Duration) {
        self.plan(at, |host, world| host.restart(world));
    }

    /// Makes the clock of the host faster from now on, in parts per million, or slower if negative.
    ///
    /// # Panics
    ///
    /// Panics if the clock would stand still.
    pub fn clock_skew(&self, parts_per_million: i32) {
        assert!(
            parts_per_million > -1_000_000,
            "a clock must not stand still"
        );
        self.state.drift.set(parts_per_million);
        if let (Some(world), Some(life)) = (self.world.upgrade(), self.state.life()) {
            let clock = &life.system.clock;
            clock.set(clock.get().with_drift(world.now(), parts_per_million));
            // The next turn computes the time of the next timer by the new speed.
            life.next_turn.set(Some(world.now()));
        }
    }

    /// Sends a signal to the host's program. If nothing listens for it, it ends the program, and
    /// the system closes its sockets. The destructors of its tasks run, unlike those of a killed
    /// process.
    pub fn signal(&self, signal: Signal) {
        self.signal_at(self.now(), signal);
    }

    /// Sends a signal as [`signal`](Host::signal) does, at a time since the start of the world.
    pub fn signal_at(&self, at: Duration, signal: Signal) {
        self.plan(at, move |host, world| host.raise(world, signal));
    }

    /// Limits how many bytes fit on the disk. Further writes fail with `ENOSPC`.
    pub fn disk_capacity(&self, bytes: Option<u64>) {
        self.state
            .disk
            .change_faults(|faults| faults.capacity = bytes);
    }

    /// Makes about one of so many reads of files fail with `EIO`. Zero, the default, means none.
    pub fn disk_read_errors(&self, one_in: u32) {
        self.state
            .disk
            .change_faults(|faults| faults.read_errors = one_in);
    }

    /// Makes about one of so many syncs of files fail with `EIO`. What was not synced never reaches
    /// the disk then. Zero, the default, means none.
    pub fn disk_sync_errors(&self, one_in: u32) {
        self.state
            .disk
            .change_faults(|faults| faults.sync_errors = one_in);
    }

    /// Makes about one of so many operations on files take up to a second longer. Zero, the
    /// default, means none.
    pub fn slow_disk(&self, one_in: u32) {
        self.state
            .disk
            .change_faults(|faults| faults.slow_operations = one_in);
    }

    /// Limits how many sockets the host has open at once. Further ones are refused with `EMFILE`.
    pub fn descriptor_limit(&self, sockets: usize) {
        if let Some(world) = self.world.upgrade() {
            world.network().set_descriptor_limit(self.state.id, sockets);
        }
    }

    fn now(&self) -> Duration {
        let world = self.world.upgrade();
        world.map_or(Duration::ZERO, |world| Duration::from_nanos(world.now()))
    }

    /// Plans an action. The world carries it out between the turns of the hosts.
    fn plan(&self, at: Duration, action: impl FnOnce(&HostState, &Rc<WorldState>) + 'static) {
        if let Some(world) = self.world.upgrade() {
            let host = self.state.clone();
            world.at(nanos(at), move |world| action(&host, world));
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

type Program = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Option<String>>>>>;

/// The state of a host.
pub(super) struct HostState {
    pub(super) id: HostId,
    pub(super) name: String,
    program: Program,
    /// `None` before the start and after a crash.
    life: RefCell<Option<Rc<Life>>>,
    is_started: Cell<bool>,
    drift: Cell<i32>,
    pub(super) disk: Rc<Disk>,
}

/// A host from its start to its end.
pub(super) struct Life {
    runtime: Option<Runtime>,
    /// The program.
    main: RefCell<Option<Task<Option<String>>>>,
    pub(super) system: Rc<HostSystem>,
    disk: Rc<Disk>,
    signals: Rc<HostSignals>,
    reactor: reactor::Host,
    woken: Arc<Woken>,
    /// The next turn in the time of the world. `None` if only an event causes one.
    next_turn: Cell<Option<u64>>,
}

impl Life {
    /// Creates a runtime on a host.
    pub(super) fn start(world: &Rc<WorldState>, id: HostId, drift: i32, disk: Rc<Disk>) -> Life {
        let now = world.now();
        let clock = Clock::new(now).with_drift(now, drift);
        let system = Rc::new(HostSystem::new(world, id, clock));
        let reactor = reactor::Host::new(system.clone());
        let woken = Arc::new(Woken::new());
        let runtime = {
            let _entered = (reactor.enter(), current::enter(disk.clone()));
            let woken = woken.clone();
            let builder = Runtime::builder().on_wake(move || woken.set());
            builder
                .build()
                .expect("a simulated host needs two descriptors")
        };
        let run = world.run.clone();
        runtime.observe(Rc::new(Polls {
            run,
            host: id,
            first: Cell::new(None),
        }));
        Life {
            runtime: Some(runtime),
            main: RefCell::new(None),
            system,
            disk,
            signals: Rc::default(),
            reactor,
            woken,
            next_turn: Cell::new(Some(now)),
        }
    }

    /// Makes the host the one that this thread runs in.
    fn enter(&self) -> (reactor::Entered<'_>, current::Entered, EnteredSignals) {
        let signals = current::replace_signals(Some(self.signals.clone()));
        (
            self.reactor.enter(),
            current::enter(self.disk.clone()),
            EnteredSignals(signals),
        )
    }

    /// Calls a function in the host.
    pub(super) fn inside<R>(&self, call: impl FnOnce(&Runtime) -> R) -> R {
        let _entered = self.enter();
        call(
            self.runtime
                .as_ref()
                .expect("a runtime is present until drop"),
        )
    }

    /// Returns when the timers of the host need a turn, in the time of the world.
    pub(super) fn deadline(&self, runtime: &Runtime) -> Option<u64> {
        let at = reactor::nanos(runtime.next_deadline()?);
        Some(self.system.clock.get().of_world(at))
    }
}

/// The signals of the thread are those of a host until this is dropped.
struct EnteredSignals(Option<Rc<HostSignals>>);

impl Drop for EnteredSignals {
    fn drop(&mut self) {
        drop(current::replace_signals(self.0.take()));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let (main, runtime) = (self.main.take(), self.runtime.take());
        let _entered = self.enter();
        if let Some(main) = main {
            main.detach();
        }
        drop(runtime);
    }
}

impl HostState {
    pub(super) fn new<F, T>(
        id: HostId,
        name: &str,
        disk: Rc<Disk>,
        program: impl Fn() -> F + 'static,
    ) -> HostState
    where
        F: Future<Output = T> + 'static,
        T: Outcome,
    {
        let program: Program = Box::new(move || {
            let future = program();
            Box::pin(async { future.await.into_error() })
        });
        HostState {
            id,
            name: name.to_owned(),
            program,
            life: RefCell::new(None),
            is_started: Cell::new(false),
            drift: Cell::new(0),
            disk,
        }
    }

    fn start(&self, world: &Rc<WorldState>) {
        self.is_started.set(true);
        world.record(self.id, EventKind::Host, 1, 0);
        self.disk.set_power(true);
        let life = Life::start(world, self.id, self.drift.get(), self.disk.clone());
        let main = life.inside(|runtime| runtime.spawn((self.program)()));
        *life.main.borrow_mut() = Some(main.named(self.name.as_str()));
        *self.life.borrow_mut() = Some(Rc::new(life));
    }

    /// Returns the running host. User code that runs in it may use the handle of the host.
    fn life(&self) -> Option<Rc<Life>> {
        self.life.borrow().clone()
    }

    pub(super) fn is_ready(&self, world: &WorldState) -> bool {
        match &*self.life.borrow() {
            None => !self.is_started.get(),
            Some(life) => {
                life.next_turn.get().is_some_and(|at| at <= world.now())
                    || life.woken.is_set.load(Relaxed)
                    || world.network().has_events(self.id)
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.life.borrow().as_ref()?.next_turn.get()
    }

    /// Returns whether the program runs, or has not started.
    pub(super) fn is_unfinished(&self) -> bool {
        let life = self.life.borrow();
        life.as_ref()
            .map_or(!self.is_started.get(), |life| life.main.borrow().is_some())
    }

    pub(super) fn turn(&self, world: &Rc<WorldState>) -> Result<(), Problem> {
        let run = &world.run;
        run.context.set_host(self.id.0);
        if self.life.borrow().is_none() {
            self.start(world);
        }
        let Some(life) = self.life() else {
            return Ok(());
        };
        life.woken.is_set.store(false, Relaxed);
        let choose = |len: usize| run.choices.choose(self.id.0, Site::Task, 4, len as u32) as usize;
        let (turned, deadline) = life.inside(|runtime| {
            let turned = runtime.turn_by(choose);
            life.woken.note_remote_wakes(runtime);
            (turned, life.deadline(runtime))
        });
        if life.woken.by_other_thread.load(Relaxed) {
            return Err(Problem::Error {
                host: self.name.clone(),
                error: "another thread has woken a task, so the run does not depend on the seed \
                        alone: start no thread in a simulated host"
                    .to_owned(),
            });
        }
        let turned = turned.unwrap_or_else(|error| panic!("the turn of a host failed: {error}"));
        life.next_turn.set(if turned.ready {
            Some(world.now())
        } else {
            deadline
        });
        let is_finished = life.main.borrow().as_ref().is_some_and(Task::is_finished);
        if is_finished {
            return self.finish(&life, world);
        }
        Ok(())
    }

    /// Takes the output of the program.
    fn finish(&self, life: &Life, world: &WorldState) -> Result<(), Problem> {
        world.record(self.id, EventKind::Host, 2, 0);
        let Some(main) = life.main.take() else {
            return Ok(());
        };
        let mut output = Box::pin(main.catch());
        let cx = &mut Context::from_waker(Waker::noop());
        let output = life.inside(|_| output.as_mut().poll(cx));
        match output {
            Poll::Ready(Ok(Some(error))) => Err(Problem::Error {
                host: self.name.clone(),
                error,
            }),
            Poll::Ready(Err(panic)) => Err(Problem::Panic {
                message: panic
                    .message()
                    .unwrap_or("a payload that is not a string")
                    .to_owned(),
                place: None,
            }),
            Poll::Ready(Ok(None)) | Poll::Pending => Ok(()),
        }
    }

    fn raise(&self, world: &Rc<WorldState>, signal: Signal) {
        world.record(self.id, EventKind::Host, 5, signal.as_raw() as u64);
        let is_handled = self.life().is_none_or(|life| {
            let is_ignored =
                [Signal::CHLD, Signal::CONT, Signal::WINCH, Signal::PIPE].contains(&signal);
            life.inside(|_| life.signals.raise(signal.as_raw())) || is_ignored
        });
        if !is_handled {
            self.end();
        }
    }

    fn crash(&self, world: &Rc<WorldState>) {
        world.record(self.id, EventKind::Host, 3, 0);
        world.network().crash(self.id);
        self.disk.crash();
        self.disk.set_power(false);
        self.is_started.set(true);
        self.end();
    }

    fn restart(&self, world: &Rc<WorldState>) {
        if self.is_unfinished() {
            return;
        }
        self.end();
        world.record(self.id, EventKind::Host, 4, 0);
        world.network().restart(self.id);
        self.is_started.set(false);
    }

    /// Drops the runtime and its tasks.
    pub(super) fn end(&self) {
        let life = self.life.borrow_mut().take();
        drop(life); // user code, after the borrow
    }

    /// Describes what the tasks wait for, a line for each.
    pub(super) fn waits(&self) -> Vec<String> {
        let Some(life) = self.life() else {
            return Vec::new();
        };
        let lines = life.inside(tasks_waiting);
        lines
            .iter()
            .map(|line| format!("{}: {line}", self.name))
            .collect()
    }
}

impl fmt::Debug for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("is_unfinished", &self.is_unfinished())
            .finish_non_exhaustive()
    }
}

/// Describes what the tasks of a runtime wait for, a line for each.
pub(super) fn tasks_waiting(runtime: &Runtime) -> Vec<String> {
    let tasks = runtime.tasks();
    let lines = tasks.iter().map(|task| {
        let name = match (&task.name, task.is_main) {
            (Some(name), _) => format!("task `{name}`"),
            (None, true) => "the main future".to_owned(),
            (None, false) => "a task".to_owned(),
        };
        let waits: Vec<_> = task.waits.iter().map(ToString::to_string).collect();
        let waits = match &waits[..] {
            [] => "nothing that is known".to_owned(),
            waits => waits.join(" or "),
        };
        format!("{name} ({}) waits for {waits}", task.spawned_at)
    });
    lines.collect()
}

/// A task was woken outside of the turns of its host.
struct Woken {
    thread: ThreadId,
    is_set: AtomicBool,
    by_other_thread: AtomicBool,
}

impl Woken {
    fn new() -> Woken {
        Woken {
            thread: thread::current().id(),
            is_set: AtomicBool::new(false),
            by_other_thread: AtomicBool::new(false),
        }
    }

    /// Notes wakes by other threads during a turn.
    fn note_remote_wakes(&self, runtime: &Runtime) {
        if runtime.remote_wakes() > 0 {
            self.by_other_thread.store(true, Relaxed);
        }
    }

    fn set(&self) {
        if thread::current().id() != self.thread {
            self.by_other_thread.store(true, Relaxed);
        }
        self.is_set.store(true, Relaxed);
    }
}

/// Records the polls of a host's tasks.
struct Polls {
    run: Rc<Run>,
    host: HostId,
    /// The number of the first task. Executors of earlier runs have had the numbers before.
    first: Cell<Option<u32>>,
}

impl Polls {
    /// Adds the name of a task to the story, and that it was chosen.
    #[cold]
    fn explain(&self, task: TaskId, number: u32) {
        let tasks = list_tasks();
        let Some(entry) = tasks.iter().find(|entry| entry.id == task) else {
            return;
        };
        let name = entry.name.as_ref().map(|name| format!("`{name}`"));
        // The first task is the program, which the world has spawned.
        let place = (number > 1).then(|| format!("({})", entry.spawned_at));
        let name: Vec<_> = name.into_iter().chain(place).collect();
        let name = name.join(" ");
        let Run {
            context, choices, ..
        } = &*self.run;
        context.name_task(self.host.0, number, || name.clone());
        choices.explain(Site::Task, |position| {
            let others = if position == 1 { "other" } else { "others" };
            format!("task {name} runs before {position} {others}")
        });
    }
}

impl Observer for Polls {
    fn polling(&self, task: TaskId) {
        let first = self.first.get().unwrap_or(task.number());
        self.first.set(Some(first));
        let number = task.number().wrapping_sub(first) + 1;
        let Run { context, trace, .. } = &*self.run;
        context.set_task(number);
        if context.keeps_names() {
            self.explain(task, number);
        }
        trace.record(
            context.now(),
            self.host.0,
            EventKind::Poll,
            number.into(),
            0,
        );
    }

    fn polled(&self, _: TaskId) {
        self.run.context.set_task(super::context::NO_TASK);
    }
}
