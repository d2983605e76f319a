//! Functions for Python that use the recipes.

use std::cell::RefCell;
use std::future::pending as never;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, select};
use pyo3::exceptions::{PyConnectionError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use windlass::net::TcpStream;
use windlass::{time, yield_now};

use crate::{EventLoop, from_python, to_python};

/// Returns the value at the first poll.
#[pyfunction]
pub(crate) fn ready<'py>(py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, async move { Ok(value) })
}

/// Sleeps on a timer of windlass.
#[pyfunction]
pub(crate) fn sleep<'py>(py: Python<'py>, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    to_python(py, async move {
        time::sleep(duration).await;
        Ok(none())
    })
}

/// What a function returns that returns nothing. A `()` would become an empty tuple.
fn none() -> Py<PyAny> {
    Python::attach(|py| py.None())
}

/// Yields this many times.
#[pyfunction]
pub(crate) fn busy<'py>(py: Python<'py>, times: usize) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, async move {
        for _ in 0..times {
            yield_now().await;
        }
        Ok(times)
    })
}

/// Raises the exception.
#[pyfunction]
pub(crate) fn fail<'py>(py: Python<'py>, error: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let error = PyErr::from_value(error);
    to_python(py, async move { Err::<(), _>(error) })
}

/// Panics at the second poll.
#[pyfunction]
pub(crate) fn panic<'py>(py: Python<'py>, message: String) -> PyResult<Bound<'py, PyAny>> {
    to_python::<_, ()>(py, async move {
        yield_now().await;
        panic!("{message}")
    })
}

/// Never completes. The function is called when the Rust future is dropped.
#[pyfunction]
pub(crate) fn pending<'py>(py: Python<'py>, on_drop: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let on_drop = OnDrop(on_drop);
    to_python(py, async move {
        let _on_drop = on_drop;
        never::<PyResult<()>>().await
    })
}

/// The same in a task that no Python code waits for.
#[pyfunction]
pub(crate) fn detach_pending(py: Python<'_>, on_drop: Py<PyAny>) -> PyResult<()> {
    let on_drop = OnDrop(on_drop);
    let event_loop = EventLoop::current(py)?;
    let task = event_loop.guest().runtime().spawn(async move {
        let _on_drop = on_drop;
        never::<()>().await
    });
    task.detach();
    Ok(())
}

struct OnDrop(Py<PyAny>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Err(error) = self.0.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Calls the function in a Rust task, and awaits the awaitable that it returns.
#[pyfunction]
pub(crate) fn call<'py>(py: Python<'py>, function: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, async move {
        yield_now().await; // so that it runs in the turn that the event loop calls
        Python::attach(|py| from_python(&function.bind(py).call0()?))?.await
    })
}

/// The same with a time limit, after which the awaitable is dropped.
#[pyfunction]
pub(crate) fn call_within<'py>(
    py: Python<'py>,
    seconds: f64,
    function: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, async move {
        let awaitable = Python::attach(|py| from_python(&function.bind(py).call0()?))?;
        select! {
            result = awaitable.fuse() => result,
            () = time::sleep(Duration::from_secs_f64(seconds)).fuse() => {
                Err(PyTimeoutError::new_err("the time limit has passed"))
            }
        }
    })
}

/// Connects to a TCP server.
#[pyfunction]
pub(crate) fn connect<'py>(
    py: Python<'py>,
    host: String,
    port: u16,
) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let stream = Rc::new(RefCell::new(Some(stream)));
        Ok(Connection { stream })
    })
}

/// A TCP connection.
#[pyclass(unsendable)]
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` during a request.
    stream: Rc<RefCell<Option<TcpStream>>>,
}

#[pymethods]
impl Connection {
    /// Sends the bytes, and returns as many from the peer.
    fn echo<'py>(&self, py: Python<'py>, mut bytes: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        let slot = self.stream.clone();
        let Some(mut stream) = slot.take() else {
            return Err(PyConnectionError::new_err("a request is in progress"));
        };
        to_python(py, async move {
            let result = async {
                stream.write_all(&bytes).await?;
                stream.read_exact(&mut bytes).await?;
                io::Result::Ok(())
            };
            result.await?;
            slot.replace(Some(stream));
            Ok(bytes)
        })
    }
}
