//! A worker, seen from its inside.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use windlass_reactor::shortage::explain;

use super::channel::{Incoming, Link, Outgoing};
use super::control::{Order, Report};
use super::listener::Listener;
use super::message::{Message, Party};
use super::metrics::{Counters, Figures};
use crate::Task;
use crate::net::TcpStream;
use crate::sync::Mutex;
use crate::task::{StopSource, StopToken, TaskGroup};
use crate::time::{sleep_until, timeout};

/// How long a worker that ends waits until its parent has taken its last words and messages.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// One of the workers, for what runs in it. A clone is the same worker.
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
    shared: Rc<Shared>,
}

struct Shared {
    post: Post,
    signs: Rc<Signs>,
    listeners: Vec<Listener>,
    messages: Outgoing,
    inbox: Mutex<Incoming>,
}

impl Worker {
    /// Its number, from 0 on. A worker that takes the place of another has the same.
    pub fn index(&self) -> usize {
        self.shared.post.index
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.shared.post.count
    }

    /// Its first listener.
    ///
    /// # Panics
    ///
    /// If there is none: no call of [`listen`](super::Builder::listen).
    pub fn listener(&self) -> &Listener {
        let first = self.shared.listeners.first();
        first.expect("the workers have no listener: call `listen` before `run`")
    }

    /// Its listeners, in the order of the calls of [`listen`](super::Builder::listen).
    pub fn listeners(&self) -> &[Listener] {
        &self.shared.listeners
    }

