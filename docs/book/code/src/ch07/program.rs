//! A reactor, which is a `block_on` that also waits for sockets.

#![allow(missing_debug_implementations)]

// ANCHOR: imports
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use polling::{Events, Poller};

// ANCHOR_END: imports
use super::steps::mark;

// ANCHOR: park
/// Whether the loop was woken, and whether it waits in the poller.
pub(crate) struct ParkState {
    pub(crate) is_woken: AtomicBool,
    pub(super) is_parked: AtomicBool,
    pub(super) poller: Poller,
}

impl Wake for ParkState {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        if self.is_parked.swap(false, SeqCst) {
            self.poller.notify().expect("the poller is open");
        }
    }
}
// ANCHOR_END: park

// ANCHOR: reactor
/// Waits for sockets, and wakes the tasks that wait for them.
pub struct Reactor {
    pub(crate) park: Arc<ParkState>,
    /// The wakers of the tasks, by the key of the socket that they wait for.
    pub(super) waiting: RefCell<HashMap<usize, Waker>>,
    pub(super) next: Cell<usize>,
}

impl Reactor {
    /// Creates a reactor that waits for nothing yet.
    pub fn new() -> io::Result<Rc<Reactor>> {
        let park = ParkState {
            is_woken: AtomicBool::new(false),
            is_parked: AtomicBool::new(false),
            poller: Poller::new()?,
        };
        Ok(Rc::new(Reactor {
            park: Arc::new(park),
            waiting: RefCell::default(),
            next: Cell::new(0),
        }))
    }

    /// Runs a future to its end, and waits for sockets meanwhile.
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        let waker = Waker::from(self.park.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            self.park.is_woken.store(false, SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            self.turn(None)?;
        }
    }

    /// Waits for events or a wake, at most for a time. Wakes the tasks of the events.
    pub fn turn(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut events = Events::new();
        self.park.is_parked.store(true, SeqCst);
        let is_woken = self.park.is_woken.load(SeqCst);
        let limit = if is_woken {
            Some(Duration::ZERO)
        } else {
            limit
        };
        mark("park");
        self.park.poller.wait(&mut events, limit)?;
        mark("wait");
        self.park.is_parked.store(false, SeqCst);
        for event in events.iter() {
            let waker = self.waiting.borrow_mut().remove(&event.key);
            if let Some(waker) = waker {
                waker.wake();
                mark("wake");
            }
        }
        Ok(())
    }
}
// ANCHOR_END: reactor
