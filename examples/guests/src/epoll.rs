//! A bare loop of `epoll_wait(2)`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::bail;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use windlass::Runtime;

use crate::{Guest, Host};

/// The guest is one descriptor among others.
///
/// It is registered as one-shot, and registered again after its turn. So a loop that is nested
/// inside a task, where the guest cannot take a turn, is not woken by it repeatedly.
pub struct Epoll {
    epoll: OwnedFd,
    guest: Guest,
    deferred: RefCell<VecDeque<Box<dyn FnOnce()>>>,
}

/// The token of the guest's events.
const GUEST: u64 = 0;

fn once() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ONESHOT
}

impl Epoll {
    /// Creates the loop and its guest.
    pub fn new() -> anyhow::Result<Epoll> {
        let guest = Guest::new(Runtime::new()?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &guest, epoll::EventData::new_u64(GUEST), once())?;
        Ok(Epoll {
            epoll,
            guest,
            deferred: RefCell::default(),
        })
    }
}

impl Host for Epoll {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(16);
        while !done.get() {
            self.guest.pass();
            let is_idle = self.deferred.borrow().is_empty();
            let limit = if is_idle {
                None
            } else {
                Some(&Timespec::default())
            };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), limit) {
                Ok(_) | Err(Errno::INTR) => {} // interrupted by a signal
                Err(error) => bail!(error),
            }
            for event in events.drain(..) {
                if event.data.u64() == GUEST {
                    self.guest.turn()?;
                    epoll::modify(
                        &self.epoll,
                        &self.guest,
                        epoll::EventData::new_u64(GUEST),
                        once(),
                    )?;
                }
            }
            let deferred = self.deferred.borrow_mut().pop_front();
            if let Some(event) = deferred {
                event();
            }
        }
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        self.deferred.borrow_mut().push_back(event);
    }
}
