//! Coroutines, with and without I/O between their yields.

#[path = "../../executor/tests/common/mod.rs"]
mod common;
#[path = "../../executor/tests/common/deep.rs"]
mod deep;
#[path = "../../executor/tests/common/large.rs"]
mod large;

mod coroutine;
mod deep_drop;
mod io;
mod large_futures;
mod model;
