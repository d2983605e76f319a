//! The usual way for the benchmark: tokio on threads of its own, by `pyo3-async-runtimes`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::future_into_py;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Returns the value at the first poll.
#[pyfunction]
pub(crate) fn peer_ready<'py>(py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    future_into_py(py, async move { Ok(value) })
}

/// Calls the function in a Rust task, and awaits the awaitable that it returns.
#[pyfunction]
pub(crate) fn peer_call<'py>(py: Python<'py>, function: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let locals = pyo3_async_runtimes::tokio::get_current_locals(py)?;
    future_into_py(py, async move {
        let future = Python::attach(|py| {
            let awaitable = function.bind(py).call0()?;
            pyo3_async_runtimes::into_future_with_locals(&locals, awaitable)
        });
        future?.await
    })
}

/// Connects to a TCP server.
#[pyfunction]
pub(crate) fn peer_connect<'py>(
    py: Python<'py>,
    host: String,
    port: u16,
) -> PyResult<Bound<'py, PyAny>> {
    future_into_py(py, async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let stream = Arc::new(Mutex::new(stream));
        Ok(PeerConnection { stream })
    })
}

/// A TCP connection.
#[pyclass]
#[derive(Debug)]
pub(crate) struct PeerConnection {
    stream: Arc<Mutex<TcpStream>>,
}

#[pymethods]
impl PeerConnection {
    /// Sends the bytes, and returns as many from the peer.
    fn echo<'py>(&self, py: Python<'py>, mut bytes: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.stream.clone();
        future_into_py(py, async move {
            let mut stream = stream.lock().await;
            stream.write_all(&bytes).await?;
            stream.read_exact(&mut bytes).await?;
            Ok(bytes)
        })
    }
}
