//! The parent's loop: starts workers, watches them, starts them again, replaces and drains them.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::link::{Frame, Incoming, Link, Outgoing};
use super::message::{Command, Exchange};
use super::report::{Order, Report};
use super::worker::Post;
use crate::Task;
use crate::sync::mpsc;
use crate::time::{timeout, timeout_at};

/// How long a worker may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A worker that has served for so long before it died is started again at once...
const STABLE: Duration = Duration::from_secs(1);

/// ...and one that has not, after a rest, which doubles each time.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// If a worker dies so many times in a row before it has served for `STABLE`, and no other has
/// served for so long either, then it's the program that is broken.
const TRIES: u32 = 5;

/// How long killed processes may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// What starts workers.
pub(super) trait Kind {
    fn start(&mut self, post: Post, sockets: &Sockets) -> io::Result<Started>;

    /// From now on starts the program that is there now.
    fn renew(&mut self) -> io::Result<()>;

    /// Starts the one before again.
    fn restore(&mut self);
}

/// A worker that was started.
pub(super) struct Started {
    pub(super) name: String,
    pub(super) control: Link,
    pub(super) messages: Link,
    pub(super) kill: Box<dyn Fn()>,
    pub(super) ended: Pin<Box<dyn Future<Output = End>>>,
}

/// How a worker has ended.
#[derive(Debug)]
pub(super) enum End {
    Finished,
    /// "Worker 3" and this text are a sentence.
    Failed(String),
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
}

/// Tells who has started the program how it goes.
pub(super) type Notify = Box<dyn Fn(Notice)>;

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
    next_id: u64,
    /// While the program is replaced: the successors, by seat.
    successors: Option<Vec<u64>>,
    /// Replace it once more.
    replace_again: bool,
    is_stopping: bool,
    was_ready: bool,
    alive_at: Option<Instant>,
    exchange: Rc<Exchange>,
    events: mpsc::Sender<Event>,
    notify: Notify,
}

/// The place of one worker after the other.
#[derive(Default)]
struct Seat {
    worker: Option<u64>,
    /// Has done what it was to do.
    is_finished: bool,
    restart_at: Option<Instant>,
    /// Deaths in a row before it was stable.
    early_deaths: u32,
    restarts: u64,
}

struct Member {
    seat: usize,
    name: String,
    phase: Phase,
    started: Instant,
    /// Its last sign of life.
    heard: Option<Instant>,
    /// It says that it has done what it was to do.
    has_finished: bool,
    /// Why it ends, in its words or ours.
    reason: Option<String>,
    control: Outgoing,
    messages: Outgoing,
    kill: Box<dyn Fn()>,
    _tasks: Vec<Task<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving { since: Instant },
    Draining { limit: Instant },
    Killed,
}

impl Supervisor {
    pub(super) fn new(
        kind: Box<dyn Kind>,
        sockets: Sockets,
        settings: Settings,
        exchange: Rc<Exchange>,
        events: mpsc::Sender<Event>,
        notify: Notify,
    ) -> Supervisor {
        Supervisor {
            seats: (0..settings.post.count).map(|_| Seat::default()).collect(),
            kind,
            sockets,
            workers: BTreeMap::new(),
            next_id: 0,
            successors: None,
            replace_again: false,
            is_stopping: false,
            was_ready: false,
            alive_at: settings.watchdog.map(|_| Instant::now()),
            settings,
            exchange,
            events,
            notify,
        }
    }

