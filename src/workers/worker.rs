//! A worker, from its own side.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use windlass_reactor::shortage::explain;

use super::channel::{Channel, FrameReceiver, FrameSender};
use super::control::{Order, Report};
use super::listener::Listener;
use super::message::{Message, Party};
use super::metrics::Figures;
use crate::Task;
use crate::inspect::Metrics;
use crate::net::TcpStream;
use crate::sync::Mutex;
use crate::task::{StopSource, StopToken, TaskGroup};
use crate::time::{sleep_until, timeout};

/// Time limit for a worker that ends to send its last report and messages.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// A handle to the worker, for the code that runs in it. A clone refers to the same worker.
///
/// # Examples
///
/// ```no_run,ignore-windows
/// use futures::io::copy;
/// use windlass::workers::Worker;
///
/// async fn echo(worker: Worker) -> std::io::Result<()> {
///     println!("this is worker {} of {}", worker.index(), worker.count());
///     worker
///         .serve(|stream, _peer| async move {
///             copy(&stream, &mut &stream).await.ok();
///         })
///         .await
/// }
///
/// fn main() -> std::io::Result<()> {
///     windlass::workers().processes().listen("127.0.0.1:7000")?.run(echo)
/// }
/// ```
#[derive(Clone)]
pub struct Worker {
    inner: Rc<Inner>,
}

struct Inner {
    assignment: Assignment,
    status: Rc<Status>,
    listeners: Vec<Listener>,
    messages: FrameSender,
    inbox: Mutex<FrameReceiver>,
}

impl Worker {
    /// Returns its index, starting at 0. A restarted worker has the index of its predecessor.
    pub fn index(&self) -> usize {
        self.inner.assignment.index
    }

    /// Returns the number of workers.
    pub fn count(&self) -> usize {
        self.inner.assignment.count
    }

    /// Returns its first listener.
    ///
    /// # Panics
    ///
    /// Panics if there is none because [`listen`](super::Builder::listen) was not called.
    pub fn listener(&self) -> &Listener {
        let first = self.inner.listeners.first();
        first.expect("the workers have no listener: call `listen` before `run`")
    }

    /// Returns its listeners, in the order of the calls of [`listen`](super::Builder::listen).
    pub fn listeners(&self) -> &[Listener] {
        &self.inner.listeners
    }

