//! `calloop`, the event loop of many Wayland programs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::Context;
use calloop::generic::Generic;
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction};
use windlass::Runtime;

use crate::{Guest, Host};

/// The guest is an event source, through its descriptor.
pub struct Calloop {
    event_loop: RefCell<EventLoop<'static, ()>>,
    handle: LoopHandle<'static, ()>,
    guest: Rc<Guest>,
}

impl Calloop {
    /// Creates the loop and its guest.
    pub fn new() -> anyhow::Result<Calloop> {
        let guest = Rc::new(Guest::new(Runtime::new()?));
        let event_loop = EventLoop::try_new()?;
        let handle = event_loop.handle();
        let source = Generic::new(guest.clone(), Interest::READ, Mode::Level);
        handle
            .insert_source(source, |_, guest, _| {
                guest.turn()?;
                Ok(PostAction::Continue)
            })
            .map_err(|refused| refused.error)?;
        Ok(Calloop {
            event_loop: RefCell::new(event_loop),
            handle,
            guest,
        })
    }
}

impl Host for Calloop {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        let event_loop = self.event_loop.try_borrow_mut();
        let mut event_loop = event_loop.context("an `EventLoop` can't be run inside of itself")?;
        let signal = event_loop.get_signal();
        event_loop.run(None, &mut (), |()| {
            self.guest.pass();
            if done.get() {
                signal.stop();
            }
        })?;
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        self.handle.insert_idle(|()| event());
    }
}
