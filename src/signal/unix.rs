//! Signals on Unix. A handler sets a flag and writes to a pipe.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll};

use signal_hook_registry::{FORBIDDEN, SigId};

use windlass_reactor::Async;
use windlass_reactor::fork::Origin;

use super::action::swap_action;
use crate::io::pipe;
use crate::waits::{SourceKind, SourceLabel};

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
    Pipe(Arc<OwnedFd>, Origin),
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
            Notified::Pipe(this) => Notifier::Pipe(this.writer.clone(), this.origin),
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

/// The handler of a signal, installed until this is dropped. There is none in a simulated host.
pub(crate) struct Handler(Option<SigId>);

impl Handler {
    /// Installs a handler that sets `flag`, and notifies if it was clear.
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
        let (pipe, origin) = match notifier {
            Notifier::Pipe(pipe, origin) => (pipe, origin),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Notifier::Host(signals) => {
                signals.add(signal, &flag);
                return Ok(Handler(None));
            }
        };
        let handler = move || {
            if origin.is_here() && !flag.swap(true, AcqRel) {
                // It fails only if the pipe is full, which also wakes the task.
                let _ = rustix::io::write(&*pipe, &[0]);
            }
        };
        // SAFETY: `handler` is async-signal-safe. It reads the generation of the process (or calls
        // getpid(2)), swaps an atomic flag and calls write(2) on a file descriptor that is open,
        // since the handler owns it. It neither allocates, nor locks, nor panics.
        let action = unsafe { signal_hook_registry::register(signal, handler) }?;
        let this = Handler(Some(action));
        run_on_alternate_stack(signal)?;
        Ok(this)
    }
}

/// Makes the handler of a signal run on the thread's alternate stack, if the thread has one.
///
/// `signal-hook-registry` installs its handler without `SA_ONSTACK`. This is fatal when a signal
/// interrupts a thread that runs on a small stack, such as a goroutine or another coroutine.
fn run_on_alternate_stack(signal: i32) -> io::Result<()> {
    // SAFETY: no action is replaced.
    let mut action = unsafe { swap_action(signal, None) }?;
    if action.sa_flags & libc::SA_ONSTACK == 0 {
        action.sa_flags |= libc::SA_ONSTACK;
        // SAFETY: the handler is the one that was installed. Any stack suits it.
        let replaced = unsafe { swap_action(signal, Some(&action)) }?;
        if replaced.sa_sigaction != action.sa_sigaction {
            // Another thread has installed a handler in the meantime. It stays.
            // SAFETY: the action was installed for this signal.
            unsafe { swap_action(signal, Some(&replaced)) }?;
        }
    }
    Ok(())
}

impl Drop for Handler {
    /// Waits for handlers that run on other threads, so that none runs afterwards.
    fn drop(&mut self) {
        self.0.map(signal_hook_registry::unregister);
    }
}
