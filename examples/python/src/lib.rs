//! windlass as a guest of Python's asyncio, on the thread of the event loop.
//!
//! Python awaits Rust futures, and Rust tasks await Python's coroutines. No second thread runs, and
//! the GIL is never handed over, because asyncio calls each turn of the runtime.
//!
//! | file | what to copy it for |
//! |---|---|
//! | `event_loop.rs` | a runtime per event loop, through `loop.add_reader` |
//! | `to_python.rs` | a Rust future that Python awaits |
//! | `from_python.rs` | an awaitable of Python that Rust awaits |
//!
//! `demo.rs` is a module that uses all of them. The tests run it.

mod event_loop;
mod to_python;
mod from_python;
mod demo;
mod host;
#[cfg(feature = "peer")]
mod peer;

pub use event_loop::EventLoop;
pub use from_python::{FromPython, from_python};
pub use to_python::to_python;

/// The module that Python imports.
#[pyo3::pymodule]
mod windlass_asyncio {
    #[pymodule_export]
    use super::demo::{
        Connection, busy, call, call_within, connect, detach_pending, fail, panic, pending, ready,
        sleep,
    };
    #[pymodule_export]
    use super::event_loop::{detach, detach_all, guests, turn};
    #[pymodule_export]
    use super::host::check;
    #[cfg(feature = "peer")]
    #[pymodule_export]
    use super::peer::{PeerConnection, peer_call, peer_connect, peer_ready};

    use pyo3::prelude::*;
    use pyo3::types::PyModule;

    /// Guests of loops that were never closed end before the interpreter does.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let atexit = module.py().import("atexit")?;
        atexit.call_method1("register", (module.getattr("detach_all")?,))?;
        Ok(())
    }
}
