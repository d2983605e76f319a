//! The supervisor is the event loop of the parent. It starts, monitors, restarts, reloads and
//! drains the workers.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass_reactor::shortage::{explain, is_shortage};

use super::channel::{Channel, Frame};
use super::control::Report;
use super::log::Log;
use super::message::{Command, Exchange, Origin};
use super::slot::{MAX_EARLY_DEATHS, Slot};
use super::worker::Assignment;
use super::worker_handle::{KILL_LIMIT, Phase, WorkerHandle};
use crate::sync::mpsc;
use crate::time::timeout_at;

/// Maximum number of replaced sets of workers that drain at the same time.
const MAX_DRAINING_SETS: usize = 8;

/// Starts workers, as processes or as threads.
pub(super) trait Launcher {
    /// Starts a worker, of the new program if `is_new`.
    fn start(&mut self, to: Assignment, sockets: &Sockets, is_new: bool) -> io::Result<Started>;

    /// Opens the new program, which successors will run.
    fn reload(&mut self) -> io::Result<()>;

    /// Ends a reload. If it succeeded, the new program replaces the old one; otherwise it is
    /// dropped.
    fn commit_reload(&mut self, is_replaced: bool);
}

/// A worker that was started.
pub(super) struct Started {
    pub(super) name: String,
    pub(super) control: Channel,
    pub(super) messages: Channel,
    pub(super) kill: Box<dyn Fn()>,
    /// Describes a worker that was killed and has not exited, in the form of [`Exit::Failed`].
    pub(super) survivor_text: String,
    pub(super) ended: Pin<Box<dyn Future<Output = Exit>>>,
}

/// How a worker has ended.
#[derive(Debug)]
pub(super) enum Exit {
    Finished,
    /// This text completes a sentence that starts with "Worker 3".
    Failed(String),
    /// The worker failed before it ran any code of the user.
    NotStarted(io::Error),
}

/// The sockets of each call of `listen`: one for all workers, or one per worker.
pub(super) struct Sockets(pub(super) Vec<Vec<TcpListener>>);

impl Sockets {
    pub(super) fn of_worker(&self, index: usize) -> impl Iterator<Item = &TcpListener> {
        self.0
            .iter()
            .map(move |sockets| &sockets[index % sockets.len()])
    }
}

/// An event that the supervisor handles.
pub(super) enum Event {
    Command(Command),
    /// A report of the worker with that id.
    Report(u64, Frame),
    Exited(u64, Exit),
    /// The future of [`Builder::parent`](super::Builder::parent) has panicked, with this
    /// description.
    ParentPanicked(String),
}

/// Notifies the service manager. Does nothing where there is none.
pub(super) type Notify = Box<dyn Fn(Notification)>;

#[cfg_attr(not(unix), allow(dead_code))]
pub(super) enum Notification {
    /// That many workers serve.
    Ready(usize),
    Reloading,
    Stopping,
    /// The supervisor's loop is running.
    Alive,
}

pub(super) struct Settings {
    pub(super) assignment: Assignment,
    pub(super) heartbeat: Duration,
    pub(super) drain_limit: Duration,
    /// The interval of the watchdog's notifications, if they are enabled.
    pub(super) watchdog: Option<Duration>,
}

pub(super) struct Supervisor {
    launcher: Box<dyn Launcher>,
    sockets: Sockets,
    settings: Settings,
    /// Indexed by worker.
    slots: Vec<Slot>,
    /// All running workers, by id. Includes workers of the slots, their successors, and draining
    /// ones.
    workers: BTreeMap<u64, WorkerHandle>,
    /// Workers that were killed and have not exited within [`KILL_LIMIT`].
    survivors: BTreeMap<u64, WorkerHandle>,
    next_id: u64,
    /// During a reload, the successors, indexed by slot.
    successors: Option<Vec<u64>>,
    /// A reload was requested during a reload.
    reload_again: bool,
    is_stopping: bool,
    /// Origins of the stop requests received so far.
    stop_origins: Vec<Origin>,
    /// Error that `run` returns after the workers have exited.
    failure: Option<io::Error>,
    was_ready: bool,
    watchdog_at: Option<Instant>,
    exchange: Rc<Exchange>,
    events: mpsc::Sender<Event>,
    notify: Notify,
    log: Log,
}