    /// Serves each connection of all listeners in its own task. When the worker is stopped, it
    /// stops accepting and waits until all connections have ended. Connections that exceed the
    /// [limit](super::Builder::drain_limit) end with the worker.
    ///
    /// A handler of long-lived connections should check [`stop_token`](Worker::stop_token) between
    /// requests. A panic ends only its own connection.
    ///
    /// # Errors
    ///
    /// Currently returns no errors. Failures to accept, for example because the process is out of
    /// file descriptors, are [counted](Figures::errors), and accepting continues.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all connections are dropped.
    pub async fn serve<H, Fut>(&self, handle: H) -> io::Result<()>
    where
        H: Fn(TcpStream, SocketAddr) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let handle = Rc::new(handle);
        let connections = TaskGroup::independent();
        let accepting = TaskGroup::infallible();
        for index in 0..self.inner.listeners.len() {
            let (worker, handle) = (self.clone(), handle.clone());
            let connections = connections.spawner();
            accepting.spawn(async move {
                while let Some(accepted) = worker.inner.listeners[index].accept().await.transpose()
                {
                    // The error is counted already, and the next call pauses before it retries.
                    let Ok((stream, peer)) = accepted else {
                        continue;
                    };
                    let (open, handle) = (worker.open_connection(), handle.clone());
                    // The handler is called inside the task, so that its panic ends only this
                    // connection.
                    connections.spawn(async move {
                        let _open = open;
                        handle(stream, peer).await
                    });
                }
            });
        }
        accepting.close().await;
        connections.close().await;
        Ok(())
    }

    /// Returns a token that is stopped when the worker is requested to stop.
    pub fn stop_token(&self) -> StopToken {
        self.inner.status.stop.token()
    }

    /// Marks the worker as ready. The first [`accept`](Listener::accept) does so too, and a worker
    /// without listeners is ready from the start.
    ///
    /// During a reload, the old workers serve until all new ones are ready.
    pub fn ready(&self) {
        self.inner.status.ready();
    }

    /// Counts a request in the [metrics](Figures).
    pub fn count_request(&self) {
        self.inner.status.count(|metrics| metrics.requests += 1);
    }

    /// Counts a connection as open in the [metrics](Figures) until the guard is dropped.
    /// [`serve`](Worker::serve) does this itself.
    pub fn open_connection(&self) -> OpenConnection {
        self.inner.status.count(|metrics| metrics.open += 1);
        OpenConnection(self.inner.status.clone())
    }

    /// Sends a message to the parent or to another worker. Waits while earlier messages of this
    /// worker are still on their way to the parent.
    ///
    /// The parent queues up to 4 MiB of messages for each recipient. If a worker's queue is full,
    /// the message is dropped and [counted](Figures::lost) for that worker. So a worker that does
    /// not receive loses only its own messages. If the queue of
    /// [`Builder::parent`](super::Builder::parent) is full, the message waits up to 1 s and is then
    /// dropped and counted for this worker.
    ///
    /// Messages sent before the worker's future returns are still delivered, within 1 s. A message
    /// is lost if its recipient is dead or exits before it receives the message, and may be lost if
    /// this worker is killed. Keep data that must not be lost in a database.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the message is longer than 64 KiB, and `BrokenPipe` if the parent
    /// has exited.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing was sent.
    pub async fn send(&self, to: Party, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.inner.messages.send(to.frame(body)).await
    }

    /// Sends a message to all other workers, like [`send`](Worker::send). A worker whose queue is
    /// full misses it.
    ///
    /// # Errors
    ///
    /// The same as for [`send`](Worker::send).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`send`](Worker::send).
    pub async fn broadcast(&self, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.inner.messages.send(Party::frame_for_all(body)).await
    }

    /// Waits for a message from the parent or another worker.
    ///
    /// # Errors
    ///
    /// Returns `BrokenPipe` if the parent has exited.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost.
    pub async fn recv(&self) -> io::Result<Message> {
        let frame = self.inner.inbox.lock().await.recv().await;
        frame
            .map(Message::from_frame)
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Returns the current metrics of this worker.
    pub fn figures(&self) -> Figures {
        self.inner.status.figures()
    }

    fn stop(&self) {
        self.inner.status.stop.stop();
    }

    /// Drains the worker and reports that to the parent, which enforces the drain limit.
    #[cfg(unix)]
    pub(super) async fn stop_by_others(&self) {
        self.stop();
        let control = &self.inner.status.control;
        let _ = control.send(Report::Draining.into()).await; // fails if the parent has exited
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index())
            .field("stop", &self.stop_token())
            .finish_non_exhaustive()
    }
}

/// Counts a connection as open while it exists. See [`Worker::open_connection`].
///
/// # Examples
///
/// ```
/// use windlass::{net::TcpStream, workers::Worker};
///
/// async fn converse(worker: Worker, stream: TcpStream) {
///     let _open = worker.open_connection();
///     drop(stream); // or something more useful
/// }
/// ```
#[must_use = "the connection counts as closed when this is dropped"]
pub struct OpenConnection(Rc<Status>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.count(|metrics| metrics.open -= 1);
    }
}

impl fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenConnection")
    }
}

/// The index and the options that the parent passes to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assignment {
    pub(super) index: usize,
    pub(super) count: usize,
    /// The interval of heartbeats.
    pub(super) interval: Duration,
    pub(super) is_pinned: bool,
    /// Returns the metrics of the worker's loops.
    pub(super) read_runtime: fn() -> Metrics,
}

/// The state of a worker that its parts share.
pub(super) struct Status {
    pub(super) stop: StopSource,
    metrics: RefCell<Figures>,
    read_runtime: fn() -> Metrics,
    is_ready: Cell<bool>,
    control: FrameSender,
}

impl Status {
    pub(super) fn ready(&self) {
        if !self.is_ready.replace(true) {
            // If the queue is full, the next heartbeat reports it.
            self.control.try_send(self.report());
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.metrics.borrow_mut());
    }

    fn report(&self) -> super::channel::Frame {
        Report::Heartbeat(self.is_ready.get(), self.figures().into()).into()
    }

    fn figures(&self) -> Figures {
        Figures {
            runtime: (self.read_runtime)(),
            ..*self.metrics.borrow()
        }
    }
}

