//! The connected clients, with the time of their last request and the size of their buffers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use windlass::net::TcpStream;

/// The socket of a client. Its methods do not wait.
pub(crate) trait Socket {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown);
}

impl Socket for TcpStream {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_read(buf)
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_write(buf)
    }

    fn shutdown(&self, how: Shutdown) {
        let _ = self.shutdown(how); // fails if the connection was reset
    }
}

/// The size of all buffers of clients, and its limit.
pub(crate) struct Buffers {
    bytes: Cell<usize>,
    limit: usize,
}

/// The share of one client in [`Buffers`].
pub(crate) struct Held {
    all: Rc<Buffers>,
    bytes: Cell<usize>,
}

impl Held {
    /// Returns false if the limit is exceeded. The number is not added then.
    #[must_use]
    pub(crate) fn try_hold(&self, bytes: usize) -> bool {
        if self.all.bytes.get() + bytes > self.all.limit {
            return false;
        }
        self.all.bytes.set(self.all.bytes.get() + bytes);
        self.bytes.set(self.bytes.get() + bytes);
        true
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.all.bytes.set(self.all.bytes.get() - bytes);
        self.bytes.set(self.bytes.get() - bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes.get());
    }
}

pub(crate) struct Client {
    socket: Box<dyn Socket>,
    /// The second of its last progress. See [`Clients::tick`].
    seen: Cell<u64>,
    pub(crate) is_subscriber: Cell<bool>,
    /// The size of its buffers.
    pub(crate) queued: Held,
}

impl Client {
    /// Adds to the size of its buffers.
    ///
    /// # Errors
    ///
    /// Fails if the buffers of all clients exceed their limit.
    pub(crate) fn hold(&self, bytes: usize) -> io::Result<()> {
        match self.queued.try_hold(bytes) {
            true => Ok(()),
            false => Err(io::Error::other(
                "the buffers of all clients exceed their limit",
            )),
        }
    }

    /// Ends the connection. Its task then reads the end of the stream, or fails to write.
    pub(crate) fn disconnect(&self) {
        self.socket.shutdown(Shutdown::Both);
    }
}

/// All clients. Its clock has a resolution of seconds, which costs a request one store.
pub(crate) struct Clients {
    open: RefCell<BTreeMap<u64, Rc<Client>>>,
    next_id: Cell<u64>,
    seconds: Cell<u64>,
    buffers: Rc<Buffers>,
}

impl Clients {
    pub(crate) fn new(buffer_limit: usize) -> Clients {
        let buffers = Buffers {
            bytes: Cell::new(0),
            limit: buffer_limit,
        };
        Clients {
            open: RefCell::default(),
            next_id: Cell::new(1),
            seconds: Cell::new(0),
            buffers: Rc::new(buffers),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Size of all buffers.
    pub(crate) fn buffered(&self) -> usize {
        self.buffers.bytes.get()
    }

    pub(crate) fn add(&self, socket: Box<dyn Socket>) -> (u64, Rc<Client>) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let queued = Held {
            all: self.buffers.clone(),
            bytes: Cell::new(0),
        };
        let client = Rc::new(Client {
            socket,
            seen: Cell::new(self.seconds.get()),
            is_subscriber: Cell::new(false),
            queued,
        });
        self.open.borrow_mut().insert(id, client.clone());
        (id, client)
    }

    pub(crate) fn remove(&self, id: u64) {
        let removed = self.open.borrow_mut().remove(&id);
        drop(removed);
    }

    /// Records that a client makes progress.
    pub(crate) fn saw(&self, client: &Client) {
        client.seen.set(self.seconds.get());
    }

    /// Advances the clock by a second. Disconnects clients that made no progress for this number of
    /// seconds, except subscribers, which may be silent.
    pub(crate) fn tick(&self, idle_limit: Option<u64>) {
        let now = self.seconds.get() + 1;
        self.seconds.set(now);
        let Some(limit) = idle_limit else { return };
        for client in self.open.borrow().values() {
            if now - client.seen.get() > limit && !client.is_subscriber.get() {
                client.disconnect();
            }
        }
    }

    /// Ends the input of all clients. Their tasks answer the requests that have arrived, then read
    /// the end of the stream.
    pub(crate) fn end_input(&self) {
        for client in self.open.borrow().values() {
            client.socket.shutdown(Shutdown::Read);
        }
    }
}
