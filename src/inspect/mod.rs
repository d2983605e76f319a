//! A view into a running program: its metrics, and what a stalled thread does.
//!
//! [`watch`] starts a watchdog, which reports stalls of the loops while they last. The environment
//! variable `WINDLASS_WATCH=50ms` starts it in any program.
//!
//! ```text
//! windlass: task 12 "parser", spawned at src/main.rs:40:9, has blocked the loop of thread main for
//! 50 ms: on the CPU for 49 of 50 ms; 1,204 other tasks wait
//! ```

pub(crate) mod loops;
mod metrics;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod outside;
mod poll_times;
#[cfg(target_os = "linux")]
pub(crate) mod proc_file;
mod prometheus;
pub(crate) mod report;
mod root;
mod sampler;
mod serve;
pub(crate) mod stack;
mod stall;
#[cfg(target_os = "linux")]
pub(crate) mod system_call;
pub(crate) mod thread_counters;
mod thread_notifier;
pub(crate) mod thread_state;
pub(crate) mod watchdog;

pub use metrics::{Metrics, SystemCalls, metrics};
pub use poll_times::{PollTimes, sample_polls};
pub(crate) use prometheus::write_all;
pub use serve::{Server, ServerBuilder, serve};
pub use stack::{Frame, Stack};
pub use stall::{Phase, Stall, StalledTask};
pub use thread_state::Activity;
pub use watchdog::{Watchdog, WatchdogBuilder, watch};
pub use windlass_executor::TaskId;
pub(crate) mod wait_point;
