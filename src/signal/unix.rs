//! How the system tells of a signal: by a handler, which sets a flag and rings a bell.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll};

use signal_hook_registry::{FORBIDDEN, SigId};

use windlass_reactor::Async;
use windlass_reactor::fork::Origin;

use crate::io::pipe;

/// A pipe that only wakes: its bytes say nothing.
pub(crate) struct Bell {
    rung: Async<OwnedFd>,
    /// Without it, and without signals, the pipe would seem to have ended.
    ringer: Arc<OwnedFd>,
    /// A forked child shares the pipe with its parent, and must not use it.
    origin: Origin,
}

/// The other end of the pipe.
pub(crate) struct Ringer(Arc<OwnedFd>, Origin);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let (rung, ringer) = pipe::ends()?;
        Ok(Bell {
            rung: Async::new_nonblocking(rung)?,
            ringer: Arc::new(ringer),
            origin: Origin::here(),
        })
    }

    pub(crate) fn ringer(&self) -> Ringer {
        Ringer(self.ringer.clone(), self.origin)
    }

    /// An error in a forked child.
    pub(crate) fn check_origin(&self) -> io::Result<()> {
        self.origin.check("this listener for signals")
    }

    /// Ready if it was rung since it was last asked.
    pub(crate) fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 64];
        let read = |rung: &OwnedFd| Ok(rustix::io::read(rung, &mut bytes).map(|_| ())?);
        self.rung.poll_read_with(cx, read)
    }
}

/// What is done at a signal, until it's dropped.
pub(crate) struct Handler(SigId);

impl Handler {
    /// Sets `flag`, and if it wasn't set, rings.
    pub(crate) fn new(signal: i32, flag: Arc<AtomicBool>, ringer: Ringer) -> io::Result<Handler> {
        if FORBIDDEN.contains(&signal) {
            let text = format!(
                "signal {signal} can't be listened for: SIGKILL and SIGSTOP can't be caught, and \
                 SIGILL, SIGFPE and SIGSEGV tell of a fault that would come again at once"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let handler = move || {
            if ringer.1.is_here() && !flag.swap(true, AcqRel) {
                // It fails only if the pipe is full, and then there are bytes to be read.
                let _ = rustix::io::write(&*ringer.0, &[0]);
            }
        };
        // SAFETY: `handler` does nothing but what a signal handler may: it reads the generation of
        // the process (or calls getpid(2)), swaps an atomic flag and calls write(2) on a descriptor
        // that is open, since the handler owns it. It neither allocates, nor locks, nor panics.
        let action = unsafe { signal_hook_registry::register(signal, handler) }?;
        let this = Handler(action);
        run_on_alternate_stack(signal)?;
        Ok(this)
    }
}

/// Has the handler of a signal run on the thread's alternate stack, if the thread has one.
///
/// `signal-hook-registry` installs its handler without `SA_ONSTACK`. That is fatal where a signal
/// interrupts a thread with a small stack, as those of Go's goroutines and of other coroutines are.
fn run_on_alternate_stack(signal: i32) -> io::Result<()> {
    let mut action = swap_action(signal, None)?;
    if action.sa_flags & libc::SA_ONSTACK == 0 {
        action.sa_flags |= libc::SA_ONSTACK;
        let replaced = swap_action(signal, Some(&action))?;
        if replaced.sa_sigaction != action.sa_sigaction {
            // Another thread has installed a handler of its own since the look. It stays.
            swap_action(signal, Some(&replaced))?;
        }
    }
    Ok(())
}

/// Gives the action of a signal, and replaces it by one that this has given for the same signal,
/// with other flags.
fn swap_action(signal: i32, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both pointers are valid for the call, and an action may be all zeros. The handler of
    // `new` was installed for this signal before, so this makes no function a handler that isn't
    // one.
    unsafe {
        if libc::sigaction(signal, new, old.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(old.assume_init())
    }
}

impl Drop for Handler {
    /// Waits for handlers that run at this moment on other threads: after it none does.
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.0);
    }
}
