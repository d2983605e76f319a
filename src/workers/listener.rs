//! A worker's listener: it accepts until the worker is drained.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::rc::Rc;

use super::worker::Signs;
use crate::net::{TcpListener, TcpStream};

/// A listener that a worker got from its parent.
///
/// It may be that of all workers: a connection then wakes one that waits in
/// [`accept`](Listener::accept), and they take turns. A worker that doesn't wait there, since it
/// serves first or has no room, leaves new connections to the others.
///
/// # Examples
///
/// What [`Worker::serve`](super::Worker::serve) does is written by hand like this:
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
    /// None once the worker doesn't wait for connections any more.
    waiting: RefCell<Option<Rc<TcpListener>>>,
    /// Another descriptor of the same socket; None once no connection was left then.
    socket: RefCell<Option<net::TcpListener>>,
    /// How many `accept` wait for a connection.
    pending: Cell<usize>,
    addr: SocketAddr,
    signs: Rc<Signs>,
}

/// Counts an `accept` that waits.
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
    pub(super) fn new(socket: net::TcpListener, signs: Rc<Signs>) -> io::Result<Listener> {
        let waiting = TcpListener::try_from(socket.try_clone()?)?;
        waiting.share();
        Ok(Listener {
            waiting: RefCell::new(Some(Rc::new(waiting))),
            pending: Cell::new(0),
            addr: socket.local_addr()?,
            socket: RefCell::new(Some(socket)),
            signs,
        })
    }

    /// Waits for a connection; `None` when the worker is to end. The first call says that the
    /// worker is [ready](super::Worker::ready).
    ///
    /// A connection that has come is still given out when the worker is to end: nobody else may
    /// have been told of it.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`].
    ///
    /// # Cancel safety
    ///
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        self.signs.ready();
        let waiting = self.waiting.borrow().clone();
        if let Some(waiting) = waiting {
            let stop = self.signs.stop.token();
            let pending = Pending::new(&self.pending);
            let accepted = stop.run(waiting.accept()).await;
            drop(waiting); // before the last look: the last one deregisters
            drop(pending);
            if let Some(accepted) = accepted {
                return self.count(accepted).map(Some);
            }
        }
        // Deregistered first: a connection that comes from then on wakes another worker, and one
        // that came before is found now. While another `accept` of this worker is pending, the
        // listener stays registered: then the last of them has the last look.
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

    /// Clients shall be refused, if nobody else listens, and not wait.
    fn close<T>(&self) -> Option<T> {
        drop(self.socket.take());
        None
    }

    fn count<T>(&self, accepted: io::Result<T>) -> io::Result<T> {
        let counters = &self.signs.counters;
        let counter = if accepted.is_ok() {
            &counters.accepted
        } else {
            &counters.errors
        };
        counter.set(counter.get() + 1);
        accepted
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.addr).finish()
    }
}
