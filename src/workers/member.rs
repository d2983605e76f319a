//! A worker, as the supervisor sees it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::link::{Incoming, Outgoing};
use super::message::Exchange;
use super::report::Order;
use super::seat::STABLE;
use super::supervisor::{End, Event, Settings, Started};
use super::worker::LAST_WORDS;
use crate::Task;
use crate::sync::mpsc;
use crate::time::timeout;

/// How long a worker may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Member {
    pub(super) seat: usize,
    pub(super) name: String,
    pub(super) phase: Phase,
    started: Instant,
    /// Its last sign of life.
    pub(super) heard: Option<Instant>,
    /// It says that it has done what it was to do.
    pub(super) has_finished: bool,
    /// Why it ends, in its words or ours.
    pub(super) reason: Option<String>,
    control: Outgoing,
    pub(super) messages: Outgoing,
    kill: Box<dyn Fn()>,
    _tasks: Vec<Task<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving { since: Instant },
    Draining { limit: Instant },
    Killed,
}

impl Member {
    /// A worker that was just started. What it says and how it ends comes as events of that id.
    pub(super) fn new(
        id: u64,
        seat: usize,
        started: Started,
        exchange: &Rc<Exchange>,
        events: &mpsc::Sender<Event>,
    ) -> Member {
        let (control, messages) = (started.control, started.messages);
        let reading = crate::spawn(read(id, control.incoming, events.clone()));
        let relaying = crate::spawn(exchange.clone().relay(seat, messages.incoming));
        let attending = attend(id, reading, relaying, started.ended, events.clone());
        let mut tasks = vec![crate::spawn(attending)];
        tasks.extend([control.writer, messages.writer].into_iter().flatten());
        Member {
            seat,
            name: started.name,
            phase: Phase::Starting,
            started: Instant::now(),
            heard: None,
            has_finished: false,
            reason: None,
            control: control.outgoing,
            messages: messages.outgoing,
            kill: started.kill,
            _tasks: tasks,
        }
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Whether it serves, or has served, for so long that the program can't be all wrong.
    pub(super) fn is_stable(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Serving { since } => now - since >= STABLE,
            Phase::Draining { .. } | Phase::Killed => self
                .heard
                .is_some_and(|heard| heard - self.started >= STABLE),
            _ => false,
        }
    }

    /// When its time is up.
    pub(super) fn limit(&self, settings: &Settings) -> Option<Instant> {
        let started = self.started + START_LIMIT;
        let alive = self
            .heard
            .map_or(started, |heard| heard + settings.heartbeat);
        match self.phase {
            Phase::Starting => Some(alive.min(started)),
            Phase::Serving { .. } => Some(alive),
            Phase::Draining { limit } => Some(alive.min(limit)),
            Phase::Killed => None,
        }
    }

    pub(super) fn drains(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// Asks it to end in good order, unless it does so already.
    pub(super) fn drain(&mut self, limit: Instant) {
        if !self.drains() && self.phase != Phase::Killed {
            self.phase = Phase::Draining { limit };
            self.control.try_send(Order::Drain.into()); // if there's no room, it is stuck
        }
    }

    /// Its time is up.
    pub(super) fn give_up(&mut self, now: Instant, settings: &Settings) {
        let reason = match (self.phase, self.heard) {
            (Phase::Draining { limit }, _) if limit <= now => {
                format!("didn't end within {:?}", settings.drain_limit)
            }
            (Phase::Starting, _) if self.started + START_LIMIT <= now => {
                format!("wasn't ready within {START_LIMIT:?}")
            }
            _ => format!(
                "is stuck: its loop gave no sign for {:?}",
                settings.heartbeat
            ),
        };
        self.kill(reason);
    }

    pub(super) fn kill(&mut self, reason: String) {
        self.reason = Some(reason);
        self.phase = Phase::Killed;
        (self.kill)();
    }

    pub(super) fn describe(&self, end: &End) -> String {
        let Member {
            seat, name, reason, ..
        } = self;
        let end = match end {
            End::Finished => "has ended",
            End::Failed(text) => text,
        };
        match reason {
            Some(reason) if reason != end => {
                format!("worker {seat} ({name}) {reason}; it {end}")
            }
            _ => format!("worker {seat} ({name}) {end}"),
        }
    }
}

async fn read(id: u64, mut reports: Incoming, events: mpsc::Sender<Event>) {
    while let Some(frame) = reports.recv().await {
        if events.send(Event::Report(id, frame)).await.is_err() {
            return;
        }
    }
}

/// Waits for the worker's end. What it has said and sent last comes before that.
async fn attend(
    id: u64,
    reading: Task<()>,
    relaying: Task<()>,
    ended: Pin<Box<dyn Future<Output = End>>>,
    events: mpsc::Sender<Event>,
) {
    let end = ended.await;
    // A thread that was given up still has its ends of the links, and no last words.
    if timeout(Duration::from_millis(100), reading).await.is_ok() {
        let _ = timeout(LAST_WORDS, relaying).await; // a receiver may have no room
    }
    let _ = events.send(Event::Ended(id, end)).await;
}
