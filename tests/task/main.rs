//! Groups, scopes, stop tokens and task-local values.

#[path = "../../executor/tests/common/mod.rs"]
mod common;
#[path = "../../executor/tests/common/deep.rs"]
mod deep;
#[path = "../../executor/tests/common/large.rs"]
mod large;

mod deep_drop;
mod group;
mod large_futures;
mod local;
mod names;
mod panic;
mod scope;
mod stop;
