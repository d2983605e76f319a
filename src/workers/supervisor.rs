//! The parent's loop: starts workers, watches them, starts them again, replaces and drains them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use windlass_reactor::shortage::{explain, is_shortage};

use super::channel::{Frame, Link};
use super::control::Report;
use super::log::Outlet;
use super::message::{Command, Exchange, Origin};
use super::slot::{Seat, TRIES};
use super::worker::Post;
use super::worker_handle::{KILL_LIMIT, Member, Phase};
use crate::sync::mpsc;
use crate::time::timeout_at;

/// How many sets of old workers may drain at a time.
const OLD_SETS: usize = 8;

/// What starts workers.
pub(super) trait Kind {
    /// One that succeeds another is of the new program, if the program is being replaced.
    fn start(&mut self, post: Post, sockets: &Sockets, succeeds: bool) -> io::Result<Started>;

    /// The program that is there now is the new one.
    fn renew(&mut self) -> io::Result<()>;

    /// From now on there is one program: the new one if it has replaced the other.
    fn settle(&mut self, is_replaced: bool);
}

/// A worker that was started.
pub(super) struct Started {
    pub(super) name: String,
    pub(super) control: Link,
    pub(super) messages: Link,
    pub(super) kill: Box<dyn Fn()>,
    /// Describes a worker that was killed and has not ended, in the form of [`End::Failed`].
    pub(super) survives: String,
    pub(super) ended: Pin<Box<dyn Future<Output = End>>>,
}

/// How a worker has ended.
#[derive(Debug)]
pub(super) enum End {
    Finished,
    /// "Worker 3" and this text are a sentence.
    Failed(String),
    /// Before it did anything.
    NotStarted(io::Error),
}

/// For each call of `listen` the sockets: one for all workers, or one for each.
pub(super) struct Sockets(pub(super) Vec<Vec<TcpListener>>);

impl Sockets {
    pub(super) fn of_worker(&self, index: usize) -> impl Iterator<Item = &TcpListener> {
        self.0
            .iter()
            .map(move |sockets| &sockets[index % sockets.len()])
    }
}

/// What the supervisor is told.
pub(super) enum Event {
    Command(Command),
    /// Of the worker of that id.
    Report(u64, Frame),
    Ended(u64, End),
    /// The parent's own code has panicked, with this description.
    ParentPanicked(String),
}

/// Tells who has started the program how it goes. Nobody listens elsewhere than on Unix.
pub(super) type Notify = Box<dyn Fn(Notice)>;

#[cfg_attr(not(unix), allow(dead_code))]
pub(super) enum Notice {
    /// So many workers serve.
    Ready(usize),
    Replacing,
    Stopping,
    /// The supervisor's loop goes round.
    Alive,
}

pub(super) struct Settings {
    pub(super) post: Post,
    pub(super) heartbeat: Duration,
    pub(super) drain_limit: Duration,
    /// The time between two notices that the supervisor lives, if somebody wants them.
    pub(super) watchdog: Option<Duration>,
}

pub(super) struct Supervisor {
    kind: Box<dyn Kind>,
    sockets: Sockets,
    settings: Settings,
    /// By index of the workers.
    seats: Vec<Seat>,
    /// All that live, by id; those of a seat, their successors, and those that drain.
    workers: BTreeMap<u64, Member>,
    /// Workers that were killed and have not ended within [`KILL_LIMIT`].
    survivors: BTreeMap<u64, Member>,
    next_id: u64,
    /// While the program is replaced: the successors, by seat.
    successors: Option<Vec<u64>>,
    /// Replace it once more.
    replace_again: bool,
    is_stopping: bool,
    /// Origins of the requests to stop.
    stopped_by: Vec<Origin>,
    /// Error that `run` returns after the workers have ended.
    failure: Option<io::Error>,
    was_ready: bool,
    alive_at: Option<Instant>,
    exchange: Rc<Exchange>,
    events: mpsc::Sender<Event>,
    notify: Notify,
    outlet: Outlet,
}

impl Supervisor {
    pub(super) fn new(
        kind: Box<dyn Kind>,
        sockets: Sockets,
        settings: Settings,
        exchange: Rc<Exchange>,
        events: mpsc::Sender<Event>,
        notify: Notify,
        outlet: Outlet,
    ) -> Supervisor {
        Supervisor {
            seats: (0..settings.post.count).map(|_| Seat::default()).collect(),
            kind,
            sockets,
            workers: BTreeMap::new(),
            survivors: BTreeMap::new(),
            next_id: 0,
            successors: None,
            replace_again: false,
            is_stopping: false,
            stopped_by: Vec::new(),
            failure: None,
            was_ready: false,
            alive_at: settings.watchdog.map(|_| Instant::now()),
            settings,
            exchange,
            events,
            notify,
            outlet,
        }
    }

