//! Readiness, and the events that report it.

/// The state of a socket as epoll reports it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Readiness {
    /// `EPOLLIN`, or any of the three conditions below.
    pub(crate) readable: bool,
    /// `EPOLLOUT`, `EPOLLHUP` or `EPOLLERR`.
    pub(crate) writable: bool,
    /// `EPOLLRDHUP`, `EPOLLHUP` or `EPOLLERR`.
    pub(crate) hung_up: bool,
    /// `EPOLLHUP`.
    pub(crate) closed: bool,
    /// `EPOLLPRI`. Urgent data is not modelled, so it is always false.
    pub(crate) priority: bool,
    /// `EPOLLERR`.
    pub(crate) error: bool,
}

impl Readiness {
    pub(super) fn new(input: bool, output: bool, read_hang_up: bool, closed: bool) -> Readiness {
        Readiness {
            readable: input || read_hang_up || closed,
            writable: output || closed,
            hung_up: read_hang_up || closed,
            closed,
            priority: false,
            error: false,
        }
    }

    pub(super) fn with_error(mut self, error: bool) -> Readiness {
        if error {
            self.readable = true;
            self.writable = true;
            self.hung_up = true;
            self.error = true;
        }
        self
    }

    fn is_empty(self) -> bool {
        !(self.readable || self.writable || self.hung_up)
    }
}

/// An event of a registered socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// The key of the registration.
    pub(crate) key: u64,
    pub(crate) readiness: Readiness,
}

/// A change of readiness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Edge {
    Read,
    Write,
    /// A change of state, which each registration reports.
    State,
}

/// The interest in a socket. It is edge-triggered, so an event is pending from an edge until it is
/// taken. The event then reports the whole state.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) key: u64,
    pub(super) write: bool,
    pub(super) exclusive: bool,
    pub(super) is_pending: bool,
    /// The next event reports these directions, too.
    pub(super) spurious: Option<Edge>,
}

impl Registration {
    pub(super) fn is_interested(&self, edge: Edge) -> bool {
        edge != Edge::Write || self.write
    }

    /// Returns the part of a state that this registration reports.
    pub(super) fn filter(&self, mut readiness: Readiness) -> Option<Readiness> {
        let gone = readiness.closed || readiness.error;
        readiness.writable &= self.write || gone;
        // An exclusive registration is for `EPOLLIN` alone, which is set whenever `EPOLLRDHUP` is.
        readiness.hung_up &= !self.exclusive || gone;
        (!readiness.is_empty()).then_some(readiness)
    }

    pub(super) fn take_event(&mut self, mut readiness: Readiness) -> Option<Event> {
        self.is_pending = false;
        match self.spurious.take() {
            Some(Edge::Write) => readiness.writable = true,
            Some(_) => readiness.readable = true,
            None => {}
        }
        let key = self.key;
        self.filter(readiness)
            .map(|readiness| Event { key, readiness })
    }
}