    /// Until all workers have ended and none is to be started again.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) -> io::Result<()> {
        for seat in 0..self.seats.len() {
            let count = self.seats.len();
            let started = self.start(seat).map_err(|error| {
                let text = format!("can't start worker {seat} of {count}: {error}");
                io::Error::new(error.kind(), text)
            });
            match started {
                Ok(id) => self.seats[seat].worker = Some(id),
                Err(error) => return self.end_at_once(events, error).await,
            }
        }
        while !self.is_done() {
            let event = match self.deadline() {
                Some(deadline) => timeout_at(deadline, events.recv()).await.ok(),
                None => Some(events.recv().await),
            };
            let handled = match event {
                Some(event) => self.handle(event.expect("there is a sender")),
                None => self.look(Instant::now()),
            };
            if let Err(error) = handled {
                return self.end_at_once(events, error).await;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let is_over = |seat: &Seat| seat.is_finished || self.is_stopping;
        self.workers.is_empty() && self.seats.iter().all(is_over)
    }

    /// Starts a worker for the seat, which need not become the seat's.
    fn start(&mut self, seat: usize) -> io::Result<u64> {
        let post = Post {
            index: seat,
            ..self.settings.post
        };
        let started = self.kind.start(post, &self.sockets)?;
        let id = self.next_id;
        self.next_id += 1;
        let Started {
            name,
            control,
            messages,
            kill,
            ended,
        } = started;
        let reading = crate::spawn(read(id, control.incoming, self.events.clone()));
        let relaying = self.exchange.clone().relay(seat, messages.incoming);
        let mut tasks = vec![
            crate::spawn(attend(id, reading, ended, self.events.clone())),
            crate::spawn(relaying),
        ];
        tasks.extend([control.writer, messages.writer].into_iter().flatten());
        let member = Member {
            seat,
            name,
            phase: Phase::Starting,
            started: Instant::now(),
            heard: None,
            has_finished: false,
            reason: None,
            control: control.outgoing,
            messages: messages.outgoing,
            kill,
            _tasks: tasks,
        };
        if self.successors.is_none() {
            self.exchange.set(seat, Some(member.messages.clone()));
        }
        self.workers.insert(id, member);
        Ok(id)
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Report(id, frame) => self.reported(id, Report::from_frame(&frame)),
            Event::Ended(id, end) => return self.ended(id, end),
            Event::Command(Command::Replace) => self.replace(),
            Event::Command(Command::Print) => self.print(),
            Event::Command(Command::Stop) if self.is_stopping => {
                let text = "told a second time to end: the workers were killed";
                return Err(io::Error::new(io::ErrorKind::Interrupted, text));
            }
            Event::Command(Command::Stop) => self.stop(),
        }
        Ok(())
    }

    fn reported(&mut self, id: u64, report: Option<Report>) {
        let worker = self.workers.get_mut(&id);
        match (report, worker) {
            (Some(Report::Beat(is_ready, figures)), Some(_)) => self.heard(id, is_ready, figures),
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
            figures.restarts = seat.restarts;
            self.exchange.figures.borrow_mut()[worker.seat] = figures;
        }
        if is_ready && worker.phase == Phase::Starting {
            worker.phase = Phase::Serving { since: now };
            self.worker_is_ready();
        }
    }

    fn worker_is_ready(&mut self) {
        let serves = |id: &u64| {
            let worker = self.workers.get(id);
            worker.is_some_and(|worker| matches!(worker.phase, Phase::Serving { .. }))
        };
        if let Some(successors) = &self.successors {
            if successors.iter().all(serves) {
                self.take_over();
            }
        } else if !self.was_ready
            && self
                .seats
                .iter()
                .all(|it| it.worker.as_ref().is_some_and(serves))
        {
            self.was_ready = true;
            (self.notify)(Notice::Ready(self.seats.len()));
        }
    }

    fn ended(&mut self, id: u64, end: End) -> io::Result<()> {
        let Some(worker) = self.workers.remove(&id) else {
            return Ok(());
        };
        let described = self.describe(&worker, &end);
        if self.seats[worker.seat].worker != Some(id) {
            let is_successor = self
                .successors
                .as_ref()
                .is_some_and(|ids| ids.contains(&id));
            if is_successor {
                self.keep_old(&described);
            } else if let End::Failed(_) = end {
                say(&described); // it was to end anyway, but not like that
            }
            return Ok(());
        }
        let seat = &mut self.seats[worker.seat];
        seat.worker = None;
        self.exchange.set(worker.seat, None);
        match end {
            _ if worker.has_finished => seat.is_finished = true,
            End::Failed(_) if self.is_stopping => say(&described),
            End::Finished if self.is_stopping => {}
            _ => return self.rest(&worker, &described),
        }
        Ok(())
    }