impl Supervisor {
    pub(super) fn new(
        launcher: Box<dyn Launcher>,
        sockets: Sockets,
        settings: Settings,
        exchange: Rc<Exchange>,
        events: mpsc::Sender<Event>,
        notify: Notify,
        log: Log,
    ) -> Supervisor {
        Supervisor {
            slots: (0..settings.assignment.count)
                .map(|_| Slot::default())
                .collect(),
            launcher,
            sockets,
            workers: BTreeMap::new(),
            survivors: BTreeMap::new(),
            next_id: 0,
            successors: None,
            reload_again: false,
            is_stopping: false,
            stop_origins: Vec::new(),
            failure: None,
            was_ready: false,
            watchdog_at: settings.watchdog.map(|_| Instant::now()),
            settings,
            exchange,
            events,
            notify,
            log,
        }
    }

    /// Runs until all workers have exited and none is due for a restart.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            let count = self.slots.len();
            let started = self.start(slot, false).map_err(|error| {
                let text = format!("can't start worker {slot} of {count}: {error}");
                io::Error::new(error.kind(), text)
            });
            match started {
                Ok(id) => drop(self.assign_slot(slot, id)),
                Err(error) => return self.kill_all(events, error).await,
            }
        }
        while !self.is_done() {
            let now = Instant::now();
            let handled = match self.deadline() {
                Some(due) if due <= now => self.handle_timers(due, now),
                Some(due) => match timeout_at(due, events.recv()).await {
                    Ok(event) => self.handle(event),
                    Err(_) => Ok(()), // a deadline has passed
                },
                None => self.handle(events.recv().await),
            };
            if let Err(error) = handled {
                return self.kill_all(events, error).await;
            }
        }
        self.result()
    }

    /// Returns an error that names the workers that were killed and have not exited.
    fn result(mut self) -> io::Result<()> {
        let alive = self.survivors.values().chain(self.workers.values());
        let alive: Vec<_> = alive.map(|it| it.describe(&it.survival_exit())).collect();
        match (self.failure.take(), alive.join("; ")) {
            (None, alive) if alive.is_empty() => Ok(()),
            (None, alive) => Err(io::Error::new(io::ErrorKind::TimedOut, alive)),
            (Some(failure), alive) if alive.is_empty() => Err(failure),
            (Some(failure), alive) => Err(io::Error::new(
                failure.kind(),
                format!("{failure}; {alive}"),
            )),
        }
    }

    fn is_done(&self) -> bool {
        let is_over = |slot: &Slot| slot.is_finished || self.is_stopping;
        self.workers.is_empty() && self.slots.iter().all(is_over)
    }

    /// Starts a worker for the slot, without assigning the slot to it.
    fn start(&mut self, slot: usize, is_new: bool) -> io::Result<u64> {
        let assignment = Assignment {
            index: slot,
            ..self.settings.assignment
        };
        let started = self.launcher.start(assignment, &self.sockets, is_new);
        let started = started.map_err(explain)?;
        let id = self.next_id;
        self.next_id += 1;
        let handle = WorkerHandle::new(id, slot, started, &self.exchange, &self.events);
        self.workers.insert(id, handle);
        Ok(id)
    }

    /// Assigns the slot to the worker. Returns the worker that had it before.
    fn assign_slot(&mut self, slot: usize, id: u64) -> Option<u64> {
        let messages = self.workers.get(&id).map(|worker| worker.messages.clone());
        self.exchange.set_mailbox(slot, messages);
        self.slots[slot].worker.replace(id)
    }

    fn handle(&mut self, event: Option<Event>) -> io::Result<()> {
        match event.expect("the supervisor holds a sender") {
            Event::Report(id, frame) => self.handle_report(id, Report::from_frame(&frame)),
            Event::Exited(id, exit) => return self.handle_exit(id, exit),
            Event::Command(Command::Reload) => self.reload(),
            Event::Command(Command::LogMetrics) => self.log_metrics(),
            Event::Command(Command::Stop(origin)) => return self.handle_stop(origin),
            Event::ParentPanicked(text) => self.handle_parent_panic(text),
        }
        Ok(())
    }

    /// The first request of an origin drains the workers, the second one of the same origin kills
    /// them. Origins count separately, so that the first SIGTERM after `Parent::stop` is not a
    /// kill.
    fn handle_stop(&mut self, origin: Origin) -> io::Result<()> {
        if self.stop_origins.contains(&origin) {
            let text = "a second stop request killed the workers";
            return Err(io::Error::new(io::ErrorKind::Interrupted, text));
        }
        self.stop_origins.push(origin);
        self.stop();
        Ok(())
    }

    /// Drains the workers, because nothing receives their messages to the parent any more.
    fn handle_parent_panic(&mut self, text: String) {
        self.log.write(format!("{text}: draining the workers"));
        self.failure.get_or_insert(io::Error::other(text));
        self.stop();
    }

    fn handle_report(&mut self, id: u64, report: Option<Report>) {
        let worker = self.workers.get_mut(&id);
        match (report, worker) {
            (Some(Report::Heartbeat(is_ready, figures)), Some(_)) => {
                self.handle_heartbeat(id, is_ready, *figures)
            }
            (Some(Report::Draining), Some(_)) => self.drain(id),
            (Some(Report::Finished), Some(worker)) => worker.has_finished = true,
            (Some(Report::Failed(error)), Some(worker)) => {
                worker.reason.get_or_insert(format!("failed: {error}"));
            }
            // The worker has exited, or its program is newer than the parent and sends other
            // reports.
            _ => {}
        }
    }

    fn handle_heartbeat(&mut self, id: u64, is_ready: bool, mut figures: super::Figures) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        worker.last_heartbeat = Some(now);
        let slot = &self.slots[worker.slot];
        if slot.worker == Some(id) {
            let shown = &mut self.exchange.figures.borrow_mut()[worker.slot];
            (figures.restarts, figures.lost) = (slot.restarts, shown.lost);
            *shown = figures;
        }
        if is_ready && worker.phase == Phase::Starting {
            worker.phase = Phase::Serving { since: now };
            self.check_all_ready();
        }
    }

    fn check_all_ready(&mut self) {
        let is_serving = |id: &u64| self.workers.get(id).is_some_and(WorkerHandle::is_serving);
        let slot_is_serving = |slot: &Slot| slot.worker.as_ref().is_some_and(is_serving);
        if let Some(successors) = &self.successors {
            if successors.iter().all(is_serving) {
                self.commit_reload();
            }
        } else if !self.was_ready && self.slots.iter().all(slot_is_serving) {
            self.was_ready = true;
            (self.notify)(Notification::Ready(self.slots.len()));
        }
    }

    fn handle_exit(&mut self, id: u64, exit: Exit) -> io::Result<()> {
        if let Some(worker) = self.survivors.remove(&id) {
            self.log.write(format!(
                "{}, which was abandoned, has exited",
                worker.full_name()
            ));
            return Ok(());
        }
        match self.workers.remove(&id) {
            Some(worker) => self.after_exit(id, &worker, exit),
            None => Ok(()),
        }
    }

    /// Stops waiting for a worker that was killed and has not exited, because it is traced or hangs
    /// in the kernel. The supervisor treats it as exited, and names it in the result of `run` if it
    /// is still there then.
    fn abandon(&mut self, id: u64) -> io::Result<()> {
        let Some(worker) = self.workers.remove(&id) else {
            return Ok(());
        };
        let handled = self.after_exit(id, &worker, worker.survival_exit());
        self.survivors.insert(id, worker);
        handled?;
        let count = self.survivors.len();
        if count > MAX_DRAINING_SETS * self.slots.len() {
            let text = format!("giving up: {count} workers were killed and have not exited");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }

    /// Handles the exit of a worker. Restarts it, marks its slot as finished, or cancels a reload.
    fn after_exit(&mut self, id: u64, worker: &WorkerHandle, exit: Exit) -> io::Result<()> {
        let described = worker.describe(&exit);
        if self.slots[worker.slot].worker != Some(id) {
            if self.successors.iter().flatten().any(|&it| it == id) {
                self.cancel_reload(&described);
            } else if !matches!(exit, Exit::Finished) {
                self.log.write(&described); // it was draining, but has failed
            }
            return Ok(());
        }
        let slot = &mut self.slots[worker.slot];
        slot.worker = None;
        self.exchange.set_mailbox(worker.slot, None);
        match exit {
            _ if worker.has_finished => slot.is_finished = true,
            Exit::Finished if self.is_stopping => {}
            _ if self.is_stopping => self.log.write(&described),
            Exit::NotStarted(error) => return self.handle_failed_start(worker.slot, error),
            _ => return self.schedule_restart(worker, &described),
        }
        Ok(())
    }

    /// Schedules the restart of a crashed worker. Returns an error if restarts keep failing.
    fn schedule_restart(&mut self, worker: &WorkerHandle, described: &str) -> io::Result<()> {
        let now = Instant::now();
        // A worker counts as stable from its start if its predecessor was stable.
        let is_healthy = |other: &WorkerHandle| {
            other.is_stable(now) || other.is_serving() && self.slots[other.slot].is_healthy()
        };
        let others_are_stable = self.workers.values().any(is_healthy);
        let slot = &mut self.slots[worker.slot];
        let Some(backoff) = slot.next_backoff(worker.is_stable(now), others_are_stable) else {
            return Err(io::Error::other(format!(
                "giving up after {MAX_EARLY_DEATHS} crashes in a row, the last one: {described}"
            )));
        };
        slot.restart_at = Some(now + backoff);
        self.log
            .write(format!("{described}: starting another in {backoff:?}"));
        Ok(())
    }

    /// Returns the next deadline of a restart, a worker's limit, or the watchdog.
    fn deadline(&self) -> Option<Instant> {
        let restarts = self.slots.iter().filter_map(|slot| slot.restart_at);
        let limits = self
            .workers
            .values()
            .map(|worker| worker.limit(&self.settings));
        restarts.chain(limits).chain(self.watchdog_at).min()
    }

    /// Handles all deadlines that have passed.
    fn handle_timers(&mut self, due: Instant, now: Instant) -> io::Result<()> {
        if let Some(period) = self.settings.watchdog {
            if self.watchdog_at <= Some(now) {
                (self.notify)(Notification::Alive);
                self.watchdog_at = Some(now + period);
            }
        }
        // If this loop itself is late, because the process was stopped or the machine is
        // overloaded, heartbeats may be waiting unread.
        let is_late = now - due > self.settings.assignment.interval;
        let mut abandoned = Vec::new();
        for (&id, worker) in &mut self.workers {
            if is_late {
                worker.extend_limits(now);
            }
            if worker.limit(&self.settings) > now {
                continue;
            }
            if worker.is_killed() {
                abandoned.push(id);
            } else {
                worker.time_out(now, &self.settings);
            }
        }
        for id in abandoned {
            self.abandon(id)?;
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].restart_at.is_some_and(|at| at <= now) {
                self.slots[slot].restart_at = None;
                self.slots[slot].restarts += 1;
                self.restart(slot)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, slot: usize) -> io::Result<()> {
        match self.start(slot, false) {
            Ok(id) => drop(self.assign_slot(slot, id)),
            Err(error) => return self.handle_failed_start(slot, error),
        }
        Ok(())
    }

    /// Schedules another attempt. If the workers were ready once and a resource has run out, the
    /// number of attempts is unlimited, because resources become available again.
    fn handle_failed_start(&mut self, slot: usize, error: io::Error) -> io::Result<()> {
        let is_temporary = self.was_ready && is_shortage(&error);
        let may_recover = is_temporary || !self.workers.is_empty();
        let Some(backoff) = self.slots[slot].next_backoff(false, may_recover) else {
            let text =
                format!("giving up after {MAX_EARLY_DEATHS} failed starts in a row: {error}");
            return Err(io::Error::new(error.kind(), text));
        };
        let text = format!("can't start worker {slot}: {error}; trying again in {backoff:?}");
        self.log.write(text);
        self.slots[slot].restart_at = Some(Instant::now() + backoff);
        Ok(())
    }

    /// Starts a successor for each worker. They replace the workers when all of them are ready.
    fn reload(&mut self) {
        if self.is_stopping {
            return;
        }
        if self.successors.is_some() {
            self.reload_again = true;
            return;
        }
        (self.notify)(Notification::Reloading);
        self.successors = Some(Vec::new());
        if let Err(error) = self.start_successors() {
            self.cancel_reload(&format!("can't start the new program: {error}"));
        }
    }

    fn start_successors(&mut self) -> io::Result<()> {
        self.launcher.reload()?;
        for slot in 0..self.slots.len() {
            let id = self.start(slot, true)?;
            self.successors.get_or_insert_default().push(id);
        }
        Ok(())
    }

    /// A successor has failed. The old workers continue.
    fn cancel_reload(&mut self, why: &str) {
        for id in self.successors.take().unwrap_or_default() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.kill("is no longer needed".into());
            }
        }
        self.launcher.commit_reload(false);
        self.log
            .write(format!("the workers are not replaced: {why}"));
        self.reload_ended();
    }

    fn commit_reload(&mut self) {
        let successors = self.successors.take().unwrap_or_default();
        self.launcher.commit_reload(true);
        for (slot, id) in successors.into_iter().enumerate() {
            self.slots[slot].reset();
            if let Some(old) = self.assign_slot(slot, id) {
                self.drain(old);
            }
        }
        self.kill_oldest_draining();
        self.was_ready = true;
        self.log.write("the workers are replaced");
        self.reload_ended();
    }

    /// Bounds the number of draining workers after several reloads. Ids are in the order of start,
    /// so the oldest workers come first.
    fn kill_oldest_draining(&mut self) {
        let draining = self.workers.values().filter(|worker| worker.is_draining());
        let excess = draining
            .count()
            .saturating_sub(MAX_DRAINING_SETS * self.slots.len());
        let draining = self
            .workers
            .values_mut()
            .filter(|worker| worker.is_draining());
        for worker in draining.take(excess) {
            worker.kill(format!(
                "still drained after {MAX_DRAINING_SETS} more reloads"
            ));
        }
    }

    fn reload_ended(&mut self) {
        if self.was_ready {
            (self.notify)(Notification::Ready(self.slots.len()));
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    fn drain(&mut self, id: u64) {
        let limit = Instant::now() + self.settings.drain_limit;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.drain(limit);
        }
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        (self.notify)(Notification::Stopping);
        let end = Instant::now() + self.settings.drain_limit;
        self.exchange.drain_deadline.set(Some(end));
        self.successors = None;
        self.sockets.0.clear(); // clients are refused once the workers have closed theirs too
        for slot in &mut self.slots {
            slot.restart_at = None;
        }
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.drain(id);
        }
    }

    fn log_metrics(&self) {
        for (slot, figures) in self.exchange.figures.borrow().iter().enumerate() {
            let worker = self.slots[slot].worker.and_then(|id| self.workers.get(&id));
            let name = worker.map_or("dead", |worker| &worker.name);
            self.log.write(format!("worker {slot} ({name}): {figures}"));
        }
    }

    /// Kills all workers and returns the error.
    async fn kill_all(
        mut self,
        mut events: mpsc::Receiver<Event>,
        error: io::Error,
    ) -> io::Result<()> {
        for worker in self.workers.values_mut() {
            worker.kill("had to be killed".into());
        }
        let until = Instant::now() + KILL_LIMIT;
        while !self.workers.is_empty() {
            match timeout_at(until, events.recv()).await {
                Ok(Some(Event::Exited(id, _))) => drop(self.workers.remove(&id)),
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        self.failure = Some(error);
        self.result()
    }
}