    /// Until all workers have ended and none is to be started again.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) -> io::Result<()> {
        for seat in 0..self.seats.len() {
            let count = self.seats.len();
            let started = self.start(seat, false).map_err(|error| {
                let text = format!("can't start worker {seat} of {count}: {error}");
                io::Error::new(error.kind(), text)
            });
            match started {
                Ok(id) => drop(self.take_seat(seat, id)),
                Err(error) => return self.end_at_once(events, error).await,
            }
        }
        while !self.is_done() {
            let now = Instant::now();
            let handled = match self.deadline() {
                Some(due) if due <= now => self.look(due, now),
                Some(due) => match timeout_at(due, events.recv()).await {
                    Ok(event) => self.handle(event),
                    Err(_) => Ok(()), // it's due
                },
                None => self.handle(events.recv().await),
            };
            if let Err(error) = handled {
                return self.end_at_once(events, error).await;
            }
        }
        self.conclude()
    }

    /// Returns an error that names the workers that were killed and have not ended.
    fn conclude(mut self) -> io::Result<()> {
        let living = self.survivors.values().chain(self.workers.values());
        let living: Vec<_> = living.map(|it| it.describe(&it.survival())).collect();
        match (self.failure.take(), living.join("; ")) {
            (None, living) if living.is_empty() => Ok(()),
            (None, living) => Err(io::Error::new(io::ErrorKind::TimedOut, living)),
            (Some(failure), living) if living.is_empty() => Err(failure),
            (Some(failure), living) => Err(io::Error::new(
                failure.kind(),
                format!("{failure}; {living}"),
            )),
        }
    }

    fn is_done(&self) -> bool {
        let is_over = |seat: &Seat| seat.is_finished || self.is_stopping;
        self.workers.is_empty() && self.seats.iter().all(is_over)
    }

    /// Starts a worker for the seat, which need not become the seat's.
    fn start(&mut self, seat: usize, succeeds: bool) -> io::Result<u64> {
        let post = Post {
            index: seat,
            ..self.settings.post
        };
        let started = self.kind.start(post, &self.sockets, succeeds);
        let started = started.map_err(explain)?;
        let id = self.next_id;
        self.next_id += 1;
        let member = Member::new(id, seat, started, &self.exchange, &self.events);
        self.workers.insert(id, member);
        Ok(id)
    }

    /// From now on the worker is the seat's. Which one was before?
    fn take_seat(&mut self, seat: usize, id: u64) -> Option<u64> {
        let messages = self.workers.get(&id).map(|worker| worker.messages.clone());
        self.exchange.set(seat, messages);
        self.seats[seat].worker.replace(id)
    }

    fn handle(&mut self, event: Option<Event>) -> io::Result<()> {
        match event.expect("there is a sender: our own") {
            Event::Report(id, frame) => self.reported(id, Report::from_frame(&frame)),
            Event::Ended(id, end) => return self.ended(id, end),
            Event::Command(Command::Replace) => self.replace(),
            Event::Command(Command::Print) => self.print(),
            Event::Command(Command::Stop(origin)) => return self.asked_to_stop(origin),
            Event::ParentPanicked(text) => self.parent_panicked(text),
        }
        Ok(())
    }

    /// The first request of each origin drains the workers. The second of the same origin kills
    /// them: a program that has called `Parent::stop` must not turn the first SIGTERM into a kill.
    fn asked_to_stop(&mut self, origin: Origin) -> io::Result<()> {
        if self.stopped_by.contains(&origin) {
            let text = "told a second time to end: the workers were killed";
            return Err(io::Error::new(io::ErrorKind::Interrupted, text));
        }
        self.stopped_by.push(origin);
        self.stop();
        Ok(())
    }

    /// Drains the workers, because their messages to the parent have no receiver any more.
    fn parent_panicked(&mut self, text: String) {
        self.outlet.log(&format!("{text}: the workers are to end"));
        self.failure.get_or_insert(io::Error::other(text));
        self.stop();
    }

    fn reported(&mut self, id: u64, report: Option<Report>) {
        let worker = self.workers.get_mut(&id);
        match (report, worker) {
            (Some(Report::Beat(is_ready, figures)), Some(_)) => self.heard(id, is_ready, figures),
            (Some(Report::Draining), Some(_)) => self.drain(id),
            (Some(Report::Finished), Some(worker)) => worker.has_finished = true,
            (Some(Report::Failed(error)), Some(worker)) => {
                worker.reason.get_or_insert(format!("failed: {error}"));
            }
            _ => {} // of a worker that is gone, or of a newer program, which knows more
        }
    }

    fn heard(&mut self, id: u64, is_ready: bool, mut figures: super::Figures) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        worker.heard = Some(now);
        let seat = &self.seats[worker.seat];
        if seat.worker == Some(id) {
            let shown = &mut self.exchange.figures.borrow_mut()[worker.seat];
            (figures.restarts, figures.lost) = (seat.restarts, shown.lost);
            *shown = figures;
        }
        if is_ready && worker.phase == Phase::Starting {
            worker.phase = Phase::Serving { since: now };
            self.worker_is_ready();
        }
    }

    fn worker_is_ready(&mut self) {
        let serves = |id: &u64| self.workers.get(id).is_some_and(Member::serves);
        let seat_serves = |seat: &Seat| seat.worker.as_ref().is_some_and(serves);
        if let Some(successors) = &self.successors {
            if successors.iter().all(serves) {
                self.take_over();
            }
        } else if !self.was_ready && self.seats.iter().all(seat_serves) {
            self.was_ready = true;
            (self.notify)(Notice::Ready(self.seats.len()));
        }
    }

    fn ended(&mut self, id: u64, end: End) -> io::Result<()> {
        if let Some(worker) = self.survivors.remove(&id) {
            let text = format!("{}, which was given up, has ended", worker.full_name());
            self.outlet.log(&text);
            return Ok(());
        }
        match self.workers.remove(&id) {
            Some(worker) => self.follow(id, &worker, end),
            None => Ok(()),
        }
    }

    /// Stops waiting for a worker that was killed and has not ended: it may be traced, or hang in
    /// the kernel. The supervision treats it as ended, and names it again at its own end.
    fn give_up(&mut self, id: u64) -> io::Result<()> {
        let Some(worker) = self.workers.remove(&id) else {
            return Ok(());
        };
        let followed = self.follow(id, &worker, worker.survival());
        self.survivors.insert(id, worker);
        followed?;
        let count = self.survivors.len();
        if count > OLD_SETS * self.seats.len() {
            let text = format!("giving up: {count} workers were killed and have not ended");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }

    /// Restarts, finishes or reports a worker's slot after the worker's end.
    fn follow(&mut self, id: u64, worker: &Member, end: End) -> io::Result<()> {
        let described = worker.describe(&end);
        if self.seats[worker.seat].worker != Some(id) {
            let is_successor = self
                .successors
                .as_ref()
                .is_some_and(|ids| ids.contains(&id));
            if is_successor {
                self.keep_old(&described);
            } else if !matches!(end, End::Finished) {
                self.outlet.log(&described); // it was to end anyway, but not like that
            }
            return Ok(());
        }
        let seat = &mut self.seats[worker.seat];
        seat.worker = None;
        self.exchange.set(worker.seat, None);
        match end {
            _ if worker.has_finished => seat.is_finished = true,
            End::Finished if self.is_stopping => {}
            _ if self.is_stopping => self.outlet.log(&described),
            End::NotStarted(error) => return self.not_started(worker.seat, error),
            _ => return self.rest(worker, &described),
        }
        Ok(())
    }

    /// After a crash: when to start the seat's next worker. An error if that makes no sense.
    fn rest(&mut self, worker: &Member, described: &str) -> io::Result<()> {
        let now = Instant::now();
        // A worker that follows one that was stable is thought to be so as well.
        let is_good = |other: &Member| {
            other.is_stable(now) || other.serves() && self.seats[other.seat].is_good()
        };
        let others_are_stable = self.workers.values().any(is_good);
        let seat = &mut self.seats[worker.seat];
        let Some(rest) = seat.rest(worker.is_stable(now), others_are_stable) else {
            return Err(io::Error::other(format!(
                "giving up: {TRIES} times in a row a worker died at once, at last: {described}"
            )));
        };
        seat.restart_at = Some(now + rest);
        let text = format!("{described}: starting another in {rest:?}");
        self.outlet.log(&text);
        Ok(())
    }

    /// The next time at which something is due.
    fn deadline(&self) -> Option<Instant> {
        let restarts = self.seats.iter().filter_map(|seat| seat.restart_at);
        let limits = self
            .workers
            .values()
            .map(|worker| worker.limit(&self.settings));
        restarts.chain(limits).chain(self.alive_at).min()
    }

    /// Does what is due.
    fn look(&mut self, due: Instant, now: Instant) -> io::Result<()> {
        if let Some(period) = self.settings.watchdog {
            if self.alive_at <= Some(now) {
                (self.notify)(Notice::Alive);
                self.alive_at = Some(now + period);
            }
        }
        // If this loop is itself late (the process was stopped, or the machine is overloaded), it
        // may not have read yet what the workers have said meanwhile.
        let is_late = now - due > self.settings.post.beat;
        let mut surviving = Vec::new();
        for (&id, worker) in &mut self.workers {
            if is_late {
                worker.excuse(now);
            }
            if worker.limit(&self.settings) > now {
                continue;
            }
            if worker.is_killed() {
                surviving.push(id);
            } else {
                worker.give_up(now, &self.settings);
            }
        }
        for id in surviving {
            self.give_up(id)?;
        }
        for seat in 0..self.seats.len() {
            if self.seats[seat].restart_at.is_some_and(|at| at <= now) {
                self.seats[seat].restart_at = None;
                self.seats[seat].restarts += 1;
                self.restart(seat)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, seat: usize) -> io::Result<()> {
        match self.start(seat, false) {
            Ok(id) => {
                self.take_seat(seat, id);
                Ok(())
            }
            Err(error) => self.not_started(seat, error),
        }
    }

    /// Schedules another attempt. If a resource ran out after the workers were ready once, the
    /// number of attempts is unlimited, because resources come back.
    fn not_started(&mut self, seat: usize, error: io::Error) -> io::Result<()> {
        let was_possible = self.was_ready && is_shortage(&error);
        let has_hope = was_possible || !self.workers.is_empty();
        let rest = self.seats[seat].rest(false, has_hope).ok_or_else(|| {
            let text = format!("giving up: {TRIES} times in a row no worker could be started");
            io::Error::new(error.kind(), format!("{text}: {error}"))
        })?;
        self.outlet.log(&format!(
            "can't start worker {seat}: {error}; trying again in {rest:?}"
        ));
        self.seats[seat].restart_at = Some(Instant::now() + rest);
        Ok(())
    }

    /// Starts a successor for each worker. They take over when all of them are ready.
    fn replace(&mut self) {
        if self.is_stopping {
            return;
        }
        if self.successors.is_some() {
            self.replace_again = true;
            return;
        }
        (self.notify)(Notice::Replacing);
        self.successors = Some(Vec::new());
        if let Err(error) = self.start_successors() {
            self.keep_old(&format!("can't start the program anew: {error}"));
        }
    }

    fn start_successors(&mut self) -> io::Result<()> {
        self.kind.renew()?;
        for seat in 0..self.seats.len() {
            let id = self.start(seat, true)?;
            self.successors.get_or_insert_default().push(id);
        }
        Ok(())
    }

    /// A successor has failed: those that serve go on.
    fn keep_old(&mut self, why: &str) {
        for id in self.successors.take().unwrap_or_default() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.kill("isn't needed".into());
            }
        }
        self.kind.settle(false);
        self.outlet
            .log(&format!("the workers are not replaced, and go on: {why}"));
        self.replaced();
    }

    fn take_over(&mut self) {
        let successors = self.successors.take().unwrap_or_default();
        self.kind.settle(true);
        for (seat, id) in successors.into_iter().enumerate() {
            self.seats[seat].renew();
            if let Some(old) = self.take_seat(seat, id) {
                self.drain(old);
            }
        }
        self.end_oldest();
        self.was_ready = true;
        self.outlet.log("the workers are replaced");
        self.replaced();
    }

    /// Reload after reload, those that drain don't pile up. They are in the order of their start.
    fn end_oldest(&mut self) {
        let draining = self.workers.values().filter(|worker| worker.drains());
        let excess = draining.count().saturating_sub(OLD_SETS * self.seats.len());
        let draining = self.workers.values_mut().filter(|worker| worker.drains());
        for worker in draining.take(excess) {
            worker.kill(format!("still drained after {OLD_SETS} more replacements"));
        }
    }

    fn replaced(&mut self) {
        if self.was_ready {
            (self.notify)(Notice::Ready(self.seats.len()));
        }
        if std::mem::take(&mut self.replace_again) {
            self.replace();
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
        (self.notify)(Notice::Stopping);
        let end = Instant::now() + self.settings.drain_limit;
        self.exchange.end.set(Some(end));
        self.successors = None;
        self.sockets.0.clear(); // when the workers have left them as well, clients are refused
        for seat in &mut self.seats {
            seat.restart_at = None;
        }
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.drain(id);
        }
    }

    fn print(&self) {
        for (seat, figures) in self.exchange.figures.borrow().iter().enumerate() {
            let worker = self.seats[seat].worker.and_then(|id| self.workers.get(&id));
            let name = worker.map_or("dead", |worker| &worker.name);
            self.outlet
                .log(&format!("worker {seat} ({name}): {figures}"));
        }
    }

    /// Kills all, and gives the error.
    async fn end_at_once(
        mut self,
        mut events: mpsc::Receiver<Event>,
        error: io::Error,
    ) -> io::Result<()> {
        for worker in self.workers.values_mut() {
            worker.kill("had to end at once".into());
        }
        let until = Instant::now() + KILL_LIMIT;
        while !self.workers.is_empty() {
            match timeout_at(until, events.recv()).await {
                Ok(Some(Event::Ended(id, _))) => drop(self.workers.remove(&id)),
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        self.failure = Some(error);
        self.conclude()
    }
}
