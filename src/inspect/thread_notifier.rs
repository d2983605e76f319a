//! Where the watchdog waits, and how other threads end its wait.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Ends waits of one thread.
#[derive(Debug)]
pub(crate) struct ThreadNotifier {
    /// The thread waits for a loop to wake.
    is_parked: AtomicBool,
    platform: platform::ThreadNotifier,
}

impl ThreadNotifier {
    pub(crate) fn new() -> io::Result<ThreadNotifier> {
        Ok(ThreadNotifier {
            is_parked: AtomicBool::new(false),
            platform: platform::ThreadNotifier::new()?,
        })
    }

    /// Ends the current wait, or the next one.
    pub(crate) fn notify(&self) {
        self.is_parked.store(false, SeqCst);
        self.platform.notify();
    }

    /// Ends the wait for loops. Elsewhere it costs an exchange.
    pub(crate) fn notify_parked(&self) {
        if self.is_parked.swap(false, SeqCst) {
            self.platform.notify();
        }
    }

    /// From here on, `notify_parked` ends the next wait. The caller then checks the loops once
    /// more.
    pub(crate) fn prepare(&self) {
        self.is_parked.store(true, SeqCst);
    }

    /// Waits for a notification, for one of the hosts to be due, or for the limit.
    pub(crate) fn wait(&self, limit: Option<Duration>, hosts: &[Host]) {
        self.platform.wait(limit, hosts);
        self.is_parked.store(false, SeqCst);
    }
}

pub(crate) use platform::Host;

#[cfg(unix)]
mod platform {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use crate::inspect::loops::Loop;
    use crate::io::pipe;

    #[derive(Debug)]
    pub(super) struct ThreadNotifier {
        reader: OwnedFd,
        writer: OwnedFd,
    }

    impl ThreadNotifier {
        pub(super) fn new() -> io::Result<ThreadNotifier> {
            let (reader, writer) = pipe::ends()?;
            Ok(ThreadNotifier { reader, writer })
        }

        /// Fails if the pipe is full, which also ends the wait.
        pub(super) fn notify(&self) {
            let _ = rustix::io::write(&self.writer, &[0]);
        }

        pub(super) fn wait(&self, limit: Option<Duration>, hosts: &[Host]) {
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let is_notified = match hosts {
                [] => {
                    let fds = &mut [PollFd::new(&self.reader, PollFlags::IN)];
                    poll(fds, limit.as_ref()).is_ok_and(|ready| ready > 0)
                }
                _ => {
                    let hosts = hosts.iter().map(|host| &host.0);
                    let fds = std::iter::once(&self.reader).chain(hosts);
                    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
                    let result = poll(&mut fds, limit.as_ref());
                    result.is_ok() && !fds[0].revents().is_empty()
                }
            };
            if is_notified {
                let _ = rustix::io::read(&self.reader, &mut [0; 64]);
            }
        }
    }

    /// The descriptor of a reactor between turns of its host. It becomes readable when a turn is
    /// due.
    #[derive(Debug)]
    pub(crate) struct Host(OwnedFd);

    impl Host {
        /// Returns `None` without a free descriptor. The caller holds the lock of the loops.
        pub(crate) fn new(of: &Loop) -> Option<Host> {
            // SAFETY: the descriptor is open, because the loop is in the list.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(of.thread.fd) };
            fd.try_clone_to_owned().ok().map(Host)
        }

        /// Returns whether the host has to take a turn. The caller holds the lock of the loops.
        pub(crate) fn is_due(of: &Loop) -> bool {
            // SAFETY: the descriptor is open, because the loop is in the list.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(of.thread.fd) };
            let fd = fd.as_fd();
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let fds = &mut [PollFd::new(&fd, PollFlags::IN)];
            poll(fds, Some(&now)).is_ok_and(|ready| ready > 0)
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    use crate::inspect::loops::Loop;

    #[derive(Debug)]
    pub(super) struct ThreadNotifier {
        is_notified: Mutex<bool>,
        changed: Condvar,
    }

    impl ThreadNotifier {
        pub(super) fn new() -> io::Result<ThreadNotifier> {
            Ok(ThreadNotifier {
                is_notified: Mutex::new(false),
                changed: Condvar::new(),
            })
        }

        pub(super) fn notify(&self) {
            *self
                .is_notified
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
            self.changed.notify_one();
        }

        pub(super) fn wait(&self, limit: Option<Duration>, _: &[Host]) {
            let is_notified = self.is_notified.lock();
            let is_notified = is_notified.unwrap_or_else(PoisonError::into_inner);
            let limit = limit.unwrap_or(Duration::MAX);
            let waited = self
                .changed
                .wait_timeout_while(is_notified, limit, |is_notified| !*is_notified);
            *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        }
    }

    /// A host that takes turns of a loop. Nothing shows here whether it has to take one.
    #[derive(Debug)]
    pub(crate) enum Host {}

    impl Host {
        pub(crate) fn new(_: &Loop) -> Option<Host> {
            None
        }

        pub(crate) fn is_due(_: &Loop) -> bool {
            false
        }
    }
}
