//! GLib's main context, which is the loop of GTK and GStreamer programs.

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use glib::{ControlFlow, IOCondition, MainContext, Priority, SourceId};
use windlass::Runtime;

use crate::{Guest, Host};

/// The guest is a source of the thread's default context, through its descriptor.
///
/// A source is blocked while it is dispatched, so a context that is iterated inside a task ignores
/// the guest.
pub struct Glib {
    context: MainContext,
    source: Option<SourceId>,
    guest: Rc<Guest>,
}

/// The priority of GLib's idle events, after input and drawing. A busy guest starves only events of
/// a lower priority.
const PRIORITY: Priority = Priority::DEFAULT_IDLE;

impl Glib {
    /// Creates the guest and adds it to the context.
    pub fn new() -> anyhow::Result<Glib> {
        let guest = Rc::new(Guest::new(Runtime::new()?));
        let inner = guest.clone();
        let descriptor = guest.as_raw_fd();
        let turn = move |_, _| {
            inner.turn().expect("the poller works");
            ControlFlow::Continue
        };
        let source =
            glib::source::unix_fd_add_local_full(descriptor, PRIORITY, IOCondition::IN, turn);
        Ok(Glib {
            context: MainContext::default(),
            source: Some(source),
            guest,
        })
    }
}

impl Host for Glib {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        while !done.get() {
            self.guest.pass();
            self.context.iteration(true);
        }
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        glib::idle_add_local_once(event);
    }
}

/// The descriptor must be removed from the context before it is closed.
impl Drop for Glib {
    fn drop(&mut self) {
        self.source.take().into_iter().for_each(SourceId::remove);
    }
}