    /// Serves each connection of all listeners by a task of its own. When the worker is to end, it
    /// accepts no more, and waits until all connections have ended. What takes longer than the
    /// [limit](super::Builder::drain_limit) ends with the worker.
    ///
    /// So a handler whose connections live long should look at
    /// [`stop_token`](Worker::stop_token) between two requests. A panic ends its connection alone.
    ///
    /// # Errors
    ///
    /// None today. Errors of accepting (no descriptors left, say) are
    /// [counted](Figures::errors), and it goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all connections are.
    pub async fn serve<H, Fut>(&self, handle: H) -> io::Result<()>
    where
        H: Fn(TcpStream, SocketAddr) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let handle = Rc::new(handle);
        let connections = TaskGroup::independent();
        let accepting = TaskGroup::infallible();
        for place in 0..self.shared.listeners.len() {
            let (worker, handle) = (self.clone(), handle.clone());
            let connections = connections.spawner();
            accepting.spawn(async move {
                while let Some(accepted) = worker.shared.listeners[place].accept().await.transpose()
                {
                    // An error is counted by now, and the next call rests before it tries again.
                    let Ok((stream, peer)) = accepted else {
                        continue;
                    };
                    let (open, handle) = (worker.open_connection(), handle.clone());
                    // Called in there: if it panics itself, that too ends its connection alone.
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

    /// Stopped when the worker is to end.
    pub fn stop_token(&self) -> StopToken {
        self.shared.signs.stop.token()
    }

    /// Says that the worker serves now. The first [`accept`](Listener::accept) says so as well, and
    /// a worker without listeners is ready from the start.
    ///
    /// When the program is replaced, the old workers serve until all of the new ones are ready.
    pub fn ready(&self) {
        self.shared.signs.ready();
    }

    /// Counts a request, for the [`Figures`].
    pub fn count_request(&self) {
        let requests = &self.shared.signs.counters.requests;
        requests.set(requests.get() + 1);
    }

    /// Counts a connection as open until the guard is dropped, for the [`Figures`].
    /// [`serve`](Worker::serve) does so itself.
    pub fn open_connection(&self) -> OpenConnection {
        let open = &self.shared.signs.counters.open;
        open.set(open.get() + 1);
        OpenConnection(self.shared.signs.clone())
    }

    /// Sends a message to the parent or to a worker. It waits while the parent has not taken what
    /// this worker has sent before.
    ///
    /// In the parent, up to 4 MiB of messages wait for each receiver. If a worker's queue is full,
    /// the message is lost, and [counted](Figures::lost) for that worker. So a worker that doesn't
    /// receive costs its own messages and nobody else's. If the queue of the parent's own code is
    /// full, the message waits there for 1 s and is then lost, and counted for this worker.
    ///
    /// What was sent before the worker's future returns still arrives, unless that takes longer
    /// than 1 s. A message to a worker that is dead, or dies before it has read it, is lost, and so
    /// may be one of a worker that is killed: what must not be lost belongs into a database.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the message is longer than 64 KiB. `BrokenPipe` if the parent is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing was sent.
    pub async fn send(&self, to: Party, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.shared.messages.send(to.frame(body)).await
    }

    /// Sends a message to all other workers, as [`send`](Worker::send). One whose queue is full
    /// doesn't get it.
    ///
    /// # Errors
    ///
    /// As [`send`](Worker::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Worker::send).
    pub async fn broadcast(&self, body: impl Into<Vec<u8>>) -> io::Result<()> {
        self.shared.messages.send(Party::frame_for_all(body)).await
    }

    /// Waits for a message of the parent or of another worker.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the parent is gone.
    ///
    /// # Cancel safety
    ///
    /// No message is lost when the future is dropped.
    pub async fn recv(&self) -> io::Result<Message> {
        let frame = self.shared.inbox.lock().await.recv().await;
        frame
            .map(Message::from_frame)
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// What it has counted so far.
    pub fn figures(&self) -> Figures {
        self.shared.signs.counters.read()
    }

    fn stop(&self) {
        self.shared.signs.stop.stop();
    }

    /// The parent is told, and sees to it that the end comes.
    #[cfg(unix)]
    pub(super) async fn stop_by_others(&self) {
        self.stop();
        let control = &self.shared.signs.control;
        let _ = control.send(Report::Draining.into()).await; // unless the parent is gone
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

/// Counts a connection as open. See [`Worker::open_connection`].
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
pub struct OpenConnection(Rc<Signs>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let open = &self.0.counters.open;
        open.set(open.get() - 1);
    }
}

impl fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenConnection")
    }
}

/// What a worker is told of its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    pub(super) index: usize,
    pub(super) count: usize,
    /// The time between two signs of life.
    pub(super) beat: Duration,
    pub(super) is_pinned: bool,
}

/// What a worker shows its parent, and what the parent asks for.
pub(super) struct Signs {
    pub(super) stop: StopSource,
    pub(super) counters: Counters,
    is_ready: Cell<bool>,
    control: Outgoing,
}

impl Signs {
    pub(super) fn ready(&self) {
        if !self.is_ready.replace(true) {
            // If there is no room, the next beat says it.
            self.control.try_send(self.report());
        }
    }

    fn report(&self) -> super::channel::Frame {
        Report::Beat(self.is_ready.get(), self.counters.read()).into()
    }
}

/// Why a worker has ended.
pub(super) enum Ended {
    /// What it was to do is done.
    Finished,
    Failed(io::Error),
    /// Before it did anything.
    NotStarted(io::Error),
    /// Its parent is gone, or has given it up.
    Orphaned,
}

/// Runs a worker, inside of a runtime. `watch` is what else happens as long as it runs.
pub(super) async fn work<F, Fut, W>(
    post: Post,
    [control, mut messages]: [Link; 2],
    listeners: Vec<TcpListener>,
    run: &F,
    watch: impl FnOnce(Worker) -> W,
) -> Ended
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
    let (ended, was_told) = match employ(post, outgoing.clone(), messages, listeners) {
        Ok(worker) => {
            let _watching = crate::spawn(watch(worker.clone()));
            let _beating = crate::spawn(beat(worker.shared.signs.clone(), post.beat));
            let ended = until_orphaned(run(worker.clone()), control.incoming, &worker).await;
            (ended, worker.stop_token().is_stopped())
        }
        Err(error) => (Ended::NotStarted(explain(error)), false),
    };
    let last_word = match &ended {
        Ended::Finished if !was_told => Some(Report::Finished),
        Ended::Failed(error) | Ended::NotStarted(error) => Some(Report::Failed(error.to_string())),
        _ => None,
    };
    if let Some(report) = last_word {
        let _ = outgoing.send(report.into()).await; // unless the parent is gone
    }
    let _ = timeout(LAST_WORDS, flush(last)).await;
    ended
}

/// Until the parent has taken all, if it takes anything.
async fn flush(halves: [(Outgoing, Option<Task<()>>); 2]) {
    for (outgoing, writer) in halves {
        outgoing.close().await;
        if let Some(writer) = writer {
            writer.await;
        }
    }
}

fn employ(
    post: Post,
    control: Outgoing,
    messages: Link,
    listeners: Vec<TcpListener>,
) -> io::Result<Worker> {
    if post.is_pinned {
        super::cpu::pin(post.index)?;
    }
    let signs = Rc::new(Signs {
        stop: StopSource::new(),
        counters: Counters::default(),
        is_ready: Cell::new(listeners.is_empty()),
        control,
    });
    let listener = |socket| Listener::new(socket, signs.clone());
    let listeners = listeners
        .into_iter()
        .map(listener)
        .collect::<io::Result<_>>()?;
    Ok(Worker {
        shared: Rc::new(Shared {
            post,
            signs,
            listeners,
            messages: messages.outgoing,
            inbox: Mutex::new(messages.incoming),
        }),
    })
}

/// A sign of life, again and again: through the loop, so a worker that is stuck gives none. How
/// late the loop comes to it is the lag.
async fn beat(signs: Rc<Signs>, period: Duration) {
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let now = Instant::now();
        signs.counters.lag.set(now - due);
        if signs.control.send(signs.report()).await.is_err() {
            return; // the parent is gone, of which the other half of the link tells
        }
        due = now + period;
    }
}

/// Runs the worker's future beside the orders of its parent.
async fn until_orphaned(
    main: impl Future<Output = io::Result<()>>,
    mut orders: Incoming,
    worker: &Worker,
) -> Ended {
    let obey = async {
        while let Some(frame) = orders.recv().await {
            if let Some(Order::Drain) = Order::from_frame(&frame) {
                worker.stop();
            }
        }
    };
    let (mut main, mut obey) = (pin!(main), pin!(obey));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = main.as_mut().poll(cx) {
            return Poll::Ready(ended.map_or_else(Ended::Failed, |()| Ended::Finished));
        }
        obey.as_mut().poll(cx).map(|()| Ended::Orphaned)
    })
    .await
}
