//! A view into a running program. It shows what a stalled thread does, and where.
//!
//! [`watch`] starts a watchdog, which reports stalls of the loops while they last. The environment
//! variable `WINDLASS_WATCH=50ms` starts it in any program.
//!
//! ```text
//! windlass: task 12 "parser", spawned at src/main.rs:40:9, has blocked the loop of thread main for
//! 50 ms: on the CPU for 49 of 50 ms; 1,204 other tasks wait
//! ```

pub(crate) mod loops;
#[cfg(target_os = "linux")]
pub(crate) mod proc_file;
pub(crate) mod report;
mod sampler;
pub(crate) mod stack;
mod stall;
#[cfg(target_os = "linux")]
pub(crate) mod system_call;
mod thread_notifier;
pub(crate) mod thread_state;
pub(crate) mod watchdog;

pub use stack::{Frame, Stack};
pub use stall::{Phase, Stall, StalledTask};
pub use thread_state::Activity;
pub use watchdog::{Watchdog, WatchdogBuilder, watch};
pub use windlass_executor::TaskId;
