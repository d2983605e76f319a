//! The loop of a game: 60 frames per second, each with a time slice for windlass.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use windlass::Runtime;

use crate::{Guest, Host};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// The time slice for windlass in each frame.
const SHARE: Duration = Duration::from_millis(2);

/// The guest takes a turn in each frame. No descriptor is watched and no deadline is read.
pub struct Frames {
    guest: Guest,
    deferred: RefCell<VecDeque<Box<dyn FnOnce()>>>,
}

impl Frames {
    /// Creates the loop and its guest.
    pub fn new() -> anyhow::Result<Frames> {
        Ok(Frames {
            guest: Guest::new(Runtime::new()?),
            deferred: RefCell::default(),
        })
    }
}

impl Host for Frames {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        let mut next = Instant::now();
        while !done.get() {
            self.guest.pass();
            // A menu opened by a task runs a loop like this one inside that task.
            if !self.guest.runtime().is_running() {
                self.guest.turn_for(SHARE)?;
            }
            let deferred = self.deferred.borrow_mut().pop_front();
            if let Some(event) = deferred {
                event();
            }
            next = (next + FRAME).max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        self.deferred.borrow_mut().push_back(event);
    }

    fn frame(&self) -> Option<Duration> {
        Some(FRAME)
    }
}
