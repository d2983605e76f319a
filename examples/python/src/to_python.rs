//! A Rust future that Python awaits.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use pyo3::IntoPyObjectExt;
use pyo3::intern;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use windlass::{Task, task_local};

use crate::EventLoop;

task_local! {
    /// The context variables of the code that created the future. `from_python` restores them.
    pub(crate) static CONTEXT: Py<PyAny>;
}

/// Spawns the future on the guest of the running event loop, and returns an `asyncio.Future` for
/// its result.
///
/// As with `create_task`, the future is first polled in the next iteration of the event loop. It
/// runs also if nothing awaits the `asyncio.Future`. A cancellation of the `asyncio.Future` drops
/// the Rust future in the next iteration. A panic becomes a `PanicException`.
///
/// Awaitables that the future starts have the context variables of the caller.
pub fn to_python<'py, F, T>(py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'a> IntoPyObject<'a> + 'static,
{
    let event_loop = EventLoop::current(py)?;
    let promise = event_loop.create_future(py)?;
    let settled = promise.clone().unbind();
    let context = current_context(py)?;
    let task = event_loop.guest().runtime().spawn(async move {
        let future = CONTEXT.scope(context, future);
        let outcome = AssertUnwindSafe(future).catch_unwind().await;
        Python::attach(|py| settle(settled.bind(py), outcome));
    });
    let done = Done { task: Some(task) };
    promise.call_method1(intern!(py, "add_done_callback"), (done,))?;
    Ok(promise)
}

/// Returns the context variables of the caller. A task has those of the code that created it, since
/// a turn has none.
fn current_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    if let Some(context) = CONTEXT.try_with(|context| context.clone_ref(py)) {
        return Ok(context);
    }
    static COPY_CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let copy_context = COPY_CONTEXT.import(py, "contextvars", "copy_context")?;
    copy_context.call0().map(Bound::unbind)
}

/// The callback at the end of the `asyncio.Future`. It drops the Rust future if that is pending.
#[pyclass(unsendable)]
struct Done {
    task: Option<Task<()>>,
}

#[pymethods]
impl Done {
    fn __call__(slf: &Bound<'_, Self>, _promise: &Bound<'_, PyAny>) {
        let task = slf.borrow_mut().task.take();
        drop(task); // runs user code, so the borrow has ended
    }
}

fn settle<T>(promise: &Bound<'_, PyAny>, outcome: Result<PyResult<T>, Box<dyn Any + Send>>)
where
    T: for<'a> IntoPyObject<'a>,
{
    let result = outcome.unwrap_or_else(|payload| Err(PanicException::new_err(message(payload))));
    let settled = settle_with(promise, result).or_else(|error| {
        // `StopIteration` is refused, for example.
        settle_with::<()>(promise, Err(error))
    });
    if let Err(error) = settled {
        error.write_unraisable(promise.py(), Some(promise));
    }
}

fn settle_with<T>(promise: &Bound<'_, PyAny>, result: PyResult<T>) -> PyResult<()>
where
    T: for<'a> IntoPyObject<'a>,
{
    let py = promise.py();
    if promise.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(()); // cancelled, and its callback has not been called yet
    }
    match result.and_then(|value| value.into_bound_py_any(py)) {
        Ok(value) => promise.call_method1(intern!(py, "set_result"), (value,))?,
        Err(error) => promise.call_method1(intern!(py, "set_exception"), (error,))?,
    };
    Ok(())
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(other) => other,
    };
    let text = payload.downcast_ref::<&str>();
    text.map_or("a panic without a message", |text| text)
        .to_owned()
}
