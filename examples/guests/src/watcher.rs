//! A thread that polls a guest's descriptor, for hosts that can't.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Notifies the host once when the descriptor is readable, and again after the host has called
/// [`again`](Watcher::again).
pub struct Watcher {
    /// `None` stops the thread.
    again: Option<Sender<()>>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread, which calls `notify`.
    pub fn new(guest: &impl AsFd, tell: impl Fn() + Send + 'static) -> io::Result<Watcher> {
        // A duplicate, because the thread may outlive the guest briefly.
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

    /// Lets the thread wait again. Called after a turn.
    pub fn again(&self) {
        if let Some(again) = &self.again {
            let _ = again.send(()); // the thread exists until the drop
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
