//! Messages between workers, by way of their parent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::channel::{Frame, Incoming, check};
use super::mailbox::{Mailbox, Outbox, Pushed, mailbox};
use super::metrics::Figures;
use crate::time::timeout_at;

/// Time limit of waits for room: of a broadcast of the parent for the workers' queues, and of a
/// worker's message for the parent's queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lower bound of that limit when the drain limit has passed: enough to read queued messages.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// Messages of one worker that are forwarded before the task yields.
const BATCH: usize = 32;

/// Who sends or receives a message.
///
/// # Examples
///
/// ```
/// use windlass::workers::{Party, Worker};
///
/// async fn greet_the_first(worker: &Worker) -> std::io::Result<()> {
///     worker.send(Party::Worker(0), "ahoy").await?;
///     worker.send(Party::Parent, "the first is greeted").await
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Party {
    /// What [`Builder::parent`](super::Builder::parent) runs.
    Parent,
    /// The worker of this number.
    Worker(usize),
}

const PARENT: u32 = u32::MAX;
const ALL: u32 = u32::MAX - 1;

impl Party {
    fn tag(self) -> u32 {
        match self {
            Party::Parent => PARENT,
            // Of so high a number there is none, and a message for it is lost.
            Party::Worker(index) => u32::try_from(index).unwrap_or(ALL - 1),
        }
    }

    fn from_tag(tag: u32) -> Party {
        match tag {
            PARENT => Party::Parent,
            index => Party::Worker(index as usize),
        }
    }

    pub(super) fn frame(self, body: impl Into<Vec<u8>>) -> Frame {
        Frame {
            tag: self.tag(),
            body: body.into(),
        }
    }

    pub(super) fn frame_for_all(body: impl Into<Vec<u8>>) -> Frame {
        Frame {
            tag: ALL,
            body: body.into(),
        }
    }
}

/// A message that has come.
///
/// # Examples
///
/// ```
/// use windlass::workers::{Party, Worker};
///
/// async fn listen(worker: &Worker) -> std::io::Result<()> {
///     loop {
///         let message = worker.recv().await?;
///         if message.from == Party::Parent {
///             println!("{}", String::from_utf8_lossy(&message.body));
///         }
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who has sent it.
    pub from: Party,
    /// What it says: 64 KiB at most.
    pub body: Vec<u8>,
}

impl Message {
    pub(super) fn from_frame(frame: Frame) -> Message {
        Message {
            from: Party::from_tag(frame.tag),
            body: frame.body,
        }
    }

    /// What it says, as a value.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the bytes are not those of [`encode`] for such a type.
    #[cfg(feature = "serde")]
    pub fn value<T: serde::de::DeserializeOwned>(&self) -> io::Result<T> {
        postcard::from_bytes(&self.body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// A value as the body of a message, in the format of [postcard](https://docs.rs/postcard).
///
/// # Errors
///
/// If the type can't be written in that format.
///
/// # Examples
///
/// ```
/// use windlass::workers::{Message, Party, encode};
///
/// let body = encode(&("hoist", 3_u32))?;
/// let message = Message { from: Party::Parent, body };
/// assert_eq!(message.value::<(String, u32)>()?, ("hoist".to_owned(), 3));
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(feature = "serde")]
pub fn encode<T: serde::Serialize + ?Sized>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// The workers, for what [`Builder::parent`](super::Builder::parent) runs.
///
/// # Examples
///
/// ```
/// windlass::workers()
///     .count(2)
///     .parent(|mut parent| async move {
///         parent.broadcast("ahoy").await.expect("it is short");
///         for _ in 0..2 {
///             assert_eq!(parent.recv().await.body, b"aye");
///         }
///         parent.stop();
///     })
///     .run(|worker| async move {
///         let message = worker.recv().await?;
///         worker.send(message.from, "aye").await?;
///         worker.stop_token().stopped().await;
///         Ok(())
///     })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Parent {
    exchange: Rc<Exchange>,
    inbox: Outbox<Message>,
}

impl Parent {
    /// Sends a message to a worker. It waits while the worker's queue is full (4 MiB), for as long
    /// as that takes. A message to one that is dead, or dies before it has read it, is lost.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the message is longer than 64 KiB.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing was sent.
    pub async fn send(&self, worker: usize, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.exchange
            .deliver(worker, Party::Parent.frame(body))
            .await
    }

    /// Sends a message to all workers. It waits while the queue of one is full (4 MiB), but for 1 s
    /// at most: then that one doesn't get it, which is [counted](Figures::lost), and isn't waited
    /// for again until it has read something. So a worker that never reads its messages keeps none
    /// from the others, and no more of them than fill its queue and the system's are in memory.
    ///
    /// # Errors
    ///
    /// As [`send`](Parent::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some may have got it.
    pub async fn broadcast(&self, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.exchange
            .deliver_to_all(Party::Parent, &body.into())
            .await
    }

    /// Waits for a message of a worker. Up to 4 MiB of messages wait to be received; while they do,
    /// the workers' next ones wait for 1 s at most and are then lost, which is
    /// [counted](Figures::lost) for their senders.
    ///
    /// # Cancel safety
    ///
    /// No message is lost when the future is dropped.
    pub async fn recv(&mut self) -> Message {
        let message = self.inbox.recv().await;
        message.expect("the exchange has a sender")
    }

    /// What each worker has counted, as of its last sign of life.
    pub fn figures(&self) -> Vec<Figures> {
        self.exchange.figures.borrow().clone()
    }

    /// Drains the workers and ends, as SIGTERM does. A second call kills them. A signal that comes
    /// after the first call is the first signal, and so are the workers not killed by a call that
    /// comes after the first signal.
    pub fn stop(&self) {
        (self.exchange.command)(Command::Stop(Origin::Program));
    }