/// Why a worker has ended.
pub(super) enum Outcome {
    /// Its future has returned `Ok`.
    Finished,
    Failed(io::Error),
    /// It failed before it ran any code of the user.
    NotStarted(io::Error),
    /// Its parent has exited, or has abandoned it.
    Orphaned,
}

/// Runs a worker, within a runtime. `background` runs beside it.
pub(super) async fn run_worker<F, Fut, W>(
    assignment: Assignment,
    [control, mut messages]: [Channel; 2],
    listeners: Vec<TcpListener>,
    run: &F,
    background: impl FnOnce(Worker) -> W,
) -> Outcome
where
    F: Fn(Worker) -> Fut,
    Fut: Future<Output = io::Result<()>>,
    W: Future<Output = ()> + 'static,
{
    let outgoing = control.outgoing;
    let last = [
        (outgoing.clone(), control.writer),
        (messages.outgoing.clone(), messages.writer.take()),
    ];
    let created = create_worker(assignment, outgoing.clone(), messages, listeners);
    let (ended, is_stopping) = match created {
        Ok(worker) => {
            let _background = crate::spawn(background(worker.clone()));
            let _heartbeats = crate::spawn(send_heartbeats(worker.clone()));
            let ended = run_until_orphaned(run(worker.clone()), control.incoming, &worker).await;
            (ended, worker.stop_token().is_stopped())
        }
        Err(error) => (Outcome::NotStarted(explain(error)), false),
    };
    let final_report = match &ended {
        Outcome::Finished if !is_stopping => Some(Report::Finished),
        Outcome::Failed(it) | Outcome::NotStarted(it) => Some(Report::Failed(it.to_string())),
        _ => None,
    };
    if let Some(report) = final_report {
        let _ = outgoing.send(report.into()).await; // fails if the parent has exited
    }
    let _ = timeout(FLUSH_LIMIT, flush(last)).await;
    ended
}

/// Waits until the parent has received all frames.
async fn flush(halves: [(FrameSender, Option<Task<()>>); 2]) {
    for (outgoing, writer) in halves {
        outgoing.close().await;
        if let Some(writer) = writer {
            writer.await;
        }
    }
}

fn create_worker(
    assignment: Assignment,
    control: FrameSender,
    messages: Channel,
    listeners: Vec<TcpListener>,
) -> io::Result<Worker> {
    if assignment.is_pinned {
        super::cpu::pin(assignment.index)?;
    }
    let status = Rc::new(Status {
        stop: StopSource::new(),
        metrics: RefCell::default(),
        read_runtime: assignment.read_runtime,
        is_ready: Cell::new(listeners.is_empty()),
        control,
    });
    let listener = |socket| Listener::new(socket, status.clone());
    let listeners = listeners
        .into_iter()
        .map(listener)
        .collect::<io::Result<_>>()?;
    Ok(Worker {
        inner: Rc::new(Inner {
            assignment,
            status,
            listeners,
            messages: messages.outgoing,
            inbox: Mutex::new(messages.incoming),
        }),
    })
}

/// Sends heartbeats through the loop, so that a stuck worker sends none. The delay of a heartbeat
/// is the lag of the loop.
async fn send_heartbeats(worker: Worker) {
    let Inner {
        assignment, status, ..
    } = &*worker.inner;
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let now = Instant::now();
        status.count(|metrics| metrics.lag = now - due);
        if status.control.send(status.report()).await.is_err() {
            return; // the parent has exited, and `run_until_orphaned` returns
        }
        due = now + assignment.interval;
    }
}

/// Runs the worker's future and handles the parent's orders.
async fn run_until_orphaned(
    main: impl Future<Output = io::Result<()>>,
    mut orders: FrameReceiver,
    worker: &Worker,
) -> Outcome {
    let orders_handled = async {
        while let Some(frame) = orders.recv().await {
            if let Some(Order::Drain) = Order::from_frame(&frame) {
                worker.stop();
            }
        }
    };
    let (mut main, mut orders_handled) = (pin!(main), pin!(orders_handled));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = main.as_mut().poll(cx) {
            return Poll::Ready(ended.map_or_else(Outcome::Failed, |()| Outcome::Finished));
        }
        orders_handled.as_mut().poll(cx).map(|()| Outcome::Orphaned)
    })
    .await
}
