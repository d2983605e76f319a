//! The executor as a guest of a browser's event loop.
//!
//! It needs neither the reactor nor a crate for bindings. The module imports seven functions from
//! `page.js`, and exports five.
//!
//! | file | what to copy it for |
//! |---|---|
//! | `event_loop.rs` | the executor and its turns |
//! | `operation.rs` | a callback of the browser as a future: timers, events and promises |
//! | `page.js` | the other side of the imports and exports |
//!
//! `demo.rs` is a program that uses all of them. `check.sh` runs it in Chromium.

mod browser;
mod event_loop;
mod operation;
mod demo;

pub use event_loop::{spawn, turn};
pub use operation::{complete, fetch, next_event, room, sleep};

/// Starts the program. The page calls it once.
#[unsafe(no_mangle)]
pub extern "C" fn start() {
    spawn(demo::main());
}