    fn describe(&self, worker: &Member, end: &End) -> String {
        let Member {
            seat, name, reason, ..
        } = worker;
        let end = match end {
            End::Finished => "has ended",
            End::Failed(text) => text,
        };
        match reason {
            Some(reason) => format!("worker {seat} ({name}) {reason}; it {end}"),
            None => format!("worker {seat} ({name}) {end}"),
        }
    }

    /// After a crash: when to start the seat's next worker. An error if that makes no sense.
    fn rest(&mut self, worker: &Member, described: &str) -> io::Result<()> {
        let now = Instant::now();
        let is_stable = |worker: &Member| match worker.phase {
            Phase::Serving { since } => now - since >= STABLE,
            _ => false,
        };
        // One that was killed for being stuck has served before, or has not.
        let was_stable =
            is_stable(worker) || now - worker.started >= STABLE && worker.heard.is_some();
        let others_serve = self.workers.values().any(is_stable);
        let seat = &mut self.seats[worker.seat];
        seat.early_deaths = if was_stable { 0 } else { seat.early_deaths + 1 };
        if seat.early_deaths >= TRIES && !others_serve {
            let text = format!(
                "giving up: {TRIES} times in a row a worker died at once, at last: {described}"
            );
            return Err(io::Error::other(text));
        }
        let rest = match seat.early_deaths.checked_sub(1) {
            None => Duration::ZERO,
            Some(doubled) => LONGEST_REST.min(FIRST_REST * 2_u32.pow(doubled.min(10))),
        };
        seat.restart_at = Some(now + rest);
        say(&format!("{described}: starting another in {rest:?}"));
        Ok(())
    }

    /// The next time at which something is due.
    fn deadline(&self) -> Option<Instant> {
        let restarts = self.seats.iter().filter_map(|seat| seat.restart_at);
        let limits = self
            .workers
            .values()
            .filter_map(|worker| self.limit(worker));
        restarts.chain(limits).chain(self.alive_at).min()
    }

    /// When the worker's time is up.
    fn limit(&self, worker: &Member) -> Option<Instant> {
        let started = worker.started + START_LIMIT;
        let alive = worker
            .heard
            .map_or(started, |heard| heard + self.settings.heartbeat);
        match worker.phase {
            Phase::Starting => Some(alive.min(started)),
            Phase::Serving { .. } => Some(alive),
            Phase::Draining { limit } => Some(alive.min(limit)),
            Phase::Killed => None,
        }
    }

    /// Does what is due.
    fn look(&mut self, now: Instant) -> io::Result<()> {
        if let Some(period) = self
            .settings
            .watchdog
            .filter(|_| self.alive_at <= Some(now))
        {
            (self.notify)(Notice::Alive);
            self.alive_at = Some(now + period);
        }
        let late = |worker: &Member| self.limit(worker).is_some_and(|limit| limit <= now);
        let late = self.workers.iter().filter(|(_, worker)| late(worker));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.kill(id, now);
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

    fn kill(&mut self, id: u64, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let reason = match (worker.phase, worker.heard) {
            (Phase::Draining { limit }, _) if limit <= now => {
                format!("didn't end within {:?}", self.settings.drain_limit)
            }
            (Phase::Starting, None) => format!("wasn't heard of within {START_LIMIT:?}"),
            (Phase::Starting, Some(_)) if worker.started + START_LIMIT <= now => {
                format!("wasn't ready within {START_LIMIT:?}")
            }
            _ => format!(
                "is stuck: its loop gave no sign for {:?}",
                self.settings.heartbeat
            ),
        };
        worker.reason = Some(reason);
        worker.phase = Phase::Killed;
        (worker.kill)();
    }

    fn restart(&mut self, seat: usize) -> io::Result<()> {
        let successors = self.successors.take(); // this one is none
        let started = self.start(seat);
        self.successors = successors;
        match started {
            Ok(id) => self.seats[seat].worker = Some(id),
            Err(error) => {
                let others_serve = !self.workers.is_empty();
                let seat = &mut self.seats[seat];
                seat.early_deaths += 1;
                if seat.early_deaths >= TRIES && !others_serve {
                    return Err(error);
                }
                say(&format!(
                    "can't start a worker: {error}; trying again in {LONGEST_REST:?}"
                ));
                seat.restart_at = Some(Instant::now() + LONGEST_REST);
            }
        }
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
            let id = self.start(seat)?;
            self.successors.get_or_insert_default().push(id);
        }
        Ok(())
    }

