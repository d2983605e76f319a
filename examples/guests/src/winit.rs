//! winit, which receives messages from other threads but watches no descriptors.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::Context;
use windlass::Runtime;
use winit::application::ApplicationHandler;
use winit::event::{StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::platform::run_on_demand::EventLoopExtRunOnDemand;
use winit::window::WindowId;

use crate::watcher::Watcher;
use crate::{Guest, Host};

/// The guest takes a turn when a message arrives or its deadline has passed.
pub struct Winit {
    event_loop: RefCell<EventLoop<Look>>,
    proxy: EventLoopProxy<Look>,
    guest: Guest,
    /// The guest must take a turn before the loop waits.
    due: Cell<bool>,
    /// Polls the guest's descriptor, so that it can use sockets.
    watcher: Option<Watcher>,
    deferred: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// The message that wakes the loop.
#[derive(Debug)]
pub enum Look {
    /// For the guest.
    AtTheGuest,
    /// For the host itself.
    AtTheDeferred,
}

impl Winit {
    /// The wake hook sends the messages. That needs no thread, and is sufficient for a guest with
    /// timers and wakes from other threads, but not for sockets.
    pub fn hooked() -> anyhow::Result<Winit> {
        let event_loop = EventLoop::with_user_event().build()?;
        let proxy = event_loop.create_proxy();
        let runtime = Runtime::builder()
            // Fails if the loop has ended.
            .on_wake(move || drop(proxy.send_event(Look::AtTheGuest)))
            .build()?;
        Ok(Winit::new(event_loop, runtime, None))
    }

    /// A thread that polls the descriptor sends the messages.
    pub fn watched() -> anyhow::Result<Winit> {
        let event_loop = EventLoop::with_user_event().build()?;
        let proxy = event_loop.create_proxy();
        let runtime = Runtime::new()?;
        let tell = move || drop(proxy.send_event(Look::AtTheGuest));
        let watcher = Watcher::new(&runtime, tell)?;
        Ok(Winit::new(event_loop, runtime, Some(watcher)))
    }

    fn new(event_loop: EventLoop<Look>, runtime: Runtime, watcher: Option<Watcher>) -> Winit {
        Winit {
            proxy: event_loop.create_proxy(),
            event_loop: RefCell::new(event_loop),
            guest: Guest::new(runtime),
            due: Cell::new(false),
            watcher,
            deferred: RefCell::default(),
        }
    }

    fn turn(&self) {
        self.guest.turn().expect("the poller works");
        if let Some(watcher) = &self.watcher {
            watcher.again();
        }
    }
}

impl Host for Winit {
    fn guest(&self) -> &Guest {
        &self.guest
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        let event_loop = self.event_loop.try_borrow_mut();
        let mut event_loop = event_loop.context("an `EventLoop` can't be run inside of itself")?;
        let mut app = App { host: self, done };
        Ok(event_loop.run_app_on_demand(&mut app)?)
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        self.deferred.borrow_mut().push(event);
        let _ = self.proxy.send_event(Look::AtTheDeferred);
    }

    fn serves_sockets(&self) -> bool {
        self.watcher.is_some()
    }
}

struct App<'a> {
    host: &'a Winit,
    done: &'a Cell<bool>,
}

impl ApplicationHandler<Look> for App<'_> {
    fn new_events(&mut self, _: &ActiveEventLoop, cause: StartCause) {
        if let StartCause::ResumeTimeReached { .. } = cause {
            self.host.due.set(true);
        }
    }

    fn user_event(&mut self, _: &ActiveEventLoop, look: Look) {
        if let Look::AtTheGuest = look {
            self.host.due.set(true);
        }
    }

    /// A turn may send a message, and winit handles messages until there are none left. So the turn
    /// runs here instead of in the handler.
    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        self.host.guest.pass();
        if self.host.due.take() {
            self.host.turn();
        }
        // Handles all deferred messages, because winit may deliver several in one iteration.
        // Messages that they send are handled in the next.
        let deferred = self.host.deferred.take();
        deferred.into_iter().for_each(|event| event());
        if self.done.get() {
            event_loop.exit();
        }
        // The watcher's descriptor also reports timers.
        let wait = match self.host.guest.runtime().next_deadline() {
            Some(deadline) if self.host.watcher.is_none() => ControlFlow::WaitUntil(deadline),
            _ => ControlFlow::Wait,
        };
        event_loop.set_control_flow(wait);
    }

    fn resumed(&mut self, _: &ActiveEventLoop) {}

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, _: WindowEvent) {}
}