    /// Replaces the workers, as SIGHUP does.
    pub fn replace(&self) {
        (self.exchange.command)(Command::Replace);
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").finish_non_exhaustive()
    }
}

/// What the supervisor is told to do, by a signal or by the parent's own code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Stop(Origin),
    Replace,
    #[cfg_attr(not(unix), allow(dead_code))] // no signal says it there
    Print,
}

/// Origin of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Signal,
    Program,
}

/// Passes messages on.
pub(super) struct Exchange {
    /// By worker; None while it's dead.
    workers: RefCell<Vec<Option<Rc<Mailbox<Frame>>>>>,
    /// None if nobody reads them.
    parent: Option<Rc<Mailbox<Message>>>,
    pub(super) figures: RefCell<Vec<Figures>>,
    /// Deadline of the drain, once it has begun.
    pub(super) end: Cell<Option<Instant>>,
    command: Box<dyn Fn(Command)>,
}

impl Exchange {
    pub(super) fn new(count: usize, command: Box<dyn Fn(Command)>) -> Exchange {
        Exchange {
            workers: RefCell::new(vec![None; count]),
            parent: None,
            figures: RefCell::new(vec![Figures::default(); count]),
            end: Cell::new(None),
            command,
        }
    }

    /// With an inbox for the parent, if it has one.
    pub(super) fn open(mut self, for_parent: bool) -> (Rc<Exchange>, Option<Parent>) {
        let (sender, inbox) = mailbox();
        self.parent = for_parent.then_some(sender);
        let exchange = Rc::new(self);
        let parent = for_parent.then(|| Parent {
            exchange: exchange.clone(),
            inbox,
        });
        (exchange, parent)
    }

    pub(super) fn set(&self, worker: usize, mailbox: Option<Rc<Mailbox<Frame>>>) {
        let old = std::mem::replace(&mut self.workers.borrow_mut()[worker], mailbox);
        drop(old); // under no borrow
    }

    /// Forwards the messages of a worker until its link is closed. Never waits for another worker,
    /// because that would delay the messages to all others.
    pub(super) async fn relay(self: Rc<Self>, from: usize, mut messages: Incoming) {
        let mut passed = 0_usize;
        while let Some(Frame { tag, body }) = messages.recv().await {
            match tag {
                PARENT => self.pass_to_parent(from, body).await,
                ALL => self.pass_to_all(from, &body),
                worker => self.pass(from, worker as usize, body),
            }
            passed += 1;
            if passed % BATCH == 0 {
                crate::yield_now().await; // a fast sender would keep this loop busy forever
            }
        }
    }

    fn pass(&self, from: usize, to: usize, body: Vec<u8>) {
        let Some(mailbox) = self.worker(to) else {
            return;
        };
        let length = body.len();
        if mailbox.push(Party::Worker(from).frame(body), length) == Pushed::Full {
            self.count_lost(to);
        }
    }

    fn pass_to_all(&self, from: usize, body: &[u8]) {
        let count = self.workers.borrow().len();
        for to in (0..count).filter(|&to| to != from) {
            self.pass(from, to, body.to_vec());
        }
    }

    /// The parent's own code runs on this loop and may be about to receive, so a full queue is
    /// waited for, but only until the first timeout.
    async fn pass_to_parent(&self, from: usize, body: Vec<u8>) {
        let Some(parent) = &self.parent else { return };
        let length = body.len();
        let message = Message {
            from: Party::Worker(from),
            body,
        };
        let pushed = if parent.is_stuck.get() {
            parent.push(message, length)
        } else {
            let sent = timeout_at(self.patience(), parent.send(message, length)).await;
            sent.unwrap_or(Pushed::Full)
        };
        if pushed == Pushed::Full {
            parent.is_stuck.set(true);
            self.count_lost(from);
        }
    }

    /// Deadline of a wait for the parent's own code.
    fn patience(&self) -> Instant {
        let now = Instant::now();
        let end = self.end.get().unwrap_or(now + PATIENCE);
        end.clamp(now + LEAST_PATIENCE, now + PATIENCE)
    }

    fn count_lost(&self, worker: usize) {
        self.figures.borrow_mut()[worker].lost += 1;
    }

    fn worker(&self, index: usize) -> Option<Rc<Mailbox<Frame>>> {
        self.workers.borrow().get(index).cloned().flatten()
    }

    async fn deliver(&self, to: usize, frame: Frame) -> io::Result<()> {
        check(&frame.body)?;
        if let Some(mailbox) = self.worker(to) {
            let length = frame.body.len();
            mailbox.send(frame, length).await; // lost if the worker has ended
        }
        Ok(())
    }

    /// Queues for the workers that have room first, so that these don't wait for the others.
    async fn deliver_to_all(&self, from: Party, body: &[u8]) -> io::Result<()> {
        check(body)?;
        let until = Instant::now() + PATIENCE;
        let count = self.workers.borrow().len();
        let mut full = Vec::new();
        for worker in 0..count {
            let Some(mailbox) = self.worker(worker) else {
                continue;
            };
            if mailbox.push(from.frame(body), body.len()) == Pushed::Full {
                full.push((worker, mailbox));
            }
        }
        for (worker, mailbox) in full {
            let sending = mailbox.send(from.frame(body), body.len());
            if mailbox.is_stuck.get() || timeout_at(until, sending).await.is_err() {
                mailbox.is_stuck.set(true);
                self.count_lost(worker);
            }
        }
        Ok(())
    }

    /// Waits until the parent's own code has received all messages, within `patience`.
    pub(super) async fn flush(&self) {
        if let Some(parent) = self.parent.as_ref().filter(|it| !it.is_stuck.get()) {
            let _ = timeout_at(self.patience(), parent.emptied()).await;
        }
    }
}
