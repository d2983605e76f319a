//! Node's event loop as a host of the checks in `examples/guests`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{anyhow, ensure};
use napi_sys as sys;
use windlass_guest_checks::{Guest, Host, check_by_name};

use crate::EventLoop;
use crate::js::{Env, Error, Local, napi};

/// `check(name)` runs a check on the event loop, and returns its result.
///
/// It must be called by the main script. Node runs this before it runs its loop, so that the check
/// can run the loop instead.
pub(crate) fn check(env: Env, args: &[Local]) -> Result<Local, Error> {
    let failed = |error| Error::new(format!("{error:#}"));
    let check = check_by_name(&env.to_string(args[0])?).map_err(failed)?;
    let host: Rc<dyn Host> = Rc::new(Node {
        event_loop: EventLoop::of(env)?,
        env,
        is_running: Cell::new(false),
    });
    let result = check(&host).map_err(failed)?;
    env.string(&result)
}

struct Node {
    event_loop: Rc<EventLoop>,
    env: Env,
    is_running: Cell<bool>,
}

impl Host for Node {
    fn guest(&self) -> &Guest {
        self.event_loop.guest()
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        ensure!(!self.is_running.replace(true), "`uv_run` is not reentrant");
        let _alive = self.event_loop.keep_alive();
        let mut event_loop = std::ptr::null_mut();
        napi!(self.env, napi_get_uv_event_loop(&mut event_loop))
            .map_err(|error| anyhow!("{error}"))?;
        while !done.get() {
            self.guest().pass();
            // SAFETY: it is the loop of this thread, and doesn't run.
            unsafe { sys::uv_run(event_loop, sys::uv_run_mode::UV_RUN_ONCE) };
        }
        self.is_running.set(false);
        Ok(())
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        let event = RefCell::new(Some(event));
        let called = || {
            let function = self.env.function_once(move |_, _| {
                if let Some(event) = event.take() {
                    event();
                }
                Ok(())
            })?;
            let set_immediate = self.env.global(c"setImmediate")?;
            self.env
                .call(self.env.undefined()?, set_immediate, &[function])
        };
        called().expect("`setImmediate` works");
    }
}
