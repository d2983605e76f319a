//! A view into a running program. It shows what a stalled thread does, and where.
//!
//! [`thread_state`] classifies the activity of a thread, and [`stack`] captures its stack.

pub(crate) mod loops;
pub(crate) mod system_call;
pub(crate) mod thread_state;
pub(crate) mod stack;
pub(crate) mod wait_point;
