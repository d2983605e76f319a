//! Messages between workers. The parent routes them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::channel::{Frame, FrameReceiver, check};
use super::mailbox::{Mailbox, MailboxReceiver, PushResult, mailbox};
use super::metrics::Figures;
use crate::time::timeout_at;

/// Time limit for waits on a full queue. Applies to a broadcast of the parent on a worker's queue,
/// and to a worker's message on the parent's queue.
const WAIT_LIMIT: Duration = Duration::from_secs(1);

/// Minimum of that limit after the drain limit has passed. Queued messages can be received in that
/// time.
const MIN_WAIT_LIMIT: Duration = Duration::from_millis(100);

/// Messages of one worker that are routed before the task yields.
const BATCH: usize = 32;

/// The sender or recipient of a message.
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
    /// The future of [`Builder::parent`](super::Builder::parent).
    Parent,
    /// The worker with this index.
    Worker(usize),
}

const PARENT: u32 = u32::MAX;
const ALL: u32 = u32::MAX - 1;

impl Party {
    fn tag(self) -> u32 {
        match self {
            Party::Parent => PARENT,
            // No worker has such a high index, so the message is dropped.
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

/// A received message.
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
    /// The sender.
    pub from: Party,
    /// The content, at most 64 KiB.
    pub body: Vec<u8>,
}

impl Message {
    pub(super) fn from_frame(frame: Frame) -> Message {
        Message {
            from: Party::from_tag(frame.tag),
            body: frame.body,
        }
    }

    /// Decodes the body.
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` if the body is not the output of [`encode`] for a compatible type.
    #[cfg(feature = "serde")]
    pub fn value<T: serde::de::DeserializeOwned>(&self) -> io::Result<T> {
        postcard::from_bytes(&self.body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Encodes a value as the body of a message, in the format of [postcard](https://docs.rs/postcard).
///
/// # Errors
///
/// Returns an error if the type cannot be represented in that format.
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

/// The interface of [`Builder::parent`](super::Builder::parent) to the workers.
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
    inbox: MailboxReceiver<Message>,
}

impl Parent {
    /// Sends a message to a worker. Waits while the worker's queue is full (4 MiB), without a time
    /// limit. If the worker is dead, or exits before it receives the message, the message is lost.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the message is longer than 64 KiB.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing was sent.
    pub async fn send(&self, worker: usize, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.exchange
            .deliver(worker, Party::Parent.frame(body))
            .await
    }

    /// Sends a message to all workers. Waits up to 1 s while queues are full (4 MiB each). A worker
    /// whose queue stays full misses the message, which is [counted](Figures::lost), and later
    /// broadcasts do not wait for it until it has received something. So a worker that never
    /// receives delays no other worker, and the memory that it uses is bounded by its queue and the
    /// socket's buffer.
    ///
    /// # Errors
    ///
    /// The same as for [`send`](Parent::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the workers may have received the message.
    pub async fn broadcast(&self, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.exchange
            .deliver_to_all(Party::Parent, &body.into())
            .await
    }

    /// Waits for a message from a worker. Up to 4 MiB of messages are queued. While the queue is
    /// full, the next message of a worker waits up to 1 s and is then dropped, which is
    /// [counted](Figures::lost) for its sender.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost.
    pub async fn recv(&mut self) -> Message {
        let message = self.inbox.recv().await;
        message.expect("the exchange holds a sender")
    }

    /// Returns the metrics of each worker, as of its last heartbeat.
    pub fn figures(&self) -> Vec<Figures> {
        self.exchange.figures.borrow().clone()
    }

    /// Starts a graceful shutdown, like SIGTERM. A second call kills the workers. Calls and signals
    /// are counted separately, so the first signal after a call does not kill the workers, nor does
    /// the first call after a signal.
    pub fn stop(&self) {
        (self.exchange.command)(Command::Stop(Origin::Program));
    }

    /// Reloads the workers, like SIGHUP.
    pub fn replace(&self) {
        (self.exchange.command)(Command::Reload);
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").finish_non_exhaustive()
    }
}

/// A command to the supervisor, from a signal or from the future of `Builder::parent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Stop(Origin),
    Reload,
    #[cfg_attr(not(unix), allow(dead_code))] // there is no such signal
    LogMetrics,
}

/// The origin of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Signal,
    Program,
}

/// Routes messages.
pub(super) struct Exchange {
    /// Indexed by worker. `None` while it is dead.
    workers: RefCell<Vec<Option<Rc<Mailbox<Frame>>>>>,
    /// `None` without a future that receives them.
    parent: Option<Rc<Mailbox<Message>>>,
    pub(super) figures: RefCell<Vec<Figures>>,
    /// Deadline of the graceful shutdown, once it has begun.
    pub(super) drain_deadline: Cell<Option<Instant>>,
    command: Box<dyn Fn(Command)>,
}

impl Exchange {
    pub(super) fn new(count: usize, command: Box<dyn Fn(Command)>) -> Exchange {
        Exchange {
            workers: RefCell::new(vec![None; count]),
            parent: None,
            figures: RefCell::new(vec![Figures::default(); count]),
            drain_deadline: Cell::new(None),
            command,
        }
    }

