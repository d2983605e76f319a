//! Channels and locks.

#[path = "../../executor/tests/common/mod.rs"]
mod common;
#[path = "../../executor/tests/common/deep.rs"]
mod deep;

mod broadcast;
mod cancel;
mod channels;
mod deep_drop;
mod locks;
mod model;
mod program;
mod reentry;
