//! windlass: a single-threaded async runtime made to be embedded.
mod remote;
mod runtime;

pub use remote::{Remote, RemoteError, RemoteTask};
pub use runtime::{Runtime, Turn};
pub use windlass_executor::{Panic, Task, YieldNow, spawn, yield_now};
pub use windlass_reactor::{Async, Readable, Writable, net, time};

use std::future::Future;

/// Runs a future.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    match Runtime::new() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("can't start a runtime: {error}"),
    }
}