    /// Adds a mailbox for the parent, if `for_parent` is set.
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

    pub(super) fn set_mailbox(&self, worker: usize, mailbox: Option<Rc<Mailbox<Frame>>>) {
        let old = std::mem::replace(&mut self.workers.borrow_mut()[worker], mailbox);
        drop(old); // after the borrow has ended
    }

    /// Routes the messages of a worker until its channel is closed. Never waits for another worker,
    /// because that would delay the messages to all others.
    pub(super) async fn relay(self: Rc<Self>, from: usize, mut messages: FrameReceiver) {
        let mut passed = 0_usize;
        while let Some(Frame { tag, body }) = messages.recv().await {
            match tag {
                PARENT => self.pass_to_parent(from, body).await,
                ALL => self.pass_to_all(from, &body),
                worker => self.pass(from, worker as usize, body),
            }
            passed += 1;
            if passed % BATCH == 0 {
                crate::yield_now().await; // otherwise a fast sender would starve the other tasks
            }
        }
    }

    fn pass(&self, from: usize, to: usize, body: Vec<u8>) {
        let Some(mailbox) = self.worker(to) else {
            return;
        };
        let length = body.len();
        if mailbox.push(Party::Worker(from).frame(body), length) == PushResult::Full {
            self.count_lost(to);
        }
    }

    fn pass_to_all(&self, from: usize, body: &[u8]) {
        let count = self.workers.borrow().len();
        for to in (0..count).filter(|&to| to != from) {
            self.pass(from, to, body.to_vec());
        }
    }

    /// The receiver runs on this loop and may be about to receive, so this waits while the queue is
    /// full. After a wait has timed out, messages are dropped without a wait until there is space
    /// again.
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
            let sent = timeout_at(self.wait_deadline(), parent.send(message, length)).await;
            sent.unwrap_or(PushResult::Full)
        };
        if pushed == PushResult::Full {
            parent.is_stuck.set(true);
            self.count_lost(from);
        }
    }

    /// Returns the deadline of a wait for the parent's receiver.
    fn wait_deadline(&self) -> Instant {
        let now = Instant::now();
        let end = self.drain_deadline.get().unwrap_or(now + WAIT_LIMIT);
        end.clamp(now + MIN_WAIT_LIMIT, now + WAIT_LIMIT)
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
            // `Closed` if the worker has exited, which loses the message
            mailbox.send(frame, length).await;
        }
        Ok(())
    }

    /// Sends to the workers with space first, so that those don't wait for the others.
    async fn deliver_to_all(&self, from: Party, body: &[u8]) -> io::Result<()> {
        check(body)?;
        let until = Instant::now() + WAIT_LIMIT;
        let count = self.workers.borrow().len();
        let mut full = Vec::new();
        for worker in 0..count {
            let Some(mailbox) = self.worker(worker) else {
                continue;
            };
            if mailbox.push(from.frame(body), body.len()) == PushResult::Full {
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

    /// Waits until the parent's future has received all messages, until `wait_deadline` at the
    /// latest.
    pub(super) async fn flush(&self) {
        if let Some(parent) = self.parent.as_ref().filter(|it| !it.is_stuck.get()) {
            let _ = timeout_at(self.wait_deadline(), parent.wait_until_empty()).await;
        }
    }
}
