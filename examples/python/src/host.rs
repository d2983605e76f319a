//! An event loop of Python as a host of the checks in `examples/guests`.

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use windlass_guest_checks::{Guest, Host, check_by_name};

use crate::EventLoop;
use crate::event_loop::turn;

/// Runs a check on the event loop and returns its result.
#[pyfunction]
pub(crate) fn check(event_loop: &Bound<'_, PyAny>, name: &str) -> PyResult<String> {
    let failed = |error| PyAssertionError::new_err(format!("{error:#}"));
    let check = check_by_name(name).map_err(failed)?;
    let attached = EventLoop::attach(event_loop)?;
    let descriptor = attached.guest().as_raw_fd();
    let run = Run::default();
    let reader = Reader(run.clone());
    event_loop.call_method1("add_reader", (descriptor, reader))?;
    let host: Rc<dyn Host> = Rc::new(Asyncio { attached, run });
    check(&host).map_err(failed)
}

struct Asyncio {
    attached: Rc<EventLoop>,
    run: Run,
}

/// The flag that ends the innermost run.
#[derive(Clone, Default)]
struct Run(Rc<RefCell<Option<Rc<Cell<bool>>>>>);

impl Run {
    fn is_done(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|done| done.get())
    }

    /// Stops the running event loop if the flag is set.
    fn stop_if_done(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_done() {
            let event_loop = EventLoop::current(py)?;
            event_loop.bind(py).call_method0("stop")?;
        }
        Ok(())
    }
}

impl Host for Asyncio {
    fn guest(&self) -> &Guest {
        self.attached.guest()
    }

    fn run(&self, done: &Rc<Cell<bool>>) -> anyhow::Result<()> {
        let outer = self.run.0.replace(Some(done.clone()));
        let result = Python::attach(|py| {
            let event_loop = self.attached.bind(py);
            // uvloop stops in the next run if it was stopped twice in this one.
            while !done.get() {
                event_loop.call_method0("run_forever")?;
            }
            PyResult::Ok(())
        });
        self.run.0.replace(outer);
        Ok(result?)
    }

    fn defer(&self, event: Box<dyn FnOnce()>) {
        let event = Event {
            event: Some(event),
            run: self.run.clone(),
        };
        let called = Python::attach(|py| {
            let event_loop = self.attached.bind(py);
            event_loop.call_method1("call_soon", (event,)).map(drop)
        });
        called.expect("the event loop is open");
    }
}

/// The reader of the descriptor. It takes the place of [`turn`], which it calls.
#[pyclass(unsendable)]
struct Reader(Run);

#[pymethods]
impl Reader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        turn()?;
        self.0.stop_if_done(py)
    }
}

/// An event of the host.
#[pyclass(unsendable)]
struct Event {
    event: Option<Box<dyn FnOnce()>>,
    run: Run,
}

#[pymethods]
impl Event {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let event = slf.borrow_mut().event.take();
        if let Some(event) = event {
            event();
        }
        slf.borrow().run.stop_if_done(slf.py())
    }
}
