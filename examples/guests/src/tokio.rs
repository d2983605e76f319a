//! tokio's current-thread runtime, with windlass in one of its tasks.
//!
//! A program that has no such runtime yet calls `windlass::tokio::block_on` instead, where windlass
//! works in tokio's tasks, too.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::bail;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::{Guest, Host};

/// A local task waits for the guest's descriptor.
pub struct Tokio {
    // Dropped before the runtime, because the task's descriptor is registered with the runtime's
    // reactor.
    tasks: LocalSet,
    runtime: Runtime,
    guest: Rc<Guest>,
    /// Notified after code has run that may have set `done`.
    changed: Rc<Notify>,
}

impl Tokio {
    /// Creates the loop, its guest, and the task.
    pub fn new() -> anyhow::Result<Tokio> {
        let guest = Rc::new(Guest::new(windlass::Runtime::new()?));
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let tasks = LocalSet::new();
        let changed = Rc::new(Notify::new());
        let entered = runtime.enter();
        // SAFETY: the guest's descriptor stays the same and open as long as the guest exists, and
        // the `AsyncFd` owns the guest.
        let descriptor = unsafe {
            AsyncFd::register_with_interest(guest.clone(), Interest::READABLE)
                .map_err(std::io::Error::from)?
        };
        drop(entered);
        let told = changed.clone();
        tasks.spawn_local(async move {
            loop {
                let mut ready = descriptor
                    .readable()
                    .await
                    .expect("tokio's reactor is there");
                let guest = ready.get_inner();
                guest.pass();
                guest.turn().expect("the poller works");
                told.notify_one();
                // tokio reports changes only, so readiness may be cleared only if the descriptor is
                // not ready.
                if !is_readable(guest) {
                    ready.clear_ready();
                }
                drop(ready);
                tokio::task::yield_now().await;
            }
        });
        Ok(Tokio {
            tasks,
            runtime,
            guest,
            changed,
        })
    }
}

fn is_readable(guest: &Guest) -> bool {
    let mut polled = [PollFd::new(guest, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|readable| readable > 0)
}

impl Host for Tokio {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        if Handle::try_current().is_ok() {
            bail!("a tokio runtime can't be run inside of itself");
        }
        self.tasks.block_on(&self.runtime, async {
            while !done.get() {
                self.changed.notified().await;
            }
        });
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        let told = self.changed.clone();
        self.tasks.spawn_local(async move {
            event();
            told.notify_one();
        });
    }
}
