//! A view into a running program. It shows what a stalled thread does, and where.
//!
//! The module `outside` reads the runtimes of a process from its memory, also from another process
//! or a core file.

pub(crate) mod loops;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod outside;
mod root;
#[cfg(target_os = "linux")]
pub(crate) mod system_call;
pub(crate) mod thread_state;
pub(crate) mod stack;
