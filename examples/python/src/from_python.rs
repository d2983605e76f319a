//! An awaitable of Python that Rust awaits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::EventLoop;
use crate::to_python::CONTEXT;

/// Starts a coroutine, or another awaitable, on the event loop of the caller.
///
/// Its exception is the error of the returned future. If that is dropped before it completes, the
/// awaitable is cancelled, as if a coroutine that awaits it were cancelled.
pub fn from_python(awaitable: &Bound<'_, PyAny>) -> PyResult<FromPython> {
    let py = awaitable.py();
    static ENSURE_FUTURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ensure_future = ENSURE_FUTURE.import(py, "asyncio", "ensure_future")?;
    let event_loop = EventLoop::current(py)?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "loop"), event_loop.bind(py))?;
    let context = CONTEXT.try_with(|context| context.clone_ref(py));
    let future = match context {
        Some(context) => {
            let run = context.bind(py).getattr(intern!(py, "run"))?;
            run.call((ensure_future, awaitable), Some(&options))?
        }
        None => ensure_future.call((awaitable,), Some(&options))?,
    };
    Ok(FromPython {
        future: Some(future.unbind()),
        wake: None,
    })
}

/// The future of [`from_python`].
#[derive(Debug)]
pub struct FromPython {
    /// `None` after it has completed.
    future: Option<Py<PyAny>>,
    /// The callback at the end of the awaitable, after the first poll.
    wake: Option<Py<Wake>>,
}

impl Future for FromPython {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            let future = self
                .future
                .as_ref()
                .expect("it is not polled after completion");
            let future = future.bind(py).clone();
            match self.poll_in(&future, cx) {
                Ok(false) => Poll::Pending,
                Ok(true) => {
                    self.future = None;
                    let result = future.call_method0(intern!(py, "result"));
                    Poll::Ready(result.map(Bound::unbind))
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }
}

impl FromPython {
    /// Returns whether the awaitable is done. Otherwise its end wakes the task.
    fn poll_in(&mut self, future: &Bound<'_, PyAny>, cx: &Context<'_>) -> PyResult<bool> {
        let py = future.py();
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(true);
        }
        if let Some(wake) = &self.wake {
            wake.get().waker.register(cx.waker());
            return Ok(false);
        }
        let waker = AtomicWaker::new();
        waker.register(cx.waker());
        let wake = Py::new(py, Wake { waker })?;
        future.call_method1(intern!(py, "add_done_callback"), (&wake,))?;
        self.wake = Some(wake);
        Ok(false)
    }
}

impl Drop for FromPython {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else {
            return;
        };
        // After the end of the interpreter nothing can be cancelled.
        Python::try_attach(|py| {
            let future = future.into_bound(py);
            if let Err(error) = future.call_method0(intern!(py, "cancel")) {
                error.write_unraisable(py, Some(&future)); // the event loop is closed
            }
        });
    }
}

/// The callback at the end of an awaitable.
#[pyclass(frozen)]
#[derive(Debug)]
struct Wake {
    waker: AtomicWaker,
}

#[pymethods]
impl Wake {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        self.waker.wake();
    }
}
