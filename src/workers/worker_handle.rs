//! A worker, from the supervisor's side.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::channel::{Frame, FrameReceiver, FrameSender};
use super::control::Order;
use super::mailbox::{Mailbox, forward, mailbox};
use super::message::Exchange;
use super::slot::STABLE_AFTER;
use super::supervisor::{Event, Exit, Settings, Started};
use super::worker::FLUSH_LIMIT;
use crate::Task;
use crate::sync::mpsc;
use crate::time::timeout;

/// Time limit for a worker to become ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Time limit for a killed worker to exit.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct WorkerHandle {
    pub(super) slot: usize,
    pub(super) name: String,
    pub(super) phase: Phase,
    started: Instant,
    /// Time of the last heartbeat.
    pub(super) last_heartbeat: Option<Instant>,
    /// The worker has reported that its future returned `Ok`.
    pub(super) has_finished: bool,
    /// Why it ends, as reported by the worker or set by the supervisor.
    pub(super) reason: Option<String>,
    /// `None` once it is killed. A thread cannot be killed, but ends when this channel is closed.
    control: Option<FrameSender>,
    pub(super) messages: Rc<Mailbox<Frame>>,
    kill: Box<dyn Fn()>,
    survivor_text: String,
    _tasks: Vec<Task<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving { since: Instant },
    Draining { limit: Instant },
    Killed { limit: Instant },
}

impl WorkerHandle {
    /// Creates the handle of a worker that was just started. Its reports and its exit arrive as
    /// events with that id.
    pub(super) fn new(
        id: u64,
        slot: usize,
        started: Started,
        exchange: &Rc<Exchange>,
        events: &mpsc::Sender<Event>,
    ) -> WorkerHandle {
        let (control, messages) = (started.control, started.messages);
        let reading = crate::spawn(read(id, control.incoming, events.clone()));
        let relaying = crate::spawn(exchange.clone().relay(slot, messages.incoming));
        let attending = attend(id, reading, relaying, started.ended, events.clone());
        let (mailbox, waiting) = mailbox();
        let forwarding = crate::spawn(forward(waiting, messages.outgoing));
        let mut tasks = vec![crate::spawn(attending), forwarding];
        tasks.extend([control.writer, messages.writer].into_iter().flatten());
        WorkerHandle {
            slot,
            name: started.name,
            phase: Phase::Starting,
            started: Instant::now(),
            last_heartbeat: None,
            has_finished: false,
            reason: None,
            control: Some(control.outgoing),
            messages: mailbox,
            kill: started.kill,
            survivor_text: started.survivor_text,
            _tasks: tasks,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving { .. })
    }

    /// Returns true if it serves, or has served, for long enough to rule out a broken program.
    pub(super) fn is_stable(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Serving { since } => now - since >= STABLE_AFTER,
            Phase::Draining { .. } | Phase::Killed { .. } => self
                .last_heartbeat
                .is_some_and(|last_beat| last_beat - self.started >= STABLE_AFTER),
            _ => false,
        }
    }

    /// Returns the deadline for its next step.
    pub(super) fn limit(&self, settings: &Settings) -> Instant {
        let started = self.started + START_LIMIT;
        let alive = self
            .last_heartbeat
            .map_or(started, |last_beat| last_beat + settings.heartbeat);
        match self.phase {
            Phase::Starting => alive.min(started),
            Phase::Serving { .. } => alive,
            Phase::Draining { limit } => alive.min(limit),
            Phase::Killed { limit } => limit,
        }
    }

    /// Extends its limits after the supervisor itself was late, because reports may be unread.
    pub(super) fn extend_limits(&mut self, now: Instant) {
        self.last_heartbeat = self.last_heartbeat.map(|_| now);
        if let Phase::Killed { limit } = &mut self.phase {
            *limit = now + KILL_LIMIT;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    pub(super) fn is_killed(&self) -> bool {
        matches!(self.phase, Phase::Killed { .. })
    }

    /// Sends the request to drain, once.
    pub(super) fn drain(&mut self, limit: Instant) {
        let Some(control) = self.control.as_ref().filter(|_| !self.is_draining()) else {
            return;
        };
        // fails if the channel is full; then the worker is stuck, and its heartbeat times out
        control.try_send(Order::Drain.into());
        self.phase = Phase::Draining { limit };
    }

    /// Kills it because a limit has passed.
    pub(super) fn time_out(&mut self, now: Instant, settings: &Settings) {
        let reason = match (self.phase, self.last_heartbeat) {
            (Phase::Draining { limit }, _) if limit <= now => {
                format!("didn't end within {:?}", settings.drain_limit)
            }
            (Phase::Starting, _) if self.started + START_LIMIT <= now => {
                format!("wasn't ready within {START_LIMIT:?}")
            }
            _ => format!(
                "is stuck: its loop sent no heartbeat for {:?}",
                settings.heartbeat
            ),
        };
        self.kill(reason);
    }

    /// Kills it. It may take up to [`KILL_LIMIT`] to exit, or never exit.
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
        format!("worker {} ({})", self.slot, self.name)
    }

    /// Returns the exit that is recorded for a worker that has not exited within [`KILL_LIMIT`].
    pub(super) fn survival_exit(&self) -> Exit {
        Exit::Failed(self.survivor_text.clone())
    }

    pub(super) fn describe(&self, exit: &Exit) -> String {
        let name = self.full_name();
        let exit = match exit {
            Exit::Finished => "exited",
            Exit::Failed(text) => text,
            Exit::NotStarted(error) => &format!("can't start: {error}"),
        };
        match &self.reason {
            Some(reason) if reason != exit => format!("{name} {reason}; it {exit}"),
            _ => format!("{name} {exit}"),
        }
    }
}

async fn read(id: u64, mut reports: FrameReceiver, events: mpsc::Sender<Event>) {
    while let Some(frame) = reports.recv().await {
        if events.send(Event::Report(id, frame)).await.is_err() {
            return;
        }
    }
}

/// Waits for the worker to exit, and sends that event after its last report and message.
async fn attend(
    id: u64,
    reading: Task<()>,
    relaying: Task<()>,
    ended: Pin<Box<dyn Future<Output = Exit>>>,
    events: mpsc::Sender<Event>,
) {
    let exit = ended.await;
    // User code in a thread may keep the worker's half of the channels open.
    if timeout(Duration::from_millis(100), reading).await.is_ok() {
        // the future of `Builder::parent` may not receive them
        let _ = timeout(FLUSH_LIMIT, relaying).await;
    }
    let _ = events.send(Event::Exited(id, exit)).await;
}
