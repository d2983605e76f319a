//! A view into a running program: its metrics, and what a stalled thread does.
//!
//! [`thread_state`] classifies the activity of a thread, and [`stack`] captures its stack.

pub(crate) mod loops;
mod metrics;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod outside;
mod poll_times;
mod prometheus;
mod root;
mod serve;
pub(crate) mod system_call;
pub(crate) mod thread_counters;
pub(crate) mod thread_state;
pub(crate) mod stack;

pub use metrics::{Metrics, SystemCalls, metrics};
pub use poll_times::{PollTimes, sample_polls};
pub(crate) use prometheus::write_all;
pub use serve::{Server, ServerBuilder, serve};
