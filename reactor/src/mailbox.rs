//! Running closures on the thread of a reactor, from any thread.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::current::current_reactor;
use crate::entry::{Message, SourceRemote};

/// A closure that runs on the thread of a reactor.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs closures on the thread of a reactor. Any thread may use it, and it may outlive the reactor.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use windlass_reactor::{Mailbox, Reactor};
///
/// let reactor = Reactor::current()?;
/// let mailbox = Mailbox::current()?;
/// let (sender, receiver) = mpsc::channel();
/// let job = Box::new(move || sender.send(std::thread::current().id()).unwrap());
/// std::thread::spawn(move || mailbox.post(job).is_ok()).join().unwrap();
/// reactor.turn(None)?;
/// assert_eq!(receiver.try_recv(), Ok(std::thread::current().id()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Mailbox(Arc<SourceRemote>);

impl Mailbox {
    /// Returns the mailbox of this thread's reactor.
    ///
    /// # Errors
    ///
    /// Fails if the thread has no reactor and none can be created.
    pub fn current() -> io::Result<Mailbox> {
        Ok(Mailbox(current_reactor()?.remote().clone()))
    }

    /// Runs a closure at the end of the reactor's next turn, and ends its wait. A panic of the
    /// closure is discarded. If the reactor is dropped before, it drops the closure on its thread.
    ///
    /// # Errors
    ///
    /// Returns the closure if the reactor was dropped, and in a forked child if the reactor is the
    /// parent's.
    pub fn post(&self, job: Job) -> Result<(), Job> {
        match self.0.post(Message::Run(job), |_| {}) {
            Err(Message::Run(job)) => Err(job),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}
