//! Signals on Unix. A handler sets a flag and writes to a pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use windlass_reactor::Async;
use windlass_reactor::fork::Origin;

use super::handler::{Listener, Listening};
use crate::io::pipe;
use crate::waits::{SourceKind, SourceLabel};

/// Signals that can't be caught, or that would recur after a handler.
const FORBIDDEN: [i32; 5] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGSEGV,
];

/// Wakes the task of a listener.
pub(crate) enum Notified {
    Pipe(NotifiedByPipe),
    /// In a simulated host.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    Host(std::rc::Rc<crate::sim::signals::HostSignals>),
}

/// The reading end of a pipe that wakes the task. Its bytes have no meaning.
pub(crate) struct NotifiedByPipe {
    label: Option<SourceLabel>,
    reader: Async<OwnedFd>,
    /// Kept open, because the pipe would otherwise end with the last handler.
    writer: Arc<OwnedFd>,
    /// A forked child shares the pipe with its parent, and must leave it alone.
    origin: Origin,
}

/// The writing end of the pipe, for a handler.
pub(crate) enum Notifier {
    Pipe(Arc<OwnedFd>),
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    Host(std::rc::Rc<crate::sim::signals::HostSignals>),
}

impl Notified {
    pub(crate) fn new() -> io::Result<Notified> {
        #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
        if let Some(signals) = crate::sim::current::signals() {
            return Ok(Notified::Host(signals));
        }
        let (reader, writer) = pipe::ends()?;
        Ok(Notified::Pipe(NotifiedByPipe {
            label: None,
            reader: Async::new_nonblocking(reader)?,
            writer: Arc::new(writer),
            origin: Origin::here(),
        }))
    }

    /// Labels the pipe in the list of sources.
    pub(crate) fn list_as(&mut self, signals: Vec<i32>) {
        match self {
            Notified::Pipe(this) => {
                let fd = this.reader.get_ref().as_raw_fd();
                this.label = Some(SourceLabel::new(fd, SourceKind::Signals(signals)));
            }
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notified::Host(_) => {}
        }
    }

    pub(crate) fn notifier(&self) -> Notifier {
        match self {
            Notified::Pipe(this) => Notifier::Pipe(this.writer.clone()),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notified::Host(signals) => Notifier::Host(signals.clone()),
        }
    }

    /// Returns an error in a forked child.
    pub(crate) fn check_origin(&self) -> io::Result<()> {
        match self {
            Notified::Pipe(this) => this.origin.check("this signal listener"),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notified::Host(_) => Ok(()),
        }
    }

    /// Returns ready if a handler has notified since the last call.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 64];
        let read = |reader: &OwnedFd| Ok(rustix::io::read(reader, &mut bytes).map(|_| ())?);
        match self {
            Notified::Pipe(this) => this.reader.poll_read_with(cx, read),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notified::Host(signals) => {
                signals.wait(cx);
                Poll::Pending
            }
        }
    }
}

/// A listener for a signal until this is dropped. A simulated host has no handler.
pub(crate) struct Handler {
    _listening: Option<Listening>,
}

impl Handler {
    /// Adds a listener. The signal sets `flag`, and notifies if it was clear.
    pub(crate) fn new(
        signal: i32,
        flag: Arc<AtomicBool>,
        notifier: Notifier,
    ) -> io::Result<Handler> {
        if FORBIDDEN.contains(&signal) {
            let text = format!(
                "can't listen for signal {signal}: SIGKILL and SIGSTOP can't be caught, and \
                 SIGILL, SIGFPE and SIGSEGV report a fault that would recur at once"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match notifier {
            Notifier::Pipe(pipe) => {
                let listening = Listening::new(signal, Listener { flag, pipe })?;
                Ok(Handler {
                    _listening: Some(listening),
                })
            }
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notifier::Host(signals) => {
                signals.add(signal, &flag);
                Ok(Handler { _listening: None })
            }
        }
    }
}
