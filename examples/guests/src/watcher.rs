//! A thread that waits on a guest's descriptor, for hosts that can't.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Tells the host when the descriptor is readable: once, until the host says
/// [`again`](Watcher::again) after its turn.
pub struct Watcher {
    /// None when the thread shall end.
    again: Option<Sender<()>>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread, which calls `tell`.
    pub fn new(guest: &impl AsFd, tell: impl Fn() + Send + 'static) -> io::Result<Watcher> {
        // One of its own: the thread may outlive the guest by a moment.
        let guest = guest.as_fd().try_clone_to_owned()?;
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let ending = end.clone();
        let (again, turns) = channel();
        let thread = thread::Builder::new()
            .name("guest watcher".to_owned())
            .spawn(move || {
                loop {
                    let mut watched = [
                        PollFd::new(&guest, PollFlags::IN),
                        PollFd::new(&*ending, PollFlags::IN),
                    ];
                    match poll(&mut watched, None) {
                        Err(rustix::io::Errno::INTR) => continue,
                        Ok(_) if watched[1].revents().is_empty() => tell(),
                        _ => return,
                    }
                    if turns.recv().is_err() {
                        return;
                    }
                }
            })?;
        Ok(Watcher {
            again: Some(again),
            end,
            thread: Some(thread),
        })
    }

    /// The turn is over: the thread may wait again.
    pub fn again(&self) {
        if let Some(again) = &self.again {
            let _ = again.send(()); // the thread is there until the drop
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.again = None;
        let _ = rustix::io::write(&*self.end, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
