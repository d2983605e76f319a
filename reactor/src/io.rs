//! `Async<T>`: any descriptor, made asynchronous. Standard streams and pipes.
//!
//! Named pipes, terminals, and what else the poller can watch, are for [`Async`].
//!
//! [`copy`] takes all from one of these, or from a socket, to another.
//!
//! ```no_run
//! use windlass_reactor::{block_on, io::{copy, stdin, stdout}};
//!
//! // The program `cat`.
//! block_on(copy(stdin(), stdout()))?;
//! # Ok::<(), std::io::Error>(())
//! ```

pub use crate::async_io::Async;
pub use crate::copy::{Descriptor, copy, copy_bidirectional};
#[cfg(unix)]
pub use crate::pipe::pipe;
pub use crate::pipe::{PipeReader, PipeWriter};
pub use crate::stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};