    /// A successor has failed: those that serve go on.
    fn keep_old(&mut self, why: &str) {
        for id in self.successors.take().unwrap_or_default() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.phase = Phase::Killed;
                (worker.kill)();
                worker.reason = Some("isn't needed".into());
            }
        }
        self.kind.restore();
        say(&format!("the workers are not replaced, and go on: {why}"));
        self.replaced();
    }

    fn take_over(&mut self) {
        for (seat, id) in self
            .successors
            .take()
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            let old = self.seats[seat].worker.replace(id);
            self.seats[seat] = Seat {
                worker: Some(id),
                restarts: self.seats[seat].restarts,
                ..Seat::default()
            };
            self.exchange.set(
                seat,
                self.workers.get(&id).map(|worker| worker.messages.clone()),
            );
            if let Some(old) = old {
                self.drain(old);
            }
        }
        say("the workers are replaced");
        self.replaced();
    }

    fn replaced(&mut self) {
        (self.notify)(Notice::Ready(self.seats.len()));
        if std::mem::take(&mut self.replace_again) {
            self.replace();
        }
    }

    fn drain(&mut self, id: u64) {
        let limit = Instant::now() + self.settings.drain_limit;
        if let Some(worker) = self
            .workers
            .get_mut(&id)
            .filter(|it| it.phase != Phase::Killed)
        {
            worker.phase = Phase::Draining { limit };
            worker.control.try_send(Order::Drain.into()); // if it's too full to take it, it is stuck
        }
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        (self.notify)(Notice::Stopping);
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
            say(&format!("worker {seat} ({name}): {figures}"));
        }
    }

    /// Kills all, and gives the error.
    async fn end_at_once(
        mut self,
        mut events: mpsc::Receiver<Event>,
        error: io::Error,
    ) -> io::Result<()> {
        for worker in self.workers.values() {
            (worker.kill)();
        }
        let until = Instant::now() + KILL_LIMIT;
        while !self.workers.is_empty() {
            match timeout_at(until, events.recv()).await {
                Ok(Some(Event::Ended(id, _))) => drop(self.workers.remove(&id)),
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        Err(error)
    }
}

async fn read(id: u64, mut reports: Incoming, events: mpsc::Sender<Event>) {
    while let Some(frame) = reports.recv().await {
        if events.send(Event::Report(id, frame)).await.is_err() {
            return;
        }
    }
}

/// Waits for the worker's end. What it has said last comes before that.
async fn attend(
    id: u64,
    reading: Task<()>,
    ended: Pin<Box<dyn Future<Output = End>>>,
    events: mpsc::Sender<Event>,
) {
    const LAST_WORDS: Duration = Duration::from_millis(100);
    let end = ended.await;
    let _ = timeout(LAST_WORDS, reading).await;
    let _ = events.send(Event::Ended(id, end)).await;
}

/// To whoever runs the program.
pub(super) fn say(text: &str) {
    // In one piece: workers write there as well. If it's closed, there's nobody to tell.
    let _ = io::stderr().write_all(format!("windlass: {text}\n").as_bytes());
}
