//! A runtime as the guest of an asyncio event loop.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use windlass::Runtime;
use windlass_guest_checks::Guest;

thread_local! {
    /// The event loops of this thread that have a guest.
    ///
    /// It has no destructor, because that would drop tasks without the GIL, and for a daemon thread
    /// after the end of the interpreter. A thread that ends with an open loop leaks its guest.
    static ATTACHED: ManuallyDrop<RefCell<Vec<Rc<EventLoop>>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
    /// The event loop of the guest that is in a turn.
    static TURNING: Cell<Option<Rc<EventLoop>>> = const { Cell::new(None) };
}

/// An event loop of Python and its guest.
///
/// The loop watches the guest's descriptor. On Linux it reports wakes, sockets and timers, so the
/// loop needs no timer of its own.
#[derive(Debug)]
pub struct EventLoop {
    event_loop: Py<PyAny>,
    create_future: Py<PyAny>,
    guest: Guest,
}

impl EventLoop {
    /// Returns the event loop of the caller. In a task it is the one of the guest that polls it,
    /// and otherwise the running one, which gets a guest at the first call.
    pub fn current(py: Python<'_>) -> PyResult<Rc<EventLoop>> {
        let turning = TURNING.take();
        TURNING.set(turning.clone());
        if let Some(turning) = turning {
            return Ok(turning);
        }
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let running = RUNNING.import(py, "asyncio", "get_running_loop")?.call0()?;
        let is_running = |attached: &&Rc<EventLoop>| attached.event_loop.is(&running);
        let found = all(|all| all.iter().find(is_running).cloned());
        match found {
            Some(found) => Ok(found),
            None => EventLoop::attach(&running),
        }
    }

    /// Adds a guest to an event loop of this thread.
    pub fn attach(event_loop: &Bound<'_, PyAny>) -> PyResult<Rc<EventLoop>> {
        let py = event_loop.py();
        drop_closed(py)?;
        let attached = Rc::new(EventLoop {
            event_loop: event_loop.clone().unbind(),
            create_future: event_loop.getattr("create_future")?.unbind(),
            guest: Guest::new(Runtime::new()?),
        });
        let turn = wrap_pyfunction!(turn, py)?;
        // In an empty context. Turns would otherwise run with the variables of the first caller.
        let context = py.import("contextvars")?.call_method0("Context")?;
        let add_reader = event_loop.getattr("add_reader")?;
        context.call_method1("run", (add_reader, attached.guest.as_raw_fd(), turn))?;
        all(|all| all.push(attached.clone()));
        detach_at_shutdown(event_loop)?;
        Ok(attached)
    }

    /// The guest.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The event loop as Python's object.
    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// Creates a future of asyncio.
    pub fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    /// Takes a turn, unless the caller is inside one.
    pub fn turn(self: &Rc<Self>) -> io::Result<()> {
        if self.guest.runtime().is_running() {
            return Ok(());
        }
        self.guest.pass();
        let _turning = Turning(TURNING.replace(Some(self.clone())));
        self.guest.turn().map(drop)
    }
}

/// Calls the closure with the event loops of this thread that have a guest.
fn all<R>(closure: impl FnOnce(&mut Vec<Rc<EventLoop>>) -> R) -> R {
    ATTACHED.with(|all| closure(&mut all.borrow_mut()))
}

/// Restores the event loop that was in a turn before.
struct Turning(Option<Rc<EventLoop>>);

impl Drop for Turning {
    fn drop(&mut self) {
        TURNING.set(self.0.take());
    }
}

/// Takes a turn of each guest on this thread. The guests share the reactor of the thread and its
/// descriptor, which stays readable while any of them has ready tasks.
#[pyfunction]
pub(crate) fn turn() -> PyResult<()> {
    for index in 0.. {
        // A turn may run Python code that attaches and detaches guests.
        let next = all(|all| all.get(index).cloned());
        match next {
            Some(event_loop) => event_loop.turn()?,
            None => break,
        }
    }
    Ok(())
}

/// Drops the guest of this event loop with its tasks.
#[pyfunction]
pub(crate) fn detach(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let removed = all(|all| {
        let index = all.iter().position(|one| one.event_loop.is(event_loop))?;
        Some(all.remove(index))
    });
    if let Some(removed) = removed {
        if !is_closed(event_loop)? {
            event_loop.call_method1("remove_reader", (removed.guest.as_raw_fd(),))?;
        }
    }
    Ok(())
}

/// Drops all guests of this thread.
#[pyfunction]
pub(crate) fn detach_all(py: Python<'_>) -> PyResult<()> {
    while let Some(last) = all(|all| all.last().cloned()) {
        detach(last.event_loop.bind(py))?;
    }
    Ok(())
}

/// Returns the number of guests of this thread.
#[pyfunction]
pub(crate) fn guests() -> usize {
    all(|all| all.len())
}

/// Drops the guests of loops that were closed without `shutdown_asyncgens`.
fn drop_closed(py: Python<'_>) -> PyResult<()> {
    for one in all(|all| all.clone()) {
        let event_loop = one.event_loop.bind(py);
        if is_closed(event_loop)? {
            detach(event_loop)?;
        }
    }
    Ok(())
}

fn is_closed(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    event_loop
        .call_method0(intern!(py, "is_closed"))?
        .is_truthy()
}

/// `asyncio.run` closes all asynchronous generators before it closes the loop. This one detaches
/// the guest when it is closed. The loop has only a weak reference to it.
fn detach_at_shutdown(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    if !event_loop.call_method0("is_running")?.is_truthy()? {
        return Ok(()); // the hooks of the loop are set while it runs
    }
    let py = event_loop.py();
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        let code = c_str!(include_str!("detach_at_shutdown.py"));
        let name = c_str!("windlass_detach_at_shutdown");
        PyModule::from_code(py, code, name, name).map(Bound::unbind)
    })?;
    let detach = wrap_pyfunction!(detach, py)?;
    module
        .bind(py)
        .call_method1("detach_at_shutdown", (event_loop, detach))?;
    Ok(())
}
