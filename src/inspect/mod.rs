//! A view into a running program. It shows what a stalled thread does, and where.
//!
//! [`thread_state`] classifies the activity of a thread, and [`stack`] captures its stack.

pub(crate) mod loops;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod outside;
mod root;
pub(crate) mod system_call;
pub(crate) mod thread_state;
pub(crate) mod stack;
