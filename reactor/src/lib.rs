//! The reactor.
mod block_on;
mod io;
pub mod net;
mod reactor;
mod readiness;
mod rest;
mod source;
pub mod time;
mod timers;
mod wait;

pub use block_on::block_on;
pub use io::Async;
pub use reactor::{Awake, Reactor, Turned};
pub use readiness::{Readable, Writable};
