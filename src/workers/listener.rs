//! A listener of a worker. It accepts connections until the worker drains.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::rc::Rc;

use super::worker::Status;
use crate::net::{TcpListener, TcpStream};

/// A listener that a worker has received from its parent.
///
/// The socket may be shared with all other workers. A connection then wakes one of the workers that
/// wait in [`accept`](Listener::accept), and they take turns. A worker that is busy or at its limit
/// does not wait there, and leaves new connections to the others.
///
/// # Examples
///
/// [`Worker::serve`](super::Worker::serve), written by hand:
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::task::TaskGroup;
///
/// let serve = |worker: windlass::workers::Worker| async move {
///     let connections = TaskGroup::independent();
///     while let Some((mut stream, _peer)) = worker.listener().accept().await? {
///         connections.spawn(async move {
///             let _ = stream.write_all(b"ahoy").await;
///         });
/// #       worker.send(windlass::workers::Party::Parent, "").await?;
///     }
///     connections.close().await;
///     std::io::Result::Ok(())
/// };
/// # let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// # /*
/// windlass::workers().listen("0.0.0.0:7000")?.run(serve)?;
/// # */
/// # windlass::workers().count(2).listen(addr)?.parent(move |mut parent| async move {
/// #     let _client = windlass::net::TcpStream::connect(addr).await.unwrap();
/// #     parent.recv().await;
/// #     parent.stop();
/// # }).run(serve)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Listener {
    /// `None` once the worker no longer waits for connections.
    waiting: RefCell<Option<Rc<TcpListener>>>,
    /// A duplicate of the socket's descriptor. `None` once the accept queue was empty after that.
    socket: RefCell<Option<net::TcpListener>>,
    /// Number of `accept` calls that wait for a connection.
    pending: Cell<usize>,
    addr: SocketAddr,
    status: Rc<Status>,
}

/// Counts one waiting `accept`.
struct Pending<'a>(&'a Cell<usize>);

impl<'a> Pending<'a> {
    fn new(pending: &'a Cell<usize>) -> Self {
        pending.set(pending.get() + 1);
        Pending(pending)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Listener {
    pub(super) fn new(socket: net::TcpListener, status: Rc<Status>) -> io::Result<Listener> {
        let waiting = TcpListener::try_from(socket.try_clone()?)?;
        waiting.share();
        Ok(Listener {
            waiting: RefCell::new(Some(Rc::new(waiting))),
            pending: Cell::new(0),
            addr: socket.local_addr()?,
            socket: RefCell::new(Some(socket)),
            status,
        })
    }

    /// Waits for a connection. Returns `None` when the worker is stopped. The first call marks the
    /// worker as [ready](super::Worker::ready).
    ///
    /// After a stop, connections that are already in the accept queue are still returned, because
    /// the kernel may have woken no other worker for them.
    ///
    /// # Errors
    ///
    /// The same as for [`TcpListener::accept`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no connection is lost.
    pub async fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        self.status.ready();
        let waiting = self.waiting.borrow().clone();
        if let Some(waiting) = waiting {
            let stop = self.status.stop.token();
            let pending = Pending::new(&self.pending);
            let accepted = stop.run(waiting.accept()).await;
            // The last clone deregisters the socket, which must happen before the queue is drained.
            drop(waiting);
            drop(pending);
            if let Some(accepted) = accepted {
                return self.count(accepted).map(Some);
            }
        }
        // The socket is deregistered first. A connection that arrives after that wakes another
        // worker; one that arrived before is found now. While another `accept` of this worker is
        // pending, the socket stays registered, and the last pending call drains the queue.
        drop(self.waiting.take());
        let accepted = loop {
            let tried = self.socket.borrow().as_ref().map(net::TcpListener::accept);
            match tried {
                Some(Ok(accepted)) => break accepted,
                Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Some(Err(_)) if self.pending.get() > 0 => return Ok(None),
                Some(Err(_)) | None => return Ok(self.close()),
            }
        };
        let (stream, peer) = accepted;
        let accepted = TcpStream::try_from(stream).map(|stream| (stream, peer));
        self.count(accepted).map(Some)
    }

    /// Closes the socket, so that clients are refused instead of queued if no other worker listens.
    fn close<T>(&self) -> Option<T> {
        drop(self.socket.take());
        None
    }

    fn count<T>(&self, accepted: io::Result<T>) -> io::Result<T> {
        self.status.count(|metrics| match accepted {
            Ok(_) => metrics.accepted += 1,
            Err(_) => metrics.errors += 1,
        });
        accepted
    }

    /// Returns the address of the socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.addr).finish()
    }
}
