//! A worker, as the supervisor sees it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::channel::{Frame, Incoming, Outgoing};
use super::control::Order;
use super::mailbox::{Mailbox, forward, mailbox};
use super::message::Exchange;
use super::slot::STABLE;
use super::supervisor::{End, Event, Settings, Started};
use super::worker::LAST_WORDS;
use crate::Task;
use crate::sync::mpsc;
use crate::time::timeout;

/// How long a worker may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Time limit of a killed worker to end.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(2);

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
    /// None once it's killed. A thread can't be killed, but ends when its link is closed.
    control: Option<Outgoing>,
    pub(super) messages: Rc<Mailbox<Frame>>,
    kill: Box<dyn Fn()>,
    survives: String,
    _tasks: Vec<Task<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving { since: Instant },
    Draining { limit: Instant },
    Killed { limit: Instant },
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
        let (mailbox, waiting) = mailbox();
        let forwarding = crate::spawn(forward(waiting, messages.outgoing));
        let mut tasks = vec![crate::spawn(attending), forwarding];
        tasks.extend([control.writer, messages.writer].into_iter().flatten());
        Member {
            seat,
            name: started.name,
            phase: Phase::Starting,
            started: Instant::now(),
            heard: None,
            has_finished: false,
            reason: None,
            control: Some(control.outgoing),
            messages: mailbox,
            kill: started.kill,
            survives: started.survives,
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
            Phase::Draining { .. } | Phase::Killed { .. } => self
                .heard
                .is_some_and(|heard| heard - self.started >= STABLE),
            _ => false,
        }
    }

    /// When its time is up.
    pub(super) fn limit(&self, settings: &Settings) -> Instant {
        let started = self.started + START_LIMIT;
        let alive = self
            .heard
            .map_or(started, |heard| heard + settings.heartbeat);
        match self.phase {
            Phase::Starting => alive.min(started),
            Phase::Serving { .. } => alive,
            Phase::Draining { limit } => alive.min(limit),
            Phase::Killed { limit } => limit,
        }
    }

    /// Extends its limits when the supervisor itself was late: reports may still be unread.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = self.heard.map(|_| now);
        if let Phase::Killed { limit } = &mut self.phase {
            *limit = now + KILL_LIMIT;
        }
    }

    pub(super) fn drains(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    pub(super) fn is_killed(&self) -> bool {
        matches!(self.phase, Phase::Killed { .. })
    }

    /// Asks it to end in good order, unless it does so already.
    pub(super) fn drain(&mut self, limit: Instant) {
        let Some(control) = self.control.as_ref().filter(|_| !self.drains()) else {
            return;
        };
        control.try_send(Order::Drain.into()); // if there's no room, it is stuck
        self.phase = Phase::Draining { limit };
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

    /// Kills it. It may still take until [`KILL_LIMIT`] to end, or never end.
    pub(super) fn kill(&mut self, reason: String) {
        if self.is_killed() {
            return;
        }
        self.reason = Some(reason);
        self.phase = Phase::Killed {
            limit: Instant::now() + KILL_LIMIT,
        };
        (self.kill)();
        self.control = None;
    }

    pub(super) fn full_name(&self) -> String {
        format!("worker {} ({})", self.seat, self.name)
    }

    /// Stands in for the end of a worker that has not ended within [`KILL_LIMIT`].
    pub(super) fn survival(&self) -> End {
        End::Failed(self.survives.clone())
    }

    pub(super) fn describe(&self, end: &End) -> String {
        let name = self.full_name();
        let end = match end {
            End::Finished => "has ended",
            End::Failed(text) => text,
            End::NotStarted(error) => &format!("can't start: {error}"),
        };
        match &self.reason {
            Some(reason) if reason != end => format!("{name} {reason}; it {end}"),
            _ => format!("{name} {end}"),
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
    // User code in a thread may keep the worker's half of the links open.
    if timeout(Duration::from_millis(100), reading).await.is_ok() {
        let _ = timeout(LAST_WORDS, relaying).await; // the parent's own code may not read them
    }
    let _ = events.send(Event::Ended(id, end)).await;
}
